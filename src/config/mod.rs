//! The settings: read from the environment once, whole, before anything starts.
//!
//! The only module that reads the environment. Nothing below imports it; the composition root hands each module its
//! part. Every fault is reported at once, relations between settings are checked here, and secrets are never printed.

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
    /// Where the API listens.
    pub listen_addr: SocketAddr,
    /// Where the metrics are served.
    pub metrics_addr: SocketAddr,
    /// An origin: scheme, host, port. `None`: that of the listener.
    pub public_url: Option<Url>,
    /// Proxies whose word about the address of their client is believed.
    pub trusted_proxies: Vec<IpNet>,
    pub channels: Channels,
    /// `None`: there is no browser push.
    pub browser_push: Option<BrowserPush>,
    pub queue: Queue,
    pub ingest: Ingest,
    pub limits: Limits,
    pub retention_days: u32,
    pub schedules: Schedules,
    /// `None` only with the embedded server, which keeps its keyring in its data directory.
    pub encryption_keys: Option<Arc<Keyring>>,
    /// Root certificates to trust in addition to the public ones, for the operator's own URLs.
    pub operator_ca_certificates: Vec<CertificateDer<'static>>,
    /// `None`: there are no portal users.
    pub users: Option<UserTokens>,
    /// Whom the portal's sign-in page offers to be, as JSON: no setting sets it, only the demonstration does.
    pub sign_in_choices: Option<String>,
    /// How long a stop waits for attempts in flight.
    pub shutdown_grace: Duration,
    pub log: logging::Settings,
    /// `None`: traces are not exported.
    pub traces: Option<Traces>,
}

/// Where the data is.
#[derive(Debug, Clone)]
pub enum Database {
    /// A server that somebody else runs.
    External {
        url: DatabaseUrl,
        /// A direct connection, past any pooler.
        listen_url: Option<DatabaseUrl>,
        max_connections: u32,
    },
    /// A private server that this binary runs.
    Embedded { data_dir: PathBuf, max_connections: u32 },
}

/// Whose tokens are believed, of the portal's users.
#[derive(Debug, Clone)]
pub struct UserTokens {
    pub keys: UserTokenKeys,
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

/// Where the keys of their tokens are.
#[derive(Debug, Clone)]
pub enum UserTokenKeys {
    /// A secret or a public key.
    One(Key),
    /// Where the identity provider publishes its keys.
    Jwks(Url),
}

/// What the senders may do.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Reachable besides the public internet.
    pub allowed_networks: Vec<IpNet>,
    /// Never reachable.
    pub denied_networks: Vec<IpNet>,
    /// Empty: those of the system.
    pub name_servers: Vec<SocketAddr>,
    pub allow_http: bool,
    /// The deadline where a push config names none.
    pub webhook_timeout: Duration,
    /// Root certificates to trust in addition to the public ones, for the destinations of tenants.
    pub ca_certificates: Vec<CertificateDer<'static>>,
}

/// Who we are to push services, and which ones there are.
#[derive(Debug, Clone)]
pub struct BrowserPush {
    /// What new subscriptions are made with.
    pub key: VapidKey,
    /// What earlier ones were made with.
    pub retired_keys: Vec<VapidKey>,
    /// How push services reach the operator: a `mailto:` or an `https:` URI.
    pub subject: String,
    /// Push services besides the vendors'.
    pub hosts: Vec<PushHost>,
    /// How long a push service keeps a message for a browser that is away.
    pub ttl: Duration,
}

/// How much is delivered at once, and when a worker counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Attempts at once, per process and channel.
    pub max_in_flight: u32,
    /// Attempts at once, per process and endpoint; `None`: a third.
    pub endpoint_max_in_flight: Option<u32>,
    /// How long a silent worker is trusted.
    pub lease: Duration,
}

/// How events are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingest {
    /// Events that may wait for their transaction.
    pub queue_events: usize,
    /// How long a delivery may wait where its event does not say.
    pub expires: Duration,
}

/// Where traces go, and which.
#[derive(Debug, Clone)]
pub struct Traces {
    pub url: Url,
    /// Their values are marked as sensitive.
    pub headers: HeaderMap,
    /// What is said of this process, its service's name first.
    pub resource: Vec<(String, String)>,
    pub share: Share,
}

/// When operations are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedules {
    pub retention: Schedule,
    pub workspace_repair: Schedule,
    pub subscription_pruning: Schedule,
    pub rollup: Schedule,
    pub reencryption: Schedule,
}

/// What a request may carry, and how many may stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub event_bytes: usize,
    pub batch_bytes: usize,
    pub batch_events: usize,
    /// Per tenant and process; `None`: no limit.
    pub tenant_events_per_second: Option<NonZeroU32>,
    /// Streams at once, per process.
    pub streams: usize,
    /// Streams at once, per process and caller.
    pub caller_streams: usize,
}

impl Config {
    /// Reads this process's environment.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    pub fn from_env() -> Result<Self, ConfigErrors> {
        // A value that is not UTF-8 keeps its place with U+FFFD in it; the rule of its setting then refuses it.
        Self::from_vars(
            std::env::vars_os()
                .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())),
        )
    }

    /// Every setting as the environment has it: `NAME=value`, a line each; of a secret only whether it is set.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    pub fn in_force() -> String {
        SETTINGS.iter().map(|setting| setting.in_force(std::env::var(setting.name).ok()) + "\n").collect()
    }

    /// Reads settings from the given variables; besides them only the files that they name.
    pub fn from_vars(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        parse::config(variables)
    }
}

#[cfg(test)]
mod tests;
