//! Asks the identity provider for its keys.
//!
//! The URL is the operator's word and may lead into a private network, where identity providers often are: the guarded
//! client of the channels, which is for the URLs of tenants, would refuse it, and to open that network to it would open
//! it to webhooks. What keeps this client safe is that it goes to this one URL: no redirects, no proxy, one deadline, a
//! bounded answer.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{StatusCode, redirect, retry};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::key_set::{KeySet, KeySetError};

/// Longest answer, in bytes. Sets with whole certificate chains have some twenty thousand.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
const USER_AGENT: &str = concat!("flametree-notify/", env!("CARGO_PKG_VERSION"));

/// Why the client could not be made; only at start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("TLS could not be set up, or a certificate authority of the settings is not valid")]
    Tls(#[from] rustls::Error),
    #[error("the HTTP client could not be set up")]
    Client(#[from] reqwest::Error),
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no whole answer came: {0}")]
    NoAnswer(reqwest::Error),
    #[error("the answer has the status {0}, not 200")]
    Status(StatusCode),
    #[error("the answer has more than {MAX_ANSWER_BYTES} bytes")]
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
        // An error's URL may hold a key of the provider's.
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

#[expect(clippy::disallowed_methods, reason = "the guarded client is for the URLs of tenants; see above")]
fn client(extra_roots: &[CertificateDer<'static>], deadline: Duration) -> Result<reqwest::Client, BuildError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra_roots {
        roots.add(root.clone())?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .timeout(deadline)
        // It is asked once in minutes.
        .pool_max_idle_per_host(0);
    Ok(builder.build()?)
}
