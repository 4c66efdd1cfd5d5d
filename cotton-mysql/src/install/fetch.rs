//! Gets an archive from a web server into a file, never whole in memory.

use super::digest::{Digest, Hasher};
use super::{InstallError, Limits, Source};
use reqwest::Client;
use std::path::Path;
use tokio::io::AsyncWriteExt;
use url::Url;

const REDIRECTS_MAX: usize = 5;

/// Gives the checksum of what was written to `to`, which must not exist.
pub(super) async fn fetch(url: &Url, to: &Path, limits: &Limits) -> Result<Digest, InstallError> {
    let source_name = || Source::Web(url.clone()).to_string();
    // the address could hold a secret
    let failed =
        |error: reqwest::Error| InstallError::Fetch { source_name: source_name(), source: error.without_url() };
    let builder = || {
        let redirects = reqwest::redirect::Policy::limited(REDIRECTS_MAX);
        Client::builder().connect_timeout(limits.connect).read_timeout(limits.stall).redirect(redirects)
    };
    let client = builder().build();
    #[cfg(feature = "tls")]
    // a machine without certificates of authorities can still do without TLS
    let client = if client.is_err() && url.scheme() == "http" { trusting_nobody(builder()).build() } else { client };
    #[cfg(not(feature = "tls"))]
    if url.scheme() == "https" {
        return Err(InstallError::NoTls { source_name: source_name() });
    }
    let mut response = client.map_err(failed)?.get(url.clone()).send().await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        return Err(InstallError::Refused { source_name: source_name(), status: status.as_u16() });
    }
    let too_large = || InstallError::TooLarge {
        source_name: source_name(),
        what: format!("has more than {} bytes", limits.archive_bytes),
    };
    if response.content_length().is_some_and(|bytes| bytes > limits.archive_bytes) {
        return Err(too_large());
    }
    let write = |error| InstallError::file("write", to, error);
    let mut file = tokio::fs::File::create_new(to).await.map_err(write)?;
    let (mut hasher, mut bytes) = (Hasher::default(), 0);
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes += chunk.len() as u64;
        if bytes > limits.archive_bytes {
            return Err(too_large());
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(write)?;
    }
    file.flush().await.map_err(write)?;
    Ok(hasher.finish())
}

#[cfg(feature = "tls")]
fn trusting_nobody(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder.tls_certs_only([])
}
