//! The settings of the API.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::workspace;

/// Maximum number of concurrent tests in this process. A single tenant may run at most half of these tests.
pub(super) const MAX_CONCURRENT_TESTS: usize = 32;
/// Maximum number of concurrent renewals in this process. Renewals need no token, so this maximum limits the total size of
/// their bodies to 2 MiB.
pub(super) const MAX_CONCURRENT_RENEWALS: usize = 256;

/// The limits of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Maximum size of a posted event, in bytes.
    pub event_body_bytes: usize,
    /// Maximum size of a batch, in bytes.
    pub batch_body_bytes: usize,
    /// Maximum number of events in a batch.
    pub batch_events: usize,
    /// Maximum number of events per second and tenant; `None` sets no limit.
    pub tenant_events_per_second: Option<NonZeroU32>,
    /// Maximum number of wrong credentials per address in ten seconds. Further wrong credentials get 429.
    pub wrong_credentials: u32,
    /// Proxies whose reports of client addresses are trusted.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Maximum size of a request's path and headers, in bytes.
    pub head_bytes: usize,
    /// The number of days for which events and deliveries are kept.
    pub retention_days: u32,
    /// How long a replayed delivery may wait to be sent.
    pub replay_expires: Duration,
    /// Timeout for the head of a request to arrive, and for idle connections.
    pub head_timeout: Duration,
    /// Timeout from the head of a request to its response.
    pub request_timeout: Duration,
    /// Timeout for the body of a request to arrive.
    pub body_timeout: Duration,
    /// Timeout for a client to read more of its response.
    pub write_timeout: Duration,
    /// Timeout for open requests when the process stops.
    pub drain_timeout: Duration,
    /// Maximum number of connections. Some connections over the limit get 503.
    pub max_connections: usize,
    /// Users that the portal's sign-in page offers, as JSON; `Some` only in a demonstration.
    pub sign_in_choices: Option<String>,
    /// The hosts, with ports, that requests may name. If empty, requests may name any host. Set only in a demonstration.
    pub own_hosts: Arc<[String]>,
    /// The origin under which callers reach the API; `None` leaves it out of the OpenAPI document.
    pub public_url: Option<Url>,
    /// The limits of operator workspace streams; each stream uses a connection.
    pub workspace: workspace::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            event_body_bytes: 64 * 1024,
            batch_body_bytes: 1024 * 1024,
            batch_events: 500,
            tenant_events_per_second: None,
            wrong_credentials: 100,
            trusted_proxies: Arc::default(),
            head_bytes: 16 * 1024,
            retention_days: 30,
            replay_expires: Duration::from_hours(24),
            head_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(20),
            max_connections: 20_000,
            sign_in_choices: None,
            own_hosts: Arc::default(),
            public_url: None,
            workspace: workspace::Settings::default(),
        }
    }
}
