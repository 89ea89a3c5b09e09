//! The HTTP client for URLs from the settings: those of the identity provider's keys and of the trace collector.
//!
//! These URLs may be in a private network. The client for tenants' URLs blocks private networks, and an exception in that
//! client would also apply to webhooks. The client of this module follows no redirects and uses no proxy, so it sends only
//! to the configured URL.

use std::time::Duration;

use reqwest::{ClientBuilder, redirect, retry};
use rustls::pki_types::CertificateDer;

use crate::tls;

const USER_AGENT: &str = concat!("flametree-notify/", env!("CARGO_PKG_VERSION"));

/// Trusts `extra_roots` in addition to the public certificate authorities. `deadline` includes DNS and the whole response.
#[expect(clippy::disallowed_methods, reason = "the channels' client, for tenants' URLs, blocks private networks")]
pub fn builder(extra_roots: &[CertificateDer<'static>], deadline: Duration) -> Result<ClientBuilder, rustls::Error> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(extra_roots)?)
        .user_agent(USER_AGENT)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .timeout(deadline))
}
