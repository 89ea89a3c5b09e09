//! Resolves host names. Returns the addresses of a name only if all of them are allowed.
//!
//! The HTTP client connects only to the returned addresses. A second look-up between the check and the connection would let a
//! name server return another address (DNS rebinding). This module does not depend on HTTP.
//!
//! A look-up has a deadline and counts towards a total limit and the tenant's limit ([`LookupLimits`]). Answers and failures
//! are cached briefly. Cached addresses are checked again at each use.

mod budget;
mod name_servers;

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use moka::Expiry;
use moka::future::Cache;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tower::Service;

use self::budget::Budget;
pub use self::budget::LookupLimits;
use self::budget::Permit;
use super::guard::{Forbidden, Guard};
use crate::domain::names::TenantId;

/// Deadline of a look-up. It is shorter than the default deadline of an attempt, so that the attempt can report that DNS
/// failed.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(4);

/// Maximum time that an answer is cached, even if its TTL is longer. A changed address applies within this time.
const MAX_FRESH: Duration = Duration::from_secs(30);

/// How long a failure is cached. Many deliveries to a broken name cause one query, and a repaired name soon works again.
const FAILURE_FRESH: Duration = Duration::from_secs(2);

/// Maximum number of cached names. Each name uses a few hundred bytes of memory.
const KEPT_NAMES: u64 = 10_000;

/// Maximum number of addresses used per name. A connection attempt tries the addresses one after another within seconds.
const MAX_ADDRESSES: usize = 32;

/// Looks up the addresses of a host name. Uses name servers, except in tests.
pub type Lookup = Arc<dyn Fn(&str) -> BoxFuture<'static, Result<Found, LookupError>> + Send + Sync>;

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub addresses: Vec<IpAddr>,
    /// How long the answer may be cached.
    pub fresh_for: Duration,
}

/// Why name servers returned no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupError {
    Unresolved,
    TimedOut,
}

/// Why a host name has no address to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("the host name did not resolve")]
    Unresolved,
    #[error("the host name did not resolve in time")]
    TimedOut,
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

impl From<LookupError> for ResolveError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Unresolved => Self::Unresolved,
            LookupError::TimedOut => Self::TimedOut,
        }
    }
}

/// Why a URL cannot be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VetError {
    #[error("the host is an address that this service does not send to")]
    BlockedAddress,
    /// A name with a forbidden address gives the same error, so that a tenant does not learn which internal names exist.
    #[error("the host name does not resolve to an address that this service sends to")]
    Unresolved,
    #[error("the host name did not resolve in time")]
    TimedOut,
}

type Answer = Result<Arc<[IpAddr]>, LookupError>;

/// Resolves names and checks their addresses. Cheap to clone; all clones share cached answers and running look-ups.
#[derive(Clone)]
pub(super) struct GuardedResolver(Arc<Shared>);

struct Shared {
    lookup: Lookup,
    guard: Guard,
    budget: Budget,
    kept: Cache<String, Kept>,
    /// The running look-ups by name. All requests for the same name share one look-up.
    running: Mutex<HashMap<String, watch::Receiver<Option<Answer>>>>,
}

/// A cached answer.
#[derive(Clone)]
struct Kept {
    answer: Answer,
    fresh_for: Duration,
}

struct ByFreshness;

impl Expiry<String, Kept> for ByFreshness {
    fn expire_after_create(&self, _: &String, kept: &Kept, _: std::time::Instant) -> Option<Duration> {
        Some(kept.fresh_for)
    }
}

/// Creates a resolver that queries these name servers or, if the list is empty, those of the operating system.
pub(super) fn by_name_servers(servers: &[SocketAddr]) -> Lookup {
    name_servers::lookup(servers)
}

impl GuardedResolver {
    pub(super) fn new(guard: Guard, limits: LookupLimits, lookup: Lookup) -> Self {
        let kept = Cache::builder().max_capacity(KEPT_NAMES).expire_after(ByFreshness).build();
        let (budget, running) = (Budget::new(limits), Mutex::default());
        Self(Arc::new(Shared { lookup, guard, budget, kept, running }))
    }

    /// The addresses of a name, if all are allowed. Cancel-safe: the look-up continues and keeps its permit until it ends.
    pub(super) async fn addresses(&self, host: &str, tenant: &TenantId) -> Result<Arc<[IpAddr]>, ResolveError> {
        let addresses = match self.0.kept.get(host).await {
            Some(kept) => kept.answer?,
            None => self.look_up(host, tenant).await?,
        };
        self.0.guard.judge_resolved(host, &addresses)?;
        if addresses.is_empty() { Err(ResolveError::Unresolved) } else { Ok(addresses) }
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.0.guard
    }

    async fn look_up(&self, host: &str, tenant: &TenantId) -> Answer {
        let mut answer = match self.join(host) {
            Some(answer) => answer,
            None => self.begin(host, tenant).await?,
        };
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Err(LookupError::Unresolved)),
            // The look-up panicked.
            Err(_closed) => Err(LookupError::Unresolved),
        }
    }

    fn join(&self, host: &str) -> Option<watch::Receiver<Option<Answer>>> {
        self.0.running.lock().get(host).cloned()
    }

    async fn begin(&self, host: &str, tenant: &TenantId) -> Result<watch::Receiver<Option<Answer>>, LookupError> {
        let permit = self.0.budget.permit(tenant).await.ok_or(LookupError::Unresolved)?;
        let mut running = self.0.running.lock();
        // Another caller may have started a look-up of this name while this caller waited for a permit.
        if let Some(answer) = running.get(host) {
            return Ok(answer.clone());
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(host.to_owned(), receiver.clone());
        drop(running);
        let (shared, host) = (Arc::clone(&self.0), host.to_owned());
        let lookup = RunningLookup { shared, host, answer: None, sender, _permit: permit };
        // The task is not awaited, because all waiting callers receive the answer through the channel.
        drop(TaskTracker::new().spawn(lookup.run()));
        Ok(receiver)
    }
}

impl Shared {
    async fn ask(&self, host: &str) -> Answer {
        let found = timeout(LOOKUP_DEADLINE, (self.lookup)(host)).await.unwrap_or(Err(LookupError::TimedOut));
        let (answer, fresh_for) = match found {
            Ok(found) => {
                (Ok(found.addresses.into_iter().take(MAX_ADDRESSES).collect()), found.fresh_for.min(MAX_FRESH))
            }
            Err(error) => (Err(error), FAILURE_FRESH),
        };
        if !fresh_for.is_zero() {
            self.kept.insert(host.to_owned(), Kept { answer: answer.clone(), fresh_for }).await;
        }
        answer
    }
}

struct RunningLookup {
    shared: Arc<Shared>,
    host: String,
    answer: Option<Answer>,
    sender: watch::Sender<Option<Answer>>,
    /// The look-up keeps the permit even if all its callers time out. Otherwise the timeouts would allow more look-ups.
    _permit: Permit,
}

impl RunningLookup {
    async fn run(mut self) {
        self.answer = Some(self.shared.ask(&self.host).await);
    }
}

impl Drop for RunningLookup {
    /// Runs even if the look-up panics. Removes the look-up from the map before it sends the answer. A later caller uses the
    /// cached answer or starts a new look-up.
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.host);
        self.sender.send_replace(self.answer.take());
    }
}

/// The addresses to connect to, in order. Port 0 means the port of the URL.
pub(super) type Addresses = std::vec::IntoIter<SocketAddr>;

/// Creates resolvers for the connections of one tenant.
pub(super) trait ForTenant: Clone {
    type Resolver: Service<Name, Response = Addresses, Error = ResolveError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static;

    fn for_tenant(&self, tenant: &TenantId) -> Self::Resolver;
}

impl ForTenant for GuardedResolver {
    type Resolver = TenantResolver;

    fn for_tenant(&self, tenant: &TenantId) -> TenantResolver {
        TenantResolver { resolver: self.clone(), tenant: tenant.clone() }
    }
}

#[derive(Clone)]
pub(super) struct TenantResolver {
    resolver: GuardedResolver,
    tenant: TenantId,
}

impl Service<Name> for TenantResolver {
    type Response = Addresses;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Addresses, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { resolver, tenant } = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str(), &tenant).await?;
            let sockets: Vec<SocketAddr> = addresses.iter().map(|&address| SocketAddr::new(address, 0)).collect();
            Ok(sockets.into_iter())
        })
    }
}
