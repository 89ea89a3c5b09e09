//! Builds the settings of each module from the settings of the process.

use std::net::SocketAddr;

use url::Url;

use crate::channels::LookupLimits;
use crate::config::{Channels, Config, Schedules};
use crate::domain::operation::OperationKind;
use crate::{channels, http, ingest, queue, worker};

/// The settings of the channels for an HTTP client.
pub(super) fn channels(config: &Config, lookups: LookupLimits) -> channels::Settings {
    let Channels { allowed_networks, denied_networks, name_servers, allow_http, webhook_timeout, ca_certificates } =
        config.channels.clone();
    channels::Settings {
        allowed_networks,
        denied_networks,
        name_servers,
        lookups,
        allow_http,
        default_timeout: webhook_timeout,
        extra_roots: ca_certificates,
    }
}

/// The portal's URL, as shown to users.
pub(super) fn portal(public_url: Option<&Url>, listener: SocketAddr) -> String {
    let origin = match public_url {
        Some(url) => url.origin().ascii_serialization(),
        None if listener.ip().is_unspecified() => format!("http://localhost:{}", listener.port()),
        None => format!("http://{listener}"),
    };
    format!("{origin}/portal/")
}

pub(super) fn queue(config: &Config) -> queue::Settings {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    queue::Settings {
        max_in_flight: config.queue.max_in_flight,
        endpoint_max_in_flight: config.queue.endpoint_max_in_flight,
        lease: config.queue.lease,
        description: format!("{host} {}", std::process::id()),
    }
}

pub(super) fn ingest(config: &Config) -> ingest::Settings {
    ingest::Settings { queue_events: config.ingest.queue_events, default_expiry: config.ingest.expires }
}

pub(super) fn http(config: &Config) -> http::Settings {
    let defaults = http::Settings::default();
    let streams = defaults.workspace.max_streams;
    http::Settings {
        event_body_bytes: config.limits.event_bytes,
        batch_body_bytes: config.limits.batch_bytes,
        batch_events: config.limits.batch_events,
        tenant_events_per_second: config.limits.tenant_events_per_second,
        trusted_proxies: config.trusted_proxies.clone().into(),
        retention_days: config.retention_days,
        replay_expires: config.ingest.expires,
        // Streams use connections in addition to the connections of requests.
        max_connections: defaults.max_connections - streams + config.limits.streams,
        workspace: http::workspace::Settings {
            max_streams: config.limits.streams,
            max_streams_per_caller: config.limits.caller_streams,
            ..defaults.workspace
        },
        sign_in_choices: config.sign_in_choices.clone(),
        own_hosts: own_hosts(config).into(),
        public_url: config.public_url.clone(),
        ..defaults
    }
}

/// The hosts that requests to a demonstration may name. Without a demonstration, the list is empty: requests may name any host.
fn own_hosts(config: &Config) -> Vec<String> {
    if config.sign_in_choices.is_none() {
        return Vec::new();
    }
    vec![config.listen_addr.to_string(), format!("localhost:{}", config.listen_addr.port())]
}

pub(super) fn operations(config: &Config) -> worker::OperationSettings {
    let Schedules { retention, workspace_repair, subscription_pruning, rollup, reencryption } =
        config.schedules.clone();
    worker::OperationSettings {
        schedules: vec![
            (OperationKind::Retention, retention),
            (OperationKind::WorkspaceRepair, workspace_repair),
            (OperationKind::SubscriptionPruning, subscription_pruning),
            (OperationKind::Rollup, rollup),
            (OperationKind::Reencryption, reencryption),
        ],
        lease: config.queue.lease,
        retention_days: config.retention_days,
        replay_expires: config.ingest.expires,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portal_url_uses_the_public_url_or_the_listener() {
        let public = Url::parse("https://notify.example.com").unwrap();
        for (public_url, listener, expected) in [
            (Some(&public), "0.0.0.0:8080", "https://notify.example.com/portal/"),
            (None, "0.0.0.0:8080", "http://localhost:8080/portal/"),
            (None, "[::]:8080", "http://localhost:8080/portal/"),
            (None, "127.0.0.1:9000", "http://127.0.0.1:9000/portal/"),
            (None, "[::1]:9000", "http://[::1]:9000/portal/"),
        ] {
            assert_eq!(portal(public_url, listener.parse().unwrap()), expected);
        }
    }
}
