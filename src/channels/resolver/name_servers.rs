//! Resolves names by `/etc/hosts`, then by name servers: those of the settings, or those of `/etc/resolv.conf`.
//!
//! Names are absolute: search domains are ignored, and a name of one label is never sent to a name server, because both
//! would resolve names in the operator's network. This module knows no tenants and no address rules.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::time::Instant;

use super::{Found, Lookup, LookupError};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// How long one name server may take, including repeated packets, before the next one is queried. Two fit into the deadline
/// of a look-up.
const SERVER_DEADLINE: Duration = Duration::from_millis(1_900);

/// Further name servers to query after the first, or further queries to the only one.
const RETRIES: usize = 1;

/// Concurrent queries on one TCP connection to a name server, for large answers: more than there are look-ups.
const MAX_QUERIES_BY_TCP: usize = 1_024;

/// How often the two files are checked: changes apply after this time, without a restart.
const CHECK_FILES_EVERY: Duration = Duration::from_secs(5);

/// Resolves names by the settings' name servers; if empty, by those of the system.
pub(super) fn lookup(servers: &[SocketAddr]) -> Lookup {
    let servers = Arc::new(NameServers::new(servers.to_vec()));
    Arc::new(move |host| {
        let (servers, host) = (Arc::clone(&servers), host.to_owned());
        Box::pin(async move { servers.ask(&host).await })
    })
}

struct NameServers {
    /// The name servers in the settings.
    own: Vec<SocketAddr>,
    loaded: Mutex<Loaded>,
}

/// The contents of the files.
struct Loaded {
    /// `None`: there are no name servers.
    resolver: Option<TokioResolver>,
    hosts: Arc<Hosts>,
    changed: [Option<SystemTime>; 2],
    checked: Instant,
}

impl NameServers {
    fn new(own: Vec<SocketAddr>) -> Self {
        let loaded = Mutex::new(Loaded::read(&own, changed()));
        Self { own, loaded }
    }

    async fn ask(&self, host: &str) -> Result<Found, LookupError> {
        let mut name = Name::from_ascii(host).map_err(|error| unresolved(host, &error))?;
        name.set_fqdn(true);
        let (hosts, resolver) = self.current();
        let addresses = in_hosts(&hosts, &name);
        if !addresses.is_empty() {
            // The file may change at any time.
            return Ok(Found { addresses, fresh_for: Duration::ZERO });
        }
        // The library answers `localhost` itself (RFC 6761).
        if name.num_labels() < 2 && !name.is_localhost() {
            return Err(unresolved(host, &"it has only one label"));
        }
        let resolver = resolver.ok_or_else(|| unresolved(host, &"there are no name servers"))?;
        let found = resolver.lookup_ip(name).await.map_err(|error| match error {
            NetError::Timeout => LookupError::TimedOut,
            NetError::Dns(DnsError::NoRecordsFound(_)) => unresolved(host, &"there is no such record"),
            error => unresolved(host, &error),
        })?;
        let fresh_for = found.valid_until().saturating_duration_since(std::time::Instant::now());
        Ok(Found { addresses: found.iter().collect(), fresh_for })
    }

    fn current(&self) -> (Arc<Hosts>, Option<TokioResolver>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.checked.elapsed() >= CHECK_FILES_EVERY {
            loaded.checked = Instant::now();
            let changed = changed();
            if loaded.changed != changed {
                *loaded = Loaded::read(&self.own, changed);
            }
        }
        (Arc::clone(&loaded.hosts), loaded.resolver.clone())
    }
}

impl Loaded {
    fn read(own: &[SocketAddr], changed: [Option<SystemTime>; 2]) -> Self {
        let hosts = Hosts::from_system().unwrap_or_else(|error| {
            tracing::warn!(%error, file = HOSTS, "a file could not be read");
            Hosts::default()
        });
        let resolver = resolver(own)
            .inspect_err(|error| tracing::warn!(%error, file = RESOLV_CONF, "no name servers were found"))
            .ok();
        Self { resolver, hosts: Arc::new(hosts), changed, checked: Instant::now() }
    }
}

fn resolver(own: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let servers = if own.is_empty() {
        let (system, _) = hickory_resolver::system_conf::read_system_conf()?;
        system.name_servers
    } else {
        own.iter().copied().map(name_server).collect()
    };
    let config = ResolverConfig::from_name_servers(servers);
    let mut options = ResolverOpts::default();
    options.timeout = SERVER_DEADLINE;
    options.attempts = RETRIES;
    // The caller caches answers, with a limit.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    // One server at a time: an unanswered query costs fewer sockets.
    options.num_concurrent_reqs = 1;
    options.max_active_requests = MAX_QUERIES_BY_TCP;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn in_hosts(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of);
    found
        .flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
        .collect()
}

/// When each file last changed; `None` if it cannot be read.
fn changed() -> [Option<SystemTime>; 2] {
    [RESOLV_CONF, HOSTS].map(|file| std::fs::metadata(file).and_then(|file| file.modified()).ok())
}

fn unresolved(host: &str, error: &dyn std::fmt::Display) -> LookupError {
    tracing::debug!(host, %error, "a host name did not resolve");
    LookupError::Unresolved
}
