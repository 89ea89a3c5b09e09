//! Ways to an endpoint: one message, one attempt, one outcome.
//!
//! A channel is given everything that it sends and needs no database, queue or environment. Whatever goes wrong is an
//! [`Outcome`](crate::domain::delivery::Outcome), never an error. Every request of every channel leaves through
//! [`HttpClient`], which decides where messages may go.

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

/// Longest deadline that an endpoint may have.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// How every message introduces itself.
pub const USER_AGENT: &str = concat!("flametree-notify/", env!("CARGO_PKG_VERSION"));

/// What the operator decides about sending.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Networks that may be reached besides the public internet.
    pub allowed_networks: Vec<IpNet>,
    /// Networks that are never reached, also if they are public or allowed.
    pub denied_networks: Vec<IpNet>,
    /// Who is asked for the addresses of names; empty: the name servers of the system.
    pub name_servers: Vec<SocketAddr>,
    /// How many names this client looks up at once.
    pub lookups: LookupLimits,
    /// Whether messages may go over plain `http`.
    pub allow_http: bool,
    /// The deadline of an attempt where its endpoint names none; also of the check of a URL when it is saved.
    pub default_timeout: Duration,
    /// Certificate authorities that are trusted besides the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
}
