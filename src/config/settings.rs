//! The list of all settings: names, defaults, units, meanings.
//!
//! `Config` uses this list, `config check` prints it, and `docker/.env.example` is a copy. A test compares the copy with the
//! list.

/// One environment variable that the service reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    /// The value if the variable is unset or empty. Without a default, the field `meaning` describes this case.
    pub default: Option<&'static str>,
    /// True for a secret, whose value is never printed.
    pub secret: bool,
    /// What the setting does, with its unit.
    pub meaning: &'static str,
}

impl Setting {
    /// Shows the effective value of the setting. `value` is the value of the variable. Hides secrets.
    pub(super) fn in_force(&self, value: Option<String>) -> String {
        let value = value.filter(|value| !value.is_empty());
        match (value, self.default) {
            (Some(_), _) if self.secret => format!("{}=(set)", self.name),
            (Some(value), _) => format!("{}={value}", self.name),
            (None, Some(default)) => format!("{}={default}", self.name),
            (None, None) => format!("{}= (unset)", self.name),
        }
    }
}

const fn with_default(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default: Some(default), secret: false, meaning }
}

const fn optional(name: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default: None, secret: false, meaning }
}

const fn secret(name: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default: None, secret: true, meaning }
}

macro_rules! settings {
    ($($constant:ident = $kind:ident($name:literal, $($rest:literal),+);)+) => {
        $(pub(super) const $constant: Setting = $kind($name, $($rest),+);)+

        /// All settings, in the order in which they are printed.
        pub const SETTINGS: &[Setting] = &[$($constant),+];
    };
}

settings! {
    DATABASE_URL = secret("DATABASE_URL",
        "URL of a PostgreSQL server (version 15 to 18), or of pgbouncer in transaction mode in front of it. If unset, flametree-notify runs a private server");
    DATABASE_LISTEN_URL = secret("DATABASE_LISTEN_URL",
        "URL of a direct connection to the same database, by which workers learn of new deliveries at once. If unset, workers only poll");
    DATABASE_MAX_CONNECTIONS = with_default("FLAMETREE_DATABASE_MAX_CONNECTIONS", "20",
        "maximum number of database connections of one process, 6 to 1000");
    DATA_DIR = optional("FLAMETREE_DATA_DIR",
        "data directory of the private server. If unset, root uses /var/lib/flametree-notify, and other users use flametree-notify in the user's data directory");
    LISTEN_ADDR = with_default("FLAMETREE_LISTEN_ADDR", "127.0.0.1:8080",
        "address and port where the API listens");
    METRICS_ADDR = with_default("FLAMETREE_METRICS_ADDR", "127.0.0.1:9464",
        "address and port where the metrics are served");
    PUBLIC_URL = optional("FLAMETREE_PUBLIC_URL",
        "origin where users reach the service, such as https://notify.example.com, for the OpenAPI document and the log. If unset, the document contains no server URL, and the log shows the listen address");
    TRUSTED_PROXIES = optional("FLAMETREE_TRUSTED_PROXIES",
        "networks of the proxies in front of the API, as CIDRs separated by commas. Wrong credentials through a proxy count for the client address in Forwarded or X-Forwarded-For, and a proxy may hold all connections. If unset, wrong credentials count for the address of the connection, and one address may hold half of all connections");
    ENCRYPTION_KEYS = secret("FLAMETREE_ENCRYPTION_KEYS",
        "keys for secrets at rest, as id:base64 of 32 bytes, separated by commas. The first key encrypts new values. Required with DATABASE_URL. If unset, the service generates a key and stores it in the data directory");
    JWT_SECRET = secret("FLAMETREE_JWT_SECRET",
        "secret of at least 32 bytes that signs portal users' tokens (HS256). For portal users, set this secret, a key file or a JWKS URL");
    JWT_PUBLIC_KEY_FILE = optional("FLAMETREE_JWT_PUBLIC_KEY_FILE",
        "PEM file with the public key for portal users' tokens: Ed25519 (EdDSA), RSA (RS256) or P-256 (ES256)");
    JWKS_URL = optional("FLAMETREE_JWKS_URL",
        "https URL where the identity provider publishes the keys for portal users' tokens. The same algorithms are allowed as in FLAMETREE_JWT_PUBLIC_KEY_FILE");
    JWT_ISSUER = optional("FLAMETREE_JWT_ISSUER",
        "value that the iss claim of portal users' tokens must have. Required with FLAMETREE_JWKS_URL. If unset, any value is accepted");
    JWT_AUDIENCE = optional("FLAMETREE_JWT_AUDIENCE",
        "value that the aud claim of portal users' tokens must contain. If unset, tokens with this claim are rejected");
    ALLOWED_NETWORKS = optional("FLAMETREE_ALLOWED_NETWORKS",
        "networks that webhooks and push services may reach in addition to the public internet, as CIDRs separated by commas; unset: none");
    DENIED_NETWORKS = optional("FLAMETREE_DENIED_NETWORKS",
        "networks that webhooks and push services must not reach, even if they are public or in FLAMETREE_ALLOWED_NETWORKS, as CIDRs separated by commas; unset: none");
    NAME_SERVERS = optional("FLAMETREE_NAME_SERVERS",
        "name servers for the hosts of webhooks and push services, as addresses with or without a port, separated by commas. If unset, the name servers of /etc/resolv.conf are used");
    ALLOW_HTTP = with_default("FLAMETREE_ALLOW_HTTP", "false",
        "true or false: allows plain http for webhooks and for the push services in FLAMETREE_PUSH_HOSTS, for development");
    CA_FILE = optional("FLAMETREE_CA_FILE",
        "PEM file of root certificates to trust in addition to the public ones, for webhooks and push services; unset: none");
    OPERATOR_CA_FILE = optional("FLAMETREE_OPERATOR_CA_FILE",
        "PEM file of root certificates to trust in addition to the public ones, for the JWKS URL and the trace collector; unset: none");
    WEBHOOK_TIMEOUT = with_default("FLAMETREE_WEBHOOK_TIMEOUT_MS", "5000",
        "deadline of an attempt if the push config sets no deadline, in milliseconds, 1000 to 10000");
    VAPID_PRIVATE_KEY = secret("FLAMETREE_VAPID_PRIVATE_KEY",
        "P-256 private key for browser push, as base64url or the path of a PEM file. After a comma, add earlier keys that browsers have subscribed with. If unset, browser push is disabled");
    VAPID_SUBJECT = optional("FLAMETREE_VAPID_SUBJECT",
        "operator's contact for push services, as mailto: and an address, or as an https URL. Required with FLAMETREE_VAPID_PRIVATE_KEY");
    PUSH_HOSTS = optional("FLAMETREE_PUSH_HOSTS",
        "push services in addition to those of the browsers' vendors, as host, host:port or *.host, separated by commas; unset: none");
    PUSH_TTL = with_default("FLAMETREE_PUSH_TTL_SECONDS", "3600",
        "how long a push service keeps a message for an offline browser, in seconds, 60 to 2419200");
    MAX_IN_FLIGHT = with_default("FLAMETREE_MAX_IN_FLIGHT", "1000",
        "maximum number of concurrent attempts per process and channel, 1 to 100000. A tenant may use half of them");
    ENDPOINT_MAX_IN_FLIGHT = optional("FLAMETREE_ENDPOINT_MAX_IN_FLIGHT",
        "maximum number of concurrent attempts per process and endpoint, at most FLAMETREE_MAX_IN_FLIGHT. If unset, the maximum is a third of FLAMETREE_MAX_IN_FLIGHT");
    LEASE = with_default("FLAMETREE_LEASE_SECONDS", "30",
        "how long a worker without a heartbeat counts as alive, in seconds, 11 to 3600. After that, the deliveries that the worker had started are recorded as interrupted. The minimum exceeds the longest deadline of an attempt, 10 s");
    INGEST_QUEUE_EVENTS = with_default("FLAMETREE_INGEST_QUEUE_EVENTS", "10000",
        "maximum number of events that wait to be stored, 1 to 1000000. If more events arrive, the API returns 503. A tenant may use half of the places that other tenants do not use");
    EVENT_EXPIRES = with_default("FLAMETREE_EVENT_EXPIRES_SECONDS", "86400",
        "how long a delivery may wait if its event does not specify a time, in seconds, 1 to 604800");
    EVENT_MAX_BYTES = with_default("FLAMETREE_EVENT_MAX_BYTES", "65536",
        "maximum size of the body of one posted event, in bytes, 1024 to 1048576");
    BATCH_MAX_BYTES = with_default("FLAMETREE_BATCH_MAX_BYTES", "1048576",
        "maximum size of the body of a posted batch, in bytes, from FLAMETREE_EVENT_MAX_BYTES to 67108864");
    BATCH_MAX_EVENTS = with_default("FLAMETREE_BATCH_MAX_EVENTS", "500",
        "maximum number of events in a posted batch, 1 to 10000. Neither this value nor the default exceeds FLAMETREE_INGEST_QUEUE_EVENTS");
    TENANT_EVENTS_PER_SECOND = with_default("FLAMETREE_TENANT_EVENTS_PER_SECOND", "1000",
        "number of events per second that a tenant may post to one process before the API returns 429, 0 to 1000000. A burst may contain the events of ten seconds. 0 means no limit");
    MAX_STREAMS = with_default("FLAMETREE_MAX_STREAMS", "10000",
        "maximum number of concurrent streams of operator workspaces per process, 1 to 100000. A tenant may use half of the streams that other tenants do not use. Streams use connections in addition to the connections of requests");
    CALLER_MAX_STREAMS = with_default("FLAMETREE_CALLER_MAX_STREAMS", "100",
        "maximum number of concurrent streams per caller and process, 1 to 100000");
    RETENTION_DAYS = with_default("FLAMETREE_RETENTION_DAYS", "30",
        "how long events and deliveries are kept, in days, 8 to 3650. The minimum exceeds the longest time that a delivery may wait, 7 days. For values above 30, some data is kept up to a thirtieth longer");
    RETENTION_SCHEDULE = with_default("FLAMETREE_RETENTION_SCHEDULE", "*/10 * * * *",
        "when new partitions are created and old data is dropped, as a cron expression in UTC with minute, hour, day, month and weekday (by name)");
    WORKSPACE_REPAIR_SCHEDULE = with_default("FLAMETREE_WORKSPACE_REPAIR_SCHEDULE", "20 3 * * *",
        "when sessions that have had no event during the retention time are removed from the operator workspace, as a cron expression");
    SUBSCRIPTION_PRUNING_SCHEDULE = with_default("FLAMETREE_SUBSCRIPTION_PRUNING_SCHEDULE", "40 3 * * *",
        "when push subscriptions that no browser has registered again for 180 days are removed, as a cron expression");
    ROLLUP_SCHEDULE = with_default("FLAMETREE_ROLLUP_SCHEDULE", "* * * * *",
        "when finished deliveries are added to the statistics, as a cron expression");
    REENCRYPTION_SCHEDULE = with_default("FLAMETREE_REENCRYPTION_SCHEDULE", "0 4 * * *",
        "when values that are not encrypted with the first key are encrypted again, as a cron expression");
    SHUTDOWN_GRACE = with_default("FLAMETREE_SHUTDOWN_GRACE_SECONDS", "15",
        "how long a shutdown waits for attempts in flight, in seconds, 1 to 3600. Attempts that are still in flight after that time are recorded as interrupted");
    LOG = with_default("FLAMETREE_LOG", "info",
        "log level, or directives such as info,flametree_notify::queue=debug");
    LOG_FORMAT = optional("FLAMETREE_LOG_FORMAT",
        "text or json. If unset, the format is text if standard error is a terminal, otherwise json");
    OTLP_ENDPOINT = optional("OTEL_EXPORTER_OTLP_ENDPOINT",
        "base URL of an OpenTelemetry collector that accepts traces by OTLP over HTTP, as protobuf, such as http://127.0.0.1:4318. If unset, traces are not exported");
    OTLP_HEADERS = secret("OTEL_EXPORTER_OTLP_HEADERS",
        "headers that the collector requires, as name=value separated by commas, with percent-encoded values; unset: none");
    SERVICE_NAME = with_default("OTEL_SERVICE_NAME", "flametree-notify",
        "service name in traces");
    RESOURCE_ATTRIBUTES = optional("OTEL_RESOURCE_ATTRIBUTES",
        "further resource attributes in traces, as name=value separated by commas, such as deployment.environment.name=production; unset: none");
    TRACES_SHARE = with_default("OTEL_TRACES_SAMPLER_ARG", "1",
        "share of the traces that is exported, 0 to 1, for traces that the service starts. Set the same value in every process. A trace that a caller starts is exported if its sampled flag is set");
}

/// The settings as an env file: for each setting, the meaning and a commented line with the default.
pub fn example() -> String {
    let heading = "# All settings of flametree-notify. A line that is commented out shows the default.\n".to_owned();
    let entries = SETTINGS.iter().map(|setting| {
        format!("\n# {}\n#{}={}\n", sentence(setting.meaning), setting.name, setting.default.unwrap_or(""))
    });
    std::iter::once(heading).chain(entries).collect()
}

fn sentence(meaning: &str) -> String {
    let mut characters = meaning.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_is_a_copy_of_the_list() {
        let file = include_str!("../../docker/.env.example");
        assert!(file == example(), "docker/.env.example should be:\n{}", example());
    }
}
