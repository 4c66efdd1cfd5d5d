//! Talking to the server.

use super::CliError;
use super::answers::{Cluster, Problem};
use reqwest::{Method, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error;
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_mins(1); // a command is answered when it is durable

/// A connection to one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    /// Whether `cotton local` wrote the address down on this machine.
    is_own: bool,
}

impl Client {
    pub(super) fn new(url: &str, is_own: bool) -> Result<Self, CliError> {
        let builder = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(10));
        let speaks_tls = url.starts_with("https:");
        #[cfg(feature = "tls")]
        // without TLS, a machine needs no certificates of authorities
        let builder = if speaks_tls { builder } else { builder.tls_certs_only([]) };
        #[cfg(not(feature = "tls"))]
        if speaks_tls {
            return Err(CliError::Failed(format!("this program was built without TLS, and cannot reach {url}")));
        }
        let http = builder.build().map_err(|error| CliError::failed("could not start an HTTP client", error))?;
        Ok(Self { http, url: url.to_owned(), is_own })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) const fn is_own(&self) -> bool {
        self.is_own
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, CliError> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).timeout(ANSWER_TIMEOUT);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let response = self.accepted(response).await?;
        response.json().await.map_err(|error| self.unreachable(&error))
    }

    /// An answer that does not end.
    pub(super) async fn stream(&self, path: &str) -> Result<Response, CliError> {
        let request = self.http.get(format!("{}{path}", self.url));
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        self.accepted(response).await
    }

    pub(super) async fn cluster(&self, name: &str) -> Result<Cluster, CliError> {
        parse(self.get(&cluster_path(name)).await?)
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = error.to_string(); // the innermost says it best
            cause = error.source();
        }
        CliError::Unreachable(format!("no answer from the server at {}: {text}: is it running?", self.url))
    }

    async fn accepted(&self, response: Response) -> Result<Response, CliError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        Err(match serde_json::from_str(&text) {
            Ok(Problem { code, detail }) => CliError::Refused { code, detail },
            Err(_) => CliError::Failed(format!("the server at {} is no cotton: it answered {status}", self.url)),
        })
    }
}

/// The route of a cluster; whatever the name, it stays one segment of it.
pub(super) fn cluster_path(name: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/api/v1/clusters/{}", encoded.replace('+', "%20").replace('.', "%2E"))
}

pub(super) fn parse<T: DeserializeOwned>(value: Value) -> Result<T, CliError> {
    serde_json::from_value(value).map_err(|error| CliError::failed("the server's answer is not understood", error))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_stay_in_their_segment() {
        assert_eq!(super::cluster_path("a-b"), "/api/v1/clusters/a-b");
        assert_eq!(super::cluster_path("../x y?#"), "/api/v1/clusters/%2E%2E%2Fx%20y%3F%23");
    }
}
