//! Calls to a master: HTTP, with or without TLS, with or without authentication.

use super::config::SchedulerConfig;
use super::detector::parse_address;
use super::error::SchedulerError;
use crate::error::beginning;
use crate::wire::scheduler::call::Call;
use crate::wire::scheduler::{PATH, STREAM_ID};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cotton_core::Endpoint;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Where operators make calls.
const OPERATOR_PATH: &str = "/api/v1";

/// Makes calls.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    scheme: &'static str,
    authorization: Option<HeaderValue>,
    principal: Option<String>,
    call_timeout: Duration,
}

/// What a master answered to a call that it did not take.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It certainly did not take it.
    NotTaken(SchedulerError),
    /// It may have taken it.
    Unknown(SchedulerError),
}

impl Client {
    pub(super) fn new(config: &SchedulerConfig) -> Result<Self, SchedulerError> {
        let authorization = match &config.credential {
            None => None,
            Some(credential) if credential.principal.contains(':') => return Err(SchedulerError::Principal),
            Some(credential) => {
                let pair = format!("{}:{}", credential.principal, credential.secret.expose_secret());
                let header = format!("Basic {}", STANDARD.encode(pair));
                let mut value = HeaderValue::from_str(&header).expect("base64 is ASCII");
                value.set_sensitive(true);
                Some(value)
            }
        };
        let builder = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(config.call_timeout)
            .pool_max_idle_per_host(1)
            .tcp_keepalive(Duration::from_secs(15));
        #[cfg(feature = "tls")]
        let (builder, scheme) = match &config.ca_file {
            Some(path) => (builder.tls_certs_only(super::tls::authorities(path)?).https_only(true), "https"),
            None => (builder.tls_certs_only([]), "http"),
        };
        #[cfg(not(feature = "tls"))]
        let scheme = "http";
        let http = builder.build().map_err(|error| SchedulerError::http("make a client", error))?;
        let principal = config.credential.as_ref().map(|credential| credential.principal.clone());
        Ok(Self { http, scheme, authorization, principal, call_timeout: config.call_timeout })
    }

    /// Subscribes. Gives the response, whose body are the events, and its stream id.
    pub(super) async fn subscribe(
        &self,
        master: &Endpoint,
        call: &Call,
    ) -> Result<(Response, HeaderValue), SchedulerError> {
        let sent = timeout(self.call_timeout, self.request(master, call, None).send()).await;
        let response = match sent {
            Err(_) => return Err(SchedulerError::Silent),
            Ok(Err(error)) => return Err(SchedulerError::unanswered(self.scheme, error)),
            Ok(Ok(response)) => response,
        };
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let stream_id = response.headers().get(STREAM_ID).cloned();
        let stream_id = stream_id.ok_or(SchedulerError::NotAMaster("there is no Mesos-Stream-Id in its answer"))?;
        Ok((response, stream_id))
    }

    /// Makes any other call.
    pub(super) async fn call(&self, master: &Endpoint, stream_id: &HeaderValue, call: &Call) -> Result<(), Refusal> {
        let exchange = async {
            let response = match self.request(master, call, Some(stream_id)).send().await {
                Ok(response) => response,
                Err(error) if error.is_connect() => {
                    return Err(Refusal::NotTaken(SchedulerError::http("connect to the master", error)));
                }
                Err(error) => return Err(Refusal::Unknown(SchedulerError::http("call the master", error))),
            };
            if !response.status().is_success() {
                return Err(Refusal::NotTaken(self.refused(response).await));
            }
            // Read to the end, so that the connection can be used again.
            let end = response.bytes().await;
            end.map(drop).map_err(|error| Refusal::Unknown(SchedulerError::http("call the master", error)))
        };
        timeout(self.call_timeout, exchange).await.unwrap_or(Err(Refusal::Unknown(SchedulerError::Silent)))
    }

    /// Asks the operator API something.
    pub(super) async fn operator(&self, master: &Endpoint, call: &Value) -> Result<Value, SchedulerError> {
        let failed = |error| SchedulerError::http("ask the master", error);
        let exchange = async {
            let response = self.post(master, OPERATOR_PATH, call).send().await.map_err(failed)?;
            if !response.status().is_success() {
                return Err(self.refused(response).await);
            }
            let body = response.bytes().await.map_err(failed)?;
            serde_json::from_slice(&body).map_err(|_| SchedulerError::NotAMaster("its answer is not JSON"))
        };
        timeout(self.call_timeout, exchange).await.unwrap_or(Err(SchedulerError::Silent))
    }

    fn request(&self, master: &Endpoint, call: &Call, stream_id: Option<&HeaderValue>) -> reqwest::RequestBuilder {
        let request = self.post(master, PATH, call);
        match stream_id {
            Some(stream_id) => request.header(STREAM_ID, stream_id.clone()),
            None => request,
        }
    }

    fn post(&self, master: &Endpoint, path: &str, call: &impl Serialize) -> reqwest::RequestBuilder {
        let json = serde_json::to_vec(call).expect("calls have only string keys");
        let Endpoint { host, port } = master;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        let url = format!("{}://{open}{host}{close}:{port}{path}", self.scheme);
        let mut request = self.http.post(url).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.header(ACCEPT, "application/json").body(json)
    }

    async fn refused(&self, response: Response) -> SchedulerError {
        let status = response.status();
        if status.is_redirection() {
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            return match redirect(location, self.scheme) {
                Some(master) => SchedulerError::Redirected(master),
                None => SchedulerError::Redirect(location.chars().take(200).collect()),
            };
        }
        let answer = beginning(response).await;
        match status {
            StatusCode::UNAUTHORIZED => SchedulerError::Denied { status, principal: self.principal.clone() },
            // What a master says to a call with the stream id of an earlier subscription, or of an earlier master.
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN
                if ["stream ID", "Framework cannot be found", "not subscribed"]
                    .iter()
                    .any(|sign| answer.contains(sign)) =>
            {
                SchedulerError::Stale(answer)
            }
            StatusCode::BAD_REQUEST => SchedulerError::Call(answer),
            status => SchedulerError::Status { status, answer },
        }
    }
}

impl Refusal {
    /// Whether the subscription is of no use any more.
    pub(super) fn ends_subscription(&self) -> bool {
        !matches!(self, Self::NotTaken(SchedulerError::Call(_)))
    }

    pub(super) fn error(&self) -> &SchedulerError {
        match self {
            Self::NotTaken(error) | Self::Unknown(error) => error,
        }
    }

    pub(super) fn into_error(self) -> SchedulerError {
        match self {
            Self::NotTaken(error) | Self::Unknown(error) => error,
        }
    }
}

/// Where a redirection leads: masters answer `//host:port/path`. Never from TLS to clear text.
fn redirect(location: &str, scheme: &str) -> Option<Endpoint> {
    let rest = match location.split_once("//")? {
        ("", rest) => rest,
        (before, rest) if before.strip_suffix(':') == Some(scheme) => rest,
        _ => return None,
    };
    parse_address(rest.split('/').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections() {
        let m = |host: &str, port| Some(Endpoint::new(host, port));
        for (location, scheme, expected) in [
            ("//10.0.0.1:5050/api/v1/scheduler", "http", m("10.0.0.1", 5050)),
            ("//10.0.0.1:5050/api/v1/scheduler", "https", m("10.0.0.1", 5050)),
            ("http://m:80", "http", m("m", 80)),
            ("https://[::1]:80/", "https", m("::1", 80)),
            ("http://m:80", "https", None),
            ("ftp://m:80", "http", None),
            ("/elsewhere", "http", None),
            ("//user@m/", "http", None),
            ("", "http", None),
        ] {
            assert_eq!(redirect(location, scheme), expected, "{location}");
        }
    }
}
