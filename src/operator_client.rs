//! The HTTP client for URLs that the operator names: the identity provider's keys, the collector of traces.
//!
//! They may lead into a private network, where such services often are: the guarded client of the channels, which is for
//! the URLs of tenants, would refuse them, and to open that network to it would open it to webhooks. What keeps a client
//! of this kind safe is that it goes to one URL alone: no redirects, no proxy, one deadline.

use std::time::Duration;

use reqwest::{ClientBuilder, redirect, retry};
use rustls::pki_types::CertificateDer;

use crate::tls;

const USER_AGENT: &str = concat!("flametree-notify/", env!("CARGO_PKG_VERSION"));

/// `extra_roots` are trusted besides the public certificate authorities; `deadline` spans a whole exchange.
#[expect(clippy::disallowed_methods, reason = "the guarded client is for the URLs of tenants; see above")]
pub fn builder(extra_roots: &[CertificateDer<'static>], deadline: Duration) -> Result<ClientBuilder, rustls::Error> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(extra_roots)?)
        .user_agent(USER_AGENT)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .timeout(deadline))
}
