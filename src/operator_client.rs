//! The HTTP client for URLs that the operator names: the identity provider's keys, the collector of traces.
//!
//! They may lead into a private network, where such services often are: the guarded client of the channels, which is for
//! the URLs of tenants, would refuse them, and to open that network to it would open it to webhooks. What keeps a client
//! of this kind safe is that it goes to one URL alone: no redirects, no proxy, one deadline.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{ClientBuilder, redirect, retry};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

const USER_AGENT: &str = concat!("flametree-notify/", env!("CARGO_PKG_VERSION"));

/// `extra_roots` are trusted besides the public certificate authorities; `deadline` spans a whole exchange.
#[expect(clippy::disallowed_methods, reason = "the guarded client is for the URLs of tenants; see above")]
pub fn builder(extra_roots: &[CertificateDer<'static>], deadline: Duration) -> Result<ClientBuilder, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra_roots {
        roots.add(root.clone())?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .timeout(deadline))
}
