//! Builds `Config` from variables. Each group of settings has a function that reads the whole group before it fails.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use super::browser_push::browser_push;
use super::reader::{ConfigErrors, Reader};
use super::settings::{
    ALLOW_HTTP, ALLOWED_NETWORKS, BATCH_MAX_BYTES, BATCH_MAX_EVENTS, CA_FILE, CALLER_MAX_STREAMS, DATA_DIR,
    DATABASE_LISTEN_URL, DATABASE_MAX_CONNECTIONS, DATABASE_URL, DENIED_NETWORKS, ENCRYPTION_KEYS,
    ENDPOINT_MAX_IN_FLIGHT, EVENT_EXPIRES, EVENT_MAX_BYTES, INGEST_QUEUE_EVENTS, LEASE, LISTEN_ADDR, LOG, LOG_FORMAT,
    MAX_IN_FLIGHT, MAX_STREAMS, METRICS_ADDR, NAME_SERVERS, OPERATOR_CA_FILE, PUBLIC_URL, REENCRYPTION_SCHEDULE,
    RETENTION_DAYS, RETENTION_SCHEDULE, ROLLUP_SCHEDULE, SHUTDOWN_GRACE, SUBSCRIPTION_PRUNING_SCHEDULE, Setting,
    TENANT_EVENTS_PER_SECOND, TRUSTED_PROXIES, WEBHOOK_TIMEOUT, WORKSPACE_REPAIR_SCHEDULE,
};
use super::traces::traces;
use super::users::users;
use super::{Channels, Config, Database, DatabaseUrl, Ingest, Limits, Queue, Schedules};
use crate::domain::event::MAX_EXPIRES_IN_SECONDS;
use crate::domain::schedule::Schedule;
use crate::secrets::Keyring;
use crate::telemetry::logging;
use crate::tls;

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

/// Reads all settings; `None` only if a fault was reported.
fn read(reader: &mut Reader) -> Option<Config> {
    let database = database(reader);
    let listen_addr = address(reader, LISTEN_ADDR);
    let metrics_addr = address(reader, METRICS_ADDR);
    if listen_addr.is_some_and(|address| address.port() != 0 && Some(address) == metrics_addr) {
        reader.fault(METRICS_ADDR, format!("must not be the address of the API, {}", LISTEN_ADDR.name));
    }
    let public_url = reader.parsed(PUBLIC_URL, "an origin like https://notify.example.com", origin);
    let trusted_proxies = networks(reader, TRUSTED_PROXIES);
    let encryption_keys = encryption_keys(reader, database.as_ref());
    let operator_ca_certificates = ca_certificates(reader, OPERATOR_CA_FILE);
    let users = users(reader);
    let channels = channels(reader);
    let browser_push = browser_push(reader);
    let queue = queue(reader);
    let ingest = ingest(reader);
    let limits = limits(reader, ingest);
    // Retention is longer than the maximum time that a delivery may wait, so that no partition with waiting deliveries is
    // dropped.
    let retention_days = reader.number(RETENTION_DAYS, 8..=3_650);
    let schedules = schedules(reader);
    let shutdown_grace = reader.number(SHUTDOWN_GRACE, 1..=3_600).map(Duration::from_secs);
    let log = log(reader);
    let traces = traces(reader);
    Some(Config {
        database: database?,
        listen_addr: listen_addr?,
        metrics_addr: metrics_addr?,
        public_url,
        trusted_proxies: trusted_proxies?,
        channels: channels?,
        browser_push,
        queue: queue?,
        ingest: ingest?,
        limits: limits?,
        retention_days: retention_days?,
        schedules: schedules?,
        encryption_keys,
        operator_ca_certificates,
        users,
        sign_in_choices: None,
        shutdown_grace: shutdown_grace?,
        log: log?,
        traces,
    })
}

fn encryption_keys(reader: &mut Reader, database: Option<&Database>) -> Option<Arc<Keyring>> {
    let Some(text) = reader.secret(ENCRYPTION_KEYS) else {
        if matches!(database, Some(Database::External { .. })) {
            reader.fault(ENCRYPTION_KEYS, format!("must be set together with {}", DATABASE_URL.name));
        }
        return None;
    };
    let keyring = Keyring::parse(text.expose());
    keyring.map_err(|error| reader.fault(ENCRYPTION_KEYS, format!("is not a keyring: {error}"))).ok().map(Arc::new)
}

fn database(reader: &mut Reader) -> Option<Database> {
    let max_connections = reader.number(DATABASE_MAX_CONNECTIONS, 6..=1_000);
    let is_external = reader.is_set(DATABASE_URL);
    let url = database_url(reader, DATABASE_URL);
    let listen_url = database_url(reader, DATABASE_LISTEN_URL);
    if is_external {
        return Some(Database::External { url: url?, listen_url, max_connections: max_connections? });
    }
    if reader.is_set(DATABASE_LISTEN_URL) {
        reader.fault(DATABASE_LISTEN_URL, format!("has no effect without {}", DATABASE_URL.name));
    }
    let data_dir = data_dir(reader);
    Some(Database::Embedded { data_dir: data_dir?, max_connections: max_connections? })
}

fn database_url(reader: &mut Reader, setting: Setting) -> Option<DatabaseUrl> {
    reader.parsed(setting, "a URL like postgres://user:password@host:5432/database", DatabaseUrl::parse)
}

fn data_dir(reader: &mut Reader) -> Option<PathBuf> {
    if reader.is_set(DATA_DIR) {
        return reader
            .parsed(DATA_DIR, "an absolute path", |path| Some(PathBuf::from(path)).filter(|p| p.is_absolute()));
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

fn address(reader: &mut Reader, setting: Setting) -> Option<SocketAddr> {
    reader.parsed(setting, "an address and port like 127.0.0.1:8080", |text| text.parse().ok())
}

fn origin(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    (matches!(url.scheme(), "http" | "https") && bare && anonymous).then_some(url)
}

fn channels(reader: &mut Reader) -> Option<Channels> {
    let allowed_networks = networks(reader, ALLOWED_NETWORKS);
    let denied_networks = networks(reader, DENIED_NETWORKS);
    let name_servers = list(reader, NAME_SERVERS, "addresses like 10.0.0.53,[fd00::53]:5353", name_server);
    let allow_http = reader.parsed(ALLOW_HTTP, "true or false", |text| text.parse().ok());
    let webhook_timeout = reader.number(WEBHOOK_TIMEOUT, 1_000..=10_000).map(Duration::from_millis);
    let ca_certificates = ca_certificates(reader, CA_FILE);
    Some(Channels {
        allowed_networks: allowed_networks?,
        denied_networks: denied_networks?,
        name_servers: name_servers?,
        allow_http: allow_http?,
        webhook_timeout: webhook_timeout?,
        ca_certificates,
    })
}

fn networks(reader: &mut Reader, setting: Setting) -> Option<Vec<IpNet>> {
    list(reader, setting, "CIDRs like 10.0.0.0/8,fd00::/8", |network| network.parse().ok())
}

/// Parses values separated by commas. Returns an empty list if the setting is unset.
fn list<T>(reader: &mut Reader, setting: Setting, expected: &str, parse: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    if !reader.is_set(setting) {
        return Some(Vec::new());
    }
    reader.parsed(setting, expected, |text| text.split(',').map(|part| parse(part.trim())).collect())
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

fn queue(reader: &mut Reader) -> Option<Queue> {
    let max_in_flight = reader.number(MAX_IN_FLIGHT, 1..=100_000);
    let endpoint_max_in_flight = if reader.is_set(ENDPOINT_MAX_IN_FLIGHT) {
        Some(reader.number(ENDPOINT_MAX_IN_FLIGHT, 1..=100_000)?)
    } else {
        None
    };
    // A lease must be longer than the longest attempt (10 s, the longest deadline of a channel), because a worker might send no
    // heartbeat during an attempt.
    let lease = reader.number(LEASE, 11..=3_600).map(Duration::from_secs);
    let queue = Queue { max_in_flight: max_in_flight?, endpoint_max_in_flight, lease: lease? };
    if endpoint_max_in_flight.is_some_and(|most| most > queue.max_in_flight) {
        reader.fault(ENDPOINT_MAX_IN_FLIGHT, format!("must be at most {}", MAX_IN_FLIGHT.name));
    }
    Some(queue)
}

fn ingest(reader: &mut Reader) -> Option<Ingest> {
    let queue_events = reader.number(INGEST_QUEUE_EVENTS, 1..=1_000_000);
    let expires = reader.number(EVENT_EXPIRES, 1..=MAX_EXPIRES_IN_SECONDS).map(Duration::from_secs);
    Some(Ingest { queue_events: queue_events?, expires: expires? })
}

fn limits(reader: &mut Reader, ingest: Option<Ingest>) -> Option<Limits> {
    let event_bytes = reader.number(EVENT_MAX_BYTES, 1_024..=1_048_576);
    let batch_bytes = reader.number(BATCH_MAX_BYTES, 1_024..=67_108_864);
    let batch_events = reader.number(BATCH_MAX_EVENTS, 1..=10_000);
    let tenant_events_per_second = reader.number(TENANT_EVENTS_PER_SECOND, 0..=1_000_000);
    let streams = reader.number(MAX_STREAMS, 1..=100_000);
    let caller_streams = reader.number(CALLER_MAX_STREAMS, 1..=100_000);
    let mut limits = Limits {
        event_bytes: event_bytes?,
        batch_bytes: batch_bytes?,
        batch_events: batch_events?,
        tenant_events_per_second: NonZeroU32::new(tenant_events_per_second?),
        streams: streams?,
        caller_streams: caller_streams?,
    };
    if limits.batch_bytes < limits.event_bytes {
        reader.fault(BATCH_MAX_BYTES, format!("must be at least {}", EVENT_MAX_BYTES.name));
    }
    // A batch larger than the queue would always be rejected as overload.
    let queue_events = ingest.map_or(usize::MAX, |ingest| ingest.queue_events);
    if limits.batch_events > queue_events && reader.is_set(BATCH_MAX_EVENTS) {
        reader.fault(BATCH_MAX_EVENTS, format!("must be at most {}", INGEST_QUEUE_EVENTS.name));
    }
    limits.batch_events = limits.batch_events.min(queue_events);
    Some(limits)
}

fn schedules(reader: &mut Reader) -> Option<Schedules> {
    let mut schedule =
        |setting| reader.parsed(setting, "a cron expression like 20 3 * * MON-FRI", |text| Schedule::parse(text).ok());
    let retention = schedule(RETENTION_SCHEDULE);
    let workspace_repair = schedule(WORKSPACE_REPAIR_SCHEDULE);
    let subscription_pruning = schedule(SUBSCRIPTION_PRUNING_SCHEDULE);
    let rollup = schedule(ROLLUP_SCHEDULE);
    let reencryption = schedule(REENCRYPTION_SCHEDULE);
    Some(Schedules {
        retention: retention?,
        workspace_repair: workspace_repair?,
        subscription_pruning: subscription_pruning?,
        rollup: rollup?,
        reencryption: reencryption?,
    })
}

fn log(reader: &mut Reader) -> Option<logging::Settings> {
    let expected = "a level or directives like info,flametree_notify::queue=debug";
    let filter = reader.parsed(LOG, expected, |text| logging::check_filter(text).is_ok().then(|| text.to_owned()));
    let format = if reader.is_set(LOG_FORMAT) {
        reader.parsed(LOG_FORMAT, "text or json", log_format)
    } else {
        Some(logging::Format::ByTerminal)
    };
    Some(logging::Settings { filter: filter?, format: format? })
}

fn log_format(text: &str) -> Option<logging::Format> {
    match text {
        "text" => Some(logging::Format::Text),
        "json" => Some(logging::Format::Json),
        _ => None,
    }
}
