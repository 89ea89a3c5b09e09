//! Resolves names with `/etc/hosts`, then with name servers from the settings or from `/etc/resolv.conf`.
//!
//! Names are absolute. Search domains are ignored, and a name with only one label is never sent to a name server. Otherwise
//! names of the operator's internal network would be found. This module does not use tenants or address rules.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Found, Lookup, LookupError};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// How long to wait for one name server, including retransmitted packets, before the next server is queried. The deadline of
/// a look-up leaves time for two name servers.
const SERVER_DEADLINE: Duration = Duration::from_millis(1_900);

/// How many name servers are queried after the first one. A single name server gets this number of repeated queries.
const RETRIES: usize = 1;

/// Maximum number of concurrent queries on one TCP connection to a name server. Large answers use TCP. This maximum is higher
/// than the limit of look-ups.
const MAX_QUERIES_BY_TCP: usize = 1_024;

/// How often `/etc/hosts` and `/etc/resolv.conf` are checked. Changes apply within this time, without a restart.
const CHECK_FILES_EVERY: Duration = Duration::from_secs(5);

/// Resolves names with the name servers of the settings or, if the list is empty, those of the operating system.
pub(super) fn lookup(servers: &[SocketAddr]) -> Lookup {
    let servers = Arc::new(NameServers::new(servers.to_vec()));
    Arc::new(move |host| {
        let (servers, host) = (Arc::clone(&servers), host.to_owned());
        Box::pin(async move { servers.ask(&host).await })
    })
}

struct NameServers {
    /// The name servers from the settings.
    own: Vec<SocketAddr>,
    loaded: Mutex<Loaded>,
}

/// The contents of `/etc/hosts` and `/etc/resolv.conf`.
struct Loaded {
    /// `None` if there are no name servers.
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
            // The addresses are not cached, because `/etc/hosts` may change at any time.
            return Ok(Found { addresses, fresh_for: Duration::ZERO });
        }
        // The resolver library resolves `localhost` without a query (RFC 6761).
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
        let mut loaded = self.loaded.lock();
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
    // Disabled, because the caller caches answers with a size limit.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    // Query one name server at a time, so that an unanswered query uses fewer sockets.
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

/// The modification times of `/etc/resolv.conf` and `/etc/hosts`; `None` for a file that cannot be read.
fn changed() -> [Option<SystemTime>; 2] {
    [RESOLV_CONF, HOSTS].map(|file| std::fs::metadata(file).and_then(|file| file.modified()).ok())
}

fn unresolved(host: &str, error: &dyn std::fmt::Display) -> LookupError {
    tracing::debug!(host, %error, "a host name did not resolve");
    LookupError::Unresolved
}
