//! The settings. The process reads all of them from the environment once, before it starts anything.
//!
//! Only this module reads the environment. Lower modules do not import it; the composition root passes each module its
//! settings. All faults are reported at once, including contradictions between settings. Secrets are never
//! printed.

mod browser_push;
mod parse;
mod reader;
mod secret;
mod settings;
mod traces;
mod users;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use url::Url;

pub use self::reader::{ConfigErrors, ConfigFault};
pub use self::secret::DatabaseUrl;
pub use self::settings::{SETTINGS, Setting, example};
use crate::channels::browser_push::VapidKey;
use crate::domain::push_hosts::PushHost;
use crate::domain::schedule::Schedule;
use crate::secrets::Keyring;
use crate::telemetry::logging;
use crate::telemetry::traces::Share;
use crate::users::Key;

/// All settings of one process.
#[derive(Debug, Clone)]
pub struct Config {
    pub database: Database,
    /// The address where the API listens.
    pub listen_addr: SocketAddr,
    /// The address where the metrics are served.
    pub metrics_addr: SocketAddr,
    /// The origin (scheme, host, port) at which users reach the service; `None` means the address of the listener.
    pub public_url: Option<Url>,
    /// Proxies whose forwarding headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    pub channels: Channels,
    /// Settings for browser push; `None` if it is not configured.
    pub browser_push: Option<BrowserPush>,
    pub queue: Queue,
    pub ingest: Ingest,
    pub limits: Limits,
    pub retention_days: u32,
    pub schedules: Schedules,
    /// The keys for stored secrets; `None` only with the embedded server, which keeps its keyring in its data directory.
    pub encryption_keys: Option<Arc<Keyring>>,
    /// Additional trusted root certificates for the operator's own URLs.
    pub operator_ca_certificates: Vec<CertificateDer<'static>>,
    /// Which tokens of portal users are accepted; `None` if there are no portal users.
    pub users: Option<UserTokens>,
    /// The users that the portal's sign-in page offers, as JSON; only the demonstration sets it.
    pub sign_in_choices: Option<String>,
    /// How long a shutdown waits for attempts in flight.
    pub shutdown_grace: Duration,
    pub log: logging::Settings,
    /// Settings for the export of traces; `None` if they are not exported.
    pub traces: Option<Traces>,
}

/// The PostgreSQL server that stores the data.
#[derive(Debug, Clone)]
pub enum Database {
    /// A PostgreSQL server that the operator runs.
    External {
        url: DatabaseUrl,
        /// The URL of a direct connection, without a pooler.
        listen_url: Option<DatabaseUrl>,
        max_connections: u32,
    },
    /// A private PostgreSQL server that this process runs.
    Embedded { data_dir: PathBuf, max_connections: u32 },
}

/// Which tokens of portal users the service accepts.
#[derive(Debug, Clone)]
pub struct UserTokens {
    pub keys: UserTokenKeys,
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

#[derive(Debug, Clone)]
pub enum UserTokenKeys {
    /// A secret or a public key.
    One(Key),
    /// The URL where the identity provider publishes its keys.
    Jwks(Url),
}

/// Settings for sending messages.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Networks that are allowed in addition to the public internet.
    pub allowed_networks: Vec<IpNet>,
    /// Networks that are never allowed.
    pub denied_networks: Vec<IpNet>,
    /// The name servers to query. If the list is empty, the system's name servers are used.
    pub name_servers: Vec<SocketAddr>,
    pub allow_http: bool,
    /// The deadline of an attempt if the push config sets no timeout.
    pub webhook_timeout: Duration,
    /// Additional trusted root certificates for the destinations of tenants.
    pub ca_certificates: Vec<CertificateDer<'static>>,
}

/// The VAPID identity of the deployment, and the push services that it allows.
#[derive(Debug, Clone)]
pub struct BrowserPush {
    /// The VAPID key for new subscriptions.
    pub key: VapidKey,
    /// The VAPID keys that older subscriptions use.
    pub retired_keys: Vec<VapidKey>,
    /// The operator's contact for push services: a `mailto:` or an `https:` URI.
    pub subject: String,
    /// Push services that are allowed in addition to the push services of browser vendors.
    pub hosts: Vec<PushHost>,
    /// How long a push service keeps a message for an offline browser.
    pub ttl: Duration,
}

/// The concurrency limits of deliveries, and the lease of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Maximum number of concurrent attempts per process and channel.
    pub max_in_flight: u32,
    /// Maximum number of concurrent attempts per process and endpoint; `None` means a third of `max_in_flight`.
    pub endpoint_max_in_flight: Option<u32>,
    /// How long a worker without a heartbeat counts as alive.
    pub lease: Duration,
}

/// Settings for accepting events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingest {
    /// Maximum number of events that wait for a transaction.
    pub queue_events: usize,
    /// How long a delivery may wait if its event does not specify a time.
    pub expires: Duration,
}

/// Where the service sends traces, and which traces it sends.
#[derive(Debug, Clone)]
pub struct Traces {
    pub url: Url,
    /// The header values are marked as sensitive.
    pub headers: HeaderMap,
    /// Resource attributes of this process, the service name first.
    pub resource: Vec<(String, String)>,
    pub share: Share,
}

/// When operations run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedules {
    pub retention: Schedule,
    pub workspace_repair: Schedule,
    pub subscription_pruning: Schedule,
    pub rollup: Schedule,
    pub reencryption: Schedule,
}

/// Limits of requests and streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub event_bytes: usize,
    pub batch_bytes: usize,
    pub batch_events: usize,
    /// Maximum number of events per second that a tenant may post to one process; `None` means no limit.
    pub tenant_events_per_second: Option<NonZeroU32>,
    /// Concurrent streams per process.
    pub streams: usize,
    /// Maximum number of concurrent streams per process and caller.
    pub caller_streams: usize,
}

impl Config {
    /// Reads this process's environment.
    #[expect(clippy::disallowed_methods, reason = "only these functions read the environment")]
    pub fn from_env() -> Result<Self, ConfigErrors> {
        // A value that is not UTF-8 contains U+FFFD after this conversion, so the parser of its setting rejects it.
        Self::from_vars(
            std::env::vars_os()
                .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())),
        )
    }

    /// Shows every setting in effect as `NAME=value`, one per line. For a secret, shows only whether it is set.
    #[expect(clippy::disallowed_methods, reason = "only these functions read the environment")]
    pub fn in_force() -> String {
        SETTINGS.iter().map(|setting| setting.in_force(std::env::var(setting.name).ok()) + "\n").collect()
    }

    /// Reads settings from the given variables and the files that they name.
    pub fn from_vars(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        parse::config(variables)
    }
}

#[cfg(test)]
mod tests;
