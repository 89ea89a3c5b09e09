//! Fetches the identity provider's keys from the URL in the settings. Limits the size of the response.

use std::time::Duration;

use reqwest::StatusCode;
use rustls::pki_types::CertificateDer;
use url::Url;

use super::key_set::{KeySet, KeySetError};
use crate::operator_client;

/// Maximum size of a response, in bytes. A JWK Set with full certificate chains has about 20,000 bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// The HTTP client could not be built. Happens only at the start of the process.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("TLS could not be set up, or a certificate authority in the settings is not valid")]
    Tls(#[from] rustls::Error),
    #[error("the HTTP client could not be set up")]
    Client(#[from] reqwest::Error),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no complete response arrived: {0}")]
    NoAnswer(reqwest::Error),
    #[error("the response has the status {0}, not 200")]
    Status(StatusCode),
    #[error("the response has more than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

#[derive(Debug)]
pub(super) struct Fetcher {
    client: reqwest::Client,
    url: Url,
}

impl Fetcher {
    pub(super) fn new(
        url: Url,
        extra_roots: &[CertificateDer<'static>],
        deadline: Duration,
    ) -> Result<Self, BuildError> {
        Ok(Self { client: client(extra_roots, deadline)?, url })
    }

    pub(super) async fn fetch(&self) -> Result<KeySet, FetchError> {
        // The URL in an error may contain a key.
        let no_answer = |error: reqwest::Error| FetchError::NoAnswer(error.without_url());
        let mut response = self.client.get(self.url.clone()).send().await.map_err(no_answer)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(KeySet::parse(&body)?)
    }
}

fn client(extra_roots: &[CertificateDer<'static>], deadline: Duration) -> Result<reqwest::Client, BuildError> {
    // A request every few minutes needs no idle connection.
    Ok(operator_client::builder(extra_roots, deadline)?.pool_max_idle_per_host(0).build()?)
}
