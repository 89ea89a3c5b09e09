//! Channels send messages to endpoints. Each call makes one attempt to send one message, and returns one outcome.
//!
//! The caller passes all data of a message, so a channel needs no database, queue or environment. Every failure is an
//! [`Outcome`](crate::domain::delivery::Outcome), never an error. All channels send with [`HttpClient`]. It decides whether
//! an address is allowed.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;

pub mod address;
pub mod browser_push;
mod classify;
mod connections;
mod connector;
mod guard;
mod http_client;
mod measured;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod redact;
#[cfg(test)]
mod redact_properties;
mod resolver;
mod target;
pub mod webhook;

pub use http_client::{BuildError, HttpClient};
pub use measured::Timings;
pub use redact::Redactor;
pub use resolver::{Found, Lookup, LookupError, LookupLimits, VetError};
pub use target::Target;

/// The maximum timeout that can be configured for an endpoint.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// The `User-Agent` of every message.
pub const USER_AGENT: &str = concat!("flametree-notify/", env!("CARGO_PKG_VERSION"));

/// Operator settings for sending.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Networks that are allowed in addition to the public internet.
    pub allowed_networks: Vec<IpNet>,
    /// Networks to which no message is sent, even if the networks are public or allowed.
    pub denied_networks: Vec<IpNet>,
    /// The name servers to query; if empty, the name servers of the operating system.
    pub name_servers: Vec<SocketAddr>,
    /// How many host names this client resolves at once.
    pub lookups: LookupLimits,
    /// Whether messages may be sent over plain `http`.
    pub allow_http: bool,
    /// The deadline of attempts whose endpoint has no timeout, and of the URL check when a push config is saved.
    pub default_timeout: Duration,
    /// Certificate authorities that are trusted in addition to the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
}
