//! Builds `Config` from variables. A wrong value does not stop the reading, so that all faults are reported at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use super::browser_push::browser_push;
use super::reader::{ConfigErrors, Reader};
use super::settings::{
    self, DATA_DIR, DATABASE_LISTEN_URL, DATABASE_URL, ENCRYPTION_KEYS, LISTEN_ADDR, METRICS_ADDR, Setting,
};
use super::traces::traces;
use super::users::users;
use super::{Config, Database, DatabaseUrl};
use crate::channels::LookupLimits;
use crate::domain::operation::OperationKind;
use crate::domain::schedule::Schedule;
use crate::secrets::Keyring;
use crate::telemetry::logging;
use crate::worker::OperationSettings;
use crate::{channels, http, ingest, postgres, queue, tls};

/// The port of name servers (RFC 1035, section 4.2).
const DNS_PORT: u16 = 53;

/// The data directory if root runs the service. The server's user `postgres` cannot enter the home directory of root.
const ROOT_DATA_DIR: &str = "/var/lib/flametree-notify";

pub(super) fn config(variables: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigErrors> {
    let mut reader = Reader::new(variables);
    let config = read(&mut reader);
    match config {
        Some(config) if !reader.has_faults() => Ok(config),
        Some(_) | None => Err(reader.finish()),
    }
}

/// Reads all settings. After a fault, the returned settings are meaningless, or `None`.
fn read(reader: &mut Reader) -> Option<Config> {
    let database = database(reader);
    let listen_addr = address(reader, LISTEN_ADDR);
    let metrics_addr = address(reader, METRICS_ADDR);
    if listen_addr.port() != 0 && listen_addr == metrics_addr {
        reader.fault(METRICS_ADDR, format!("must not be the address of the API, {}", LISTEN_ADDR.name));
    }
    let public_url = reader.parsed(settings::PUBLIC_URL, origin);
    let trusted_proxies = reader.list(settings::TRUSTED_PROXIES, network).into();
    let encryption_keys = encryption_keys(reader);
    let operator_ca_certificates = ca_certificates(reader, settings::OPERATOR_CA_FILE);
    let users = users(reader, &operator_ca_certificates);
    let channels = channels(reader);
    let browser_push = browser_push(reader, channels.allow_http);
    let queue = queue(reader);
    let ingest = ingest(reader);
    let http = http::Settings { trusted_proxies, public_url, ..http(reader, &ingest) };
    Some(Config {
        listen_addr,
        metrics_addr,
        channels,
        browser_push,
        operations: operations(reader, &queue, &http),
        queue,
        ingest,
        http,
        encryption_keys,
        operator_ca_certificates,
        users,
        shutdown_grace: reader.duration(settings::SHUTDOWN_GRACE),
        log: log(reader),
        traces: traces(reader),
        // The last field, because the settings after it would not be read.
        database: database?,
    })
}

fn encryption_keys(reader: &mut Reader) -> Option<Arc<Keyring>> {
    let Some(text) = reader.secret(ENCRYPTION_KEYS) else {
        if reader.is_set(DATABASE_URL) {
            reader.fault(ENCRYPTION_KEYS, format!("must be set together with {}", DATABASE_URL.name));
        }
        return None;
    };
    let keyring = Keyring::parse(text.expose());
    keyring.map_err(|error| reader.fault(ENCRYPTION_KEYS, format!("is not a keyring: {error}"))).ok().map(Arc::new)
}

fn database(reader: &mut Reader) -> Option<Database> {
    let max_connections = reader.number(settings::DATABASE_MAX_CONNECTIONS);
    let url = reader.parsed(DATABASE_URL, DatabaseUrl::parse);
    let listen_url = reader.parsed(DATABASE_LISTEN_URL, DatabaseUrl::parse);
    if reader.is_set(DATABASE_URL) {
        return Some(Database::External { url: url?, listen_url, max_connections });
    }
    if reader.is_set(DATABASE_LISTEN_URL) {
        reader.fault(DATABASE_LISTEN_URL, format!("has no effect without {}", DATABASE_URL.name));
    }
    Some(Database::Embedded(postgres::Settings { data_dir: data_dir(reader)?, max_connections }))
}

fn data_dir(reader: &mut Reader) -> Option<PathBuf> {
    if reader.is_set(DATA_DIR) {
        return reader.parsed(DATA_DIR, |path| Some(PathBuf::from(path)).filter(|path| path.is_absolute()));
    }
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from(ROOT_DATA_DIR));
    }
    // https://specifications.freedesktop.org/basedir-spec: ignore relative paths.
    let user_data = reader.system_variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home_data = || reader.system_variable("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let directory = user_data.or_else(home_data).map(|data| data.join("flametree-notify"));
    if directory.is_none() {
        reader.fault(DATA_DIR, "must be set, because HOME is not");
    }
    directory
}

fn address(reader: &mut Reader, setting: Setting) -> SocketAddr {
    let address = reader.parsed(setting, |text| text.parse().ok());
    address.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into())
}

fn origin(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    (matches!(url.scheme(), "http" | "https") && bare && anonymous).then_some(url)
}

fn channels(reader: &mut Reader) -> channels::Settings {
    channels::Settings {
        allowed_networks: reader.list(settings::ALLOWED_NETWORKS, network),
        denied_networks: reader.list(settings::DENIED_NETWORKS, network),
        name_servers: reader.list(settings::NAME_SERVERS, name_server),
        lookups: LookupLimits::WORKERS,
        allow_http: reader.parsed(settings::ALLOW_HTTP, |text| text.parse().ok()).unwrap_or_default(),
        default_timeout: reader.duration(settings::WEBHOOK_TIMEOUT),
        extra_roots: ca_certificates(reader, settings::CA_FILE),
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok()
}

fn name_server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, DNS_PORT)))
}

/// Reads certificates from a PEM file. Each certificate must belong to a certificate authority. If one does not, the fault
/// contains the number of this certificate.
fn ca_certificates(reader: &mut Reader, setting: Setting) -> Vec<CertificateDer<'static>> {
    let Some(path) = reader.text(setting) else { return Vec::new() };
    let fault = match std::fs::read(&path) {
        Err(error) => format!("names a file that cannot be read, {path:?}: {error}"),
        Ok(pem) => {
            let found = CertificateDer::pem_slice_iter(&pem).map(|found| found.ok().filter(tls::is_root));
            let certificates: Vec<_> = found.collect();
            match certificates.iter().position(Option::is_none) {
                None if certificates.is_empty() => format!("names a file without a certificate in PEM form, {path:?}"),
                None => return certificates.into_iter().flatten().collect(),
                Some(at) => {
                    format!("names a file in which certificate {} is not a certificate authority, {path:?}", at + 1)
                }
            }
        }
    };
    reader.fault(setting, fault);
    Vec::new()
}

fn queue(reader: &mut Reader) -> queue::Settings {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let settings = queue::Settings {
        max_in_flight: reader.number(settings::MAX_IN_FLIGHT),
        endpoint_max_in_flight: reader.optional_number(settings::ENDPOINT_MAX_IN_FLIGHT),
        lease: reader.duration(settings::LEASE),
        description: format!("{host} {}", std::process::id()),
    };
    reader.at_most(settings::ENDPOINT_MAX_IN_FLIGHT, settings::MAX_IN_FLIGHT);
    settings
}

fn ingest(reader: &mut Reader) -> ingest::Settings {
    ingest::Settings {
        queue_events: reader.number(settings::INGEST_QUEUE_EVENTS),
        default_expiry: reader.duration(settings::EVENT_EXPIRES),
    }
}

fn http(reader: &mut Reader, ingest: &ingest::Settings) -> http::Settings {
    let defaults = http::Settings::default();
    let max_streams = reader.number(settings::MAX_STREAMS);
    let settings = http::Settings {
        event_body_bytes: reader.number(settings::EVENT_MAX_BYTES),
        batch_body_bytes: reader.number(settings::BATCH_MAX_BYTES),
        // A batch larger than the queue would always be rejected as overload.
        batch_events: ingest.queue_events.min(reader.number(settings::BATCH_MAX_EVENTS)),
        tenant_events_per_second: NonZeroU32::new(reader.number(settings::TENANT_EVENTS_PER_SECOND)),
        retention_days: reader.number(settings::RETENTION_DAYS),
        replay_expires: ingest.default_expiry,
        // Streams use connections in addition to the connections of requests.
        max_connections: defaults.max_connections - defaults.workspace.max_streams + max_streams,
        workspace: http::workspace::Settings {
            max_streams,
            max_streams_per_caller: reader.number(settings::CALLER_MAX_STREAMS),
            ..defaults.workspace
        },
        ..defaults
    };
    reader.at_least(settings::BATCH_MAX_BYTES, settings::EVENT_MAX_BYTES);
    if reader.is_set(settings::BATCH_MAX_EVENTS) {
        reader.at_most(settings::BATCH_MAX_EVENTS, settings::INGEST_QUEUE_EVENTS);
    }
    settings
}

fn operations(reader: &mut Reader, queue: &queue::Settings, http: &http::Settings) -> OperationSettings {
    let schedules = [
        (OperationKind::Retention, settings::RETENTION_SCHEDULE),
        (OperationKind::WorkspaceRepair, settings::WORKSPACE_REPAIR_SCHEDULE),
        (OperationKind::SubscriptionPruning, settings::SUBSCRIPTION_PRUNING_SCHEDULE),
        (OperationKind::Rollup, settings::ROLLUP_SCHEDULE),
        (OperationKind::Reencryption, settings::REENCRYPTION_SCHEDULE),
    ];
    let schedule = |(kind, setting)| Some((kind, reader.parsed(setting, |text| Schedule::parse(text).ok())?));
    OperationSettings {
        schedules: schedules.into_iter().filter_map(schedule).collect(),
        lease: queue.lease,
        retention_days: http.retention_days,
        replay_expires: http.replay_expires,
    }
}

fn log(reader: &mut Reader) -> logging::Settings {
    let filter = |text: &str| logging::check_filter(text).is_ok().then(|| text.to_owned());
    logging::Settings {
        filter: reader.parsed(settings::LOG, filter).unwrap_or_default(),
        format: reader.parsed(settings::LOG_FORMAT, log_format).unwrap_or(logging::Format::ByTerminal),
    }
}

fn log_format(text: &str) -> Option<logging::Format> {
    match text {
        "text" => Some(logging::Format::Text),
        "json" => Some(logging::Format::Json),
        _ => None,
    }
}
