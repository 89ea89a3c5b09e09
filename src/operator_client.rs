//! The HTTP client for URLs in the settings: the identity provider's keys, the trace collector.
//!
//! These URLs may be in a private network. The channels' client for tenants' URLs would block them, and allowing that
//! network there would also allow it for webhooks. This client is safe because it sends to one URL only: no redirects, no
//! proxy, one deadline.

use std::time::Duration;

use reqwest::{ClientBuilder, redirect, retry};
use rustls::pki_types::CertificateDer;

use crate::tls;

const USER_AGENT: &str = concat!("flametree-notify/", env!("CARGO_PKG_VERSION"));

/// `extra_roots` are trusted in addition to the public certificate authorities; `deadline` covers a whole exchange.
#[expect(clippy::disallowed_methods, reason = "the channels' client is for tenants' URLs; see above")]
pub fn builder(extra_roots: &[CertificateDer<'static>], deadline: Duration) -> Result<ClientBuilder, rustls::Error> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(extra_roots)?)
        .user_agent(USER_AGENT)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .timeout(deadline))
}
