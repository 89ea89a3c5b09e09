//! The settings. The process reads all of them from the environment once, before it starts anything.
//!
//! Only this module reads the environment. It fills the `Settings` of the modules that it imports; the composition root passes
//! them on. All faults are reported at once, including contradictions between settings. Secrets are never
//! printed.

mod browser_push;
mod documents;
mod parse;
mod reader;
mod secret;
mod settings;
mod traces;
mod users;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

pub use self::documents::{example, table};
pub use self::reader::{ConfigErrors, ConfigFault};
pub use self::secret::DatabaseUrl;
use crate::secrets::Keyring;
use crate::telemetry::{self, logging};
use crate::worker::OperationSettings;
use crate::{channels, http, ingest, postgres, queue};

/// All settings of one process.
#[derive(Debug, Clone)]
pub struct Config {
    pub database: Database,
    /// The address where the API listens.
    pub listen_addr: SocketAddr,
    /// The address where the metrics are served.
    pub metrics_addr: SocketAddr,
    pub channels: channels::Settings,
    /// Settings for browser push; `None` if it is not configured.
    pub browser_push: Option<channels::browser_push::Settings>,
    pub queue: queue::Settings,
    pub ingest: ingest::Settings,
    pub http: http::Settings,
    pub operations: OperationSettings,
    /// The keys for stored secrets; `None` only with the embedded server, which keeps its keyring in its data directory.
    pub encryption_keys: Option<Arc<Keyring>>,
    /// Additional trusted root certificates for the operator's own URLs.
    pub operator_ca_certificates: Vec<CertificateDer<'static>>,
    /// Which tokens of portal users are accepted; `None` if there are no portal users.
    pub users: Option<crate::users::Settings>,
    /// How long a shutdown waits for attempts in flight.
    pub shutdown_grace: Duration,
    pub log: logging::Settings,
    /// Settings for the export of traces; `None` if they are not exported.
    pub traces: Option<telemetry::traces::Settings>,
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
    Embedded(postgres::Settings),
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
        settings::SETTINGS.iter().map(|setting| setting.in_force(std::env::var(setting.name).ok()) + "\n").collect()
    }

    /// Reads settings from the given variables and the files that they name.
    pub fn from_vars(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        parse::config(variables)
    }
}

#[cfg(test)]
mod tests;
