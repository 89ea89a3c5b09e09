//! The declarations of all settings: name, default, form, unit, bounds, meaning.
//!
//! The check of a value, its fault, the output of `config check`, `docker/.env.example` and the table of `docs/settings.md`
//! follow from the declarations.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::domain::event::MAX_EXPIRES_IN_SECONDS;
use crate::domain::push_config::TIMEOUT_MS;

/// The largest TTL that every push service accepts: 28 days.
const MAX_TTL_SECONDS: u64 = 2_419_200;

const DATABASE: &str = "a URL like postgres://user:password@host:5432/database";
const ADDRESS: &str = "an address and port like 127.0.0.1:8080";
const NETWORKS: &str = "CIDRs like 10.0.0.0/8,fd00::/8";
const CRON: &str = "a cron expression like 20 3 * * MON-FRI";
/// For a setting that accepts every text, or whose parser describes each fault.
const ANY: &str = "";

/// One environment variable that the service reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    /// The value if the variable is unset or empty. If the default is empty too, the field `meaning` describes this case.
    default: &'static str,
    /// True for a secret, whose value is never printed.
    pub(super) secret: bool,
    form: Form,
    /// What the setting does. In the meaning of a number, `{bounds}` becomes the unit and the bounds, and `{max}` the maximum.
    meaning: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A text that `config` parses. The text describes valid values to the operator.
    Text(&'static str),
    /// A whole number.
    Number { unit: Unit, min: u64, max: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Items,
    Bytes,
    Milliseconds,
    Seconds,
    Days,
}

impl Setting {
    /// Shows the effective value of the setting. `value` is the value of the variable. Hides secrets.
    pub(super) fn in_force(&self, value: Option<String>) -> String {
        let value = value.filter(|value| !value.is_empty());
        match value.as_deref().or(self.default()) {
            Some(_) if self.secret => format!("{}=(set)", self.name),
            Some(value) => format!("{}={value}", self.name),
            None => format!("{}= (unset)", self.name),
        }
    }

    pub(super) fn default(&self) -> Option<&'static str> {
        Some(self.default).filter(|default| !default.is_empty())
    }

    /// Describes the valid values.
    pub(super) fn expected(&self) -> String {
        match self.form {
            Form::Text(expected) => expected.to_owned(),
            Form::Number { min, max, .. } => format!("a whole number from {min} to {max}"),
        }
    }

    /// Parses a number and checks its bounds.
    pub(super) fn number(&self, text: &str) -> Option<u64> {
        let Form::Number { min, max, .. } = self.form else { return None };
        text.parse().ok().filter(|number| (min..=max).contains(number))
    }

    /// Converts a number to a duration. The unit of the setting is seconds or milliseconds.
    pub(super) fn duration(&self, number: u64) -> Duration {
        match self.form {
            Form::Number { unit: Unit::Milliseconds, .. } => Duration::from_millis(number),
            _ => Duration::from_secs(number),
        }
    }

    /// What the setting does, with its unit and bounds.
    pub(super) fn meaning(&self) -> String {
        let Form::Number { unit, min, max } = self.form else { return self.meaning.to_owned() };
        let unit = match unit {
            Unit::Items => "",
            Unit::Bytes => "in bytes, ",
            Unit::Milliseconds => "in milliseconds, ",
            Unit::Seconds => "in seconds, ",
            Unit::Days => "in days, ",
        };
        self.meaning.replace("{bounds}", &format!("{unit}{min} to {max}")).replace("{max}", &max.to_string())
    }
}

const fn text(name: &'static str, default: &'static str, expected: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, secret: false, form: Form::Text(expected), meaning }
}

const fn secret(name: &'static str, expected: &'static str, meaning: &'static str) -> Setting {
    Setting { secret: true, ..text(name, "", expected, meaning) }
}

const fn number(
    name: &'static str,
    default: &'static str,
    unit: Unit,
    range: RangeInclusive<u64>,
    meaning: &'static str,
) -> Setting {
    let form = Form::Number { unit, min: *range.start(), max: *range.end() };
    Setting { name, default, secret: false, form, meaning }
}

macro_rules! settings {
    ($($constant:ident = $declaration:expr;)+) => {
        $(pub(super) const $constant: Setting = $declaration;)+

        /// All settings, in the order in which they are printed.
        pub(super) const SETTINGS: &[Setting] = &[$($constant),+];
    };
}

settings! {
    DATABASE_URL = secret("DATABASE_URL", DATABASE,
        "URL of a PostgreSQL server (version 15 to 18), or of pgbouncer in transaction mode in front of it. If unset, flametree-notify runs a private server");
    DATABASE_LISTEN_URL = secret("DATABASE_LISTEN_URL", DATABASE,
        "URL of a direct connection to the same database, by which workers learn of new deliveries at once. If unset, workers only poll");
    DATABASE_MAX_CONNECTIONS = number("FLAMETREE_DATABASE_MAX_CONNECTIONS", "20", Unit::Items, 6..=1_000,
        "maximum number of database connections of one process, {bounds}");
    DATA_DIR = text("FLAMETREE_DATA_DIR", "", "an absolute path",
        "data directory of the private server. If unset, root uses /var/lib/flametree-notify, and other users use flametree-notify in the user's data directory");
    LISTEN_ADDR = text("FLAMETREE_LISTEN_ADDR", "127.0.0.1:8080", ADDRESS,
        "address and port where the API listens");
    METRICS_ADDR = text("FLAMETREE_METRICS_ADDR", "127.0.0.1:9464", ADDRESS,
        "address and port where the metrics are served");
    PUBLIC_URL = text("FLAMETREE_PUBLIC_URL", "", "an origin like https://notify.example.com",
        "origin where users reach the service, such as https://notify.example.com, for the OpenAPI document and the log. If unset, the document contains no server URL, and the log shows the listen address");
    TRUSTED_PROXIES = text("FLAMETREE_TRUSTED_PROXIES", "", NETWORKS,
        "networks of the proxies in front of the API, as CIDRs separated by commas. Wrong credentials through a proxy count for the client address in Forwarded or X-Forwarded-For, and a proxy may hold all connections. If unset, wrong credentials count for the address of the connection, and one address may hold half of all connections");
    ENCRYPTION_KEYS = secret("FLAMETREE_ENCRYPTION_KEYS", ANY,
        "keys for secrets at rest, as id:base64 of 32 bytes, separated by commas. The first key encrypts new values. Required with DATABASE_URL. If unset, the service generates a key and stores it in the data directory");
    JWT_SECRET = secret("FLAMETREE_JWT_SECRET", ANY,
        "secret of at least 32 bytes that signs portal users' tokens (HS256). For portal users, set this secret, a key file or a JWKS URL");
    JWT_PUBLIC_KEY_FILE = text("FLAMETREE_JWT_PUBLIC_KEY_FILE", "", ANY,
        "PEM file with the public key for portal users' tokens: Ed25519 (EdDSA), RSA (RS256) or P-256 (ES256)");
    JWKS_URL = text("FLAMETREE_JWKS_URL", "", "an https URL without user and fragment, or an http URL of this machine",
        "https URL where the identity provider publishes the keys for portal users' tokens. The same algorithms are allowed as in FLAMETREE_JWT_PUBLIC_KEY_FILE");
    JWT_ISSUER = text("FLAMETREE_JWT_ISSUER", "", ANY,
        "value that the iss claim of portal users' tokens must have. Required with FLAMETREE_JWKS_URL. If unset, any value is accepted");
    JWT_AUDIENCE = text("FLAMETREE_JWT_AUDIENCE", "", ANY,
        "value that the aud claim of portal users' tokens must contain. If unset, tokens with this claim are rejected");
    ALLOWED_NETWORKS = text("FLAMETREE_ALLOWED_NETWORKS", "", NETWORKS,
        "networks that webhooks and push services may reach in addition to the public internet, as CIDRs separated by commas; unset: none");
    DENIED_NETWORKS = text("FLAMETREE_DENIED_NETWORKS", "", NETWORKS,
        "networks that webhooks and push services must not reach, even if they are public or in FLAMETREE_ALLOWED_NETWORKS, as CIDRs separated by commas; unset: none");
    NAME_SERVERS = text("FLAMETREE_NAME_SERVERS", "", "addresses like 10.0.0.53,[fd00::53]:5353",
        "name servers for the hosts of webhooks and push services, as addresses with or without a port, separated by commas. If unset, the name servers of /etc/resolv.conf are used");
    ALLOW_HTTP = text("FLAMETREE_ALLOW_HTTP", "false", "true or false",
        "true or false: allows plain http for webhooks and for the push services in FLAMETREE_PUSH_HOSTS, for development");
    CA_FILE = text("FLAMETREE_CA_FILE", "", ANY,
        "PEM file of root certificates to trust in addition to the public ones, for webhooks and push services; unset: none");
    OPERATOR_CA_FILE = text("FLAMETREE_OPERATOR_CA_FILE", "", ANY,
        "PEM file of root certificates to trust in addition to the public ones, for the JWKS URL and the trace collector; unset: none");
    WEBHOOK_TIMEOUT = number("FLAMETREE_WEBHOOK_TIMEOUT_MS", "5000", Unit::Milliseconds, TIMEOUT_MS,
        "deadline of an attempt if the push config sets no deadline, {bounds}");
    VAPID_PRIVATE_KEY = secret("FLAMETREE_VAPID_PRIVATE_KEY", ANY,
        "P-256 private key for browser push, as base64url or the path of a PEM file. After a comma, add earlier keys that browsers have subscribed with. If unset, browser push is disabled");
    VAPID_SUBJECT = text("FLAMETREE_VAPID_SUBJECT", "", "mailto: and an address, or an https URL, by which push services reach the operator: no local and no example name, no space",
        "operator's contact for push services, as mailto: and an address, or as an https URL. Required with FLAMETREE_VAPID_PRIVATE_KEY");
    PUSH_HOSTS = text("FLAMETREE_PUSH_HOSTS", "", "hosts like push.example.com,push.example.com:8443,*.push.example.com",
        "push services in addition to those of the browsers' vendors, as host, host:port or *.host, separated by commas; unset: none");
    PUSH_TTL = number("FLAMETREE_PUSH_TTL_SECONDS", "3600", Unit::Seconds, 60..=MAX_TTL_SECONDS,
        "how long a push service keeps a message for an offline browser, {bounds}");
    MAX_IN_FLIGHT = number("FLAMETREE_MAX_IN_FLIGHT", "1000", Unit::Items, 1..=100_000,
        "maximum number of concurrent attempts per process and channel, {bounds}. A tenant may use half of them");
    ENDPOINT_MAX_IN_FLIGHT = number("FLAMETREE_ENDPOINT_MAX_IN_FLIGHT", "", Unit::Items, 1..=100_000,
        "maximum number of concurrent attempts per process and endpoint, at most FLAMETREE_MAX_IN_FLIGHT. If unset, the maximum is a third of FLAMETREE_MAX_IN_FLIGHT");
    // A lease must be longer than the longest attempt, because a worker might send no heartbeat during an attempt.
    LEASE = number("FLAMETREE_LEASE_SECONDS", "30", Unit::Seconds, 11..=3_600,
        "how long a worker without a heartbeat counts as alive, {bounds}. After that, the deliveries that the worker had started are recorded as interrupted. The minimum exceeds the longest deadline of an attempt, 10 s");
    INGEST_QUEUE_EVENTS = number("FLAMETREE_INGEST_QUEUE_EVENTS", "10000", Unit::Items, 1..=1_000_000,
        "maximum number of events that wait to be stored, {bounds}. If more events arrive, the API returns 503. A tenant may use half of the places that other tenants do not use");
    EVENT_EXPIRES = number("FLAMETREE_EVENT_EXPIRES_SECONDS", "86400", Unit::Seconds, 1..=MAX_EXPIRES_IN_SECONDS,
        "how long a delivery may wait if its event does not specify a time, {bounds}");
    EVENT_MAX_BYTES = number("FLAMETREE_EVENT_MAX_BYTES", "65536", Unit::Bytes, 1_024..=1_048_576,
        "maximum size of the body of one posted event, {bounds}");
    BATCH_MAX_BYTES = number("FLAMETREE_BATCH_MAX_BYTES", "1048576", Unit::Bytes, 1_024..=67_108_864,
        "maximum size of the body of a posted batch, in bytes, from FLAMETREE_EVENT_MAX_BYTES to {max}");
    BATCH_MAX_EVENTS = number("FLAMETREE_BATCH_MAX_EVENTS", "500", Unit::Items, 1..=10_000,
        "maximum number of events in a posted batch, {bounds}. Neither this value nor the default exceeds FLAMETREE_INGEST_QUEUE_EVENTS");
    TENANT_EVENTS_PER_SECOND = number("FLAMETREE_TENANT_EVENTS_PER_SECOND", "1000", Unit::Items, 0..=1_000_000,
        "number of events per second that a tenant may post to one process before the API returns 429, {bounds}. A burst may contain the events of ten seconds. 0 means no limit");
    MAX_STREAMS = number("FLAMETREE_MAX_STREAMS", "10000", Unit::Items, 1..=100_000,
        "maximum number of concurrent streams of operator workspaces per process, {bounds}. A tenant may use half of the streams that other tenants do not use. Streams use connections in addition to the connections of requests");
    CALLER_MAX_STREAMS = number("FLAMETREE_CALLER_MAX_STREAMS", "100", Unit::Items, 1..=100_000,
        "maximum number of concurrent streams per caller and process, {bounds}");
    // Retention is longer than the maximum time that a delivery may wait, so that no partition with waiting deliveries is
    // dropped.
    RETENTION_DAYS = number("FLAMETREE_RETENTION_DAYS", "30", Unit::Days, 8..=3_650,
        "how long events and deliveries are kept, {bounds}. The minimum exceeds the longest time that a delivery may wait, 7 days. For values above 30, some data is kept up to a thirtieth longer");
    RETENTION_SCHEDULE = text("FLAMETREE_RETENTION_SCHEDULE", "*/10 * * * *", CRON,
        "when new partitions are created and old data is dropped, as a cron expression in UTC with minute, hour, day, month and weekday (by name)");
    WORKSPACE_REPAIR_SCHEDULE = text("FLAMETREE_WORKSPACE_REPAIR_SCHEDULE", "20 3 * * *", CRON,
        "when sessions that have had no event during the retention time are removed from the operator workspace, as a cron expression");
    SUBSCRIPTION_PRUNING_SCHEDULE = text("FLAMETREE_SUBSCRIPTION_PRUNING_SCHEDULE", "40 3 * * *", CRON,
        "when push subscriptions that no browser has registered again for 180 days are removed, as a cron expression");
    ROLLUP_SCHEDULE = text("FLAMETREE_ROLLUP_SCHEDULE", "* * * * *", CRON,
        "when finished deliveries are added to the statistics, as a cron expression");
    REENCRYPTION_SCHEDULE = text("FLAMETREE_REENCRYPTION_SCHEDULE", "0 4 * * *", CRON,
        "when values that are not encrypted with the first key are encrypted again, as a cron expression");
    SHUTDOWN_GRACE = number("FLAMETREE_SHUTDOWN_GRACE_SECONDS", "15", Unit::Seconds, 1..=3_600,
        "how long a shutdown waits for attempts in flight, {bounds}. Attempts that are still in flight after that time are recorded as interrupted");
    LOG = text("FLAMETREE_LOG", "info", "a level or directives like info,flametree_notify::queue=debug",
        "log level, or directives such as info,flametree_notify::queue=debug");
    LOG_FORMAT = text("FLAMETREE_LOG_FORMAT", "", "text or json",
        "text or json. If unset, the format is text if standard error is a terminal, otherwise json");
    OTLP_ENDPOINT = text("OTEL_EXPORTER_OTLP_ENDPOINT", "", "an http or https URL without user, query and fragment",
        "base URL of an OpenTelemetry collector that accepts traces by OTLP over HTTP, as protobuf, such as http://127.0.0.1:4318. If unset, traces are not exported");
    OTLP_HEADERS = secret("OTEL_EXPORTER_OTLP_HEADERS", "headers like name=value,name=value with percent-encoded values",
        "headers that the collector requires, as name=value separated by commas, with percent-encoded values; unset: none");
    SERVICE_NAME = text("OTEL_SERVICE_NAME", "flametree-notify", ANY,
        "service name in traces");
    RESOURCE_ATTRIBUTES = text("OTEL_RESOURCE_ATTRIBUTES", "", "name=value,name=value with percent-encoded values",
        "further resource attributes in traces, as name=value separated by commas, such as deployment.environment.name=production; unset: none");
    TRACES_SHARE = text("OTEL_TRACES_SAMPLER_ARG", "1", "a number from 0 to 1",
        "share of the traces that is exported, 0 to 1, for traces that the service starts. Set the same value in every process. A trace that a caller starts is exported if its sampled flag is set");
}
