//! Resolves host names, and hands out addresses only if every one of a name may be reached.
//!
//! The HTTP client connects to nothing but what this returns, so that there is no second look-up between the check and
//! the connection that a rebinding name server could answer otherwise. Knows nothing of HTTP.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::Service;

use super::guard::{Forbidden, Guard};

/// Look-ups that run at once, each on a thread that the system's resolver may hold for ten seconds and more: half of
/// the threads that tokio has for blocking work. One name takes one at most, however many deliveries wait for it.
const MAX_CONCURRENT_LOOKUPS: usize = 256;

/// Asks for the addresses of a host name; blocks. [`system_lookup`], but for tests.
pub type Lookup = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Why a host name gave no address to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("the host name did not resolve")]
    Unresolved,
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

/// Why a URL that is about to be saved could not be sent to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VetError {
    #[error("the host has an address that is not allowed")]
    BlockedAddress,
    #[error("the host name does not resolve")]
    Unresolved,
    #[error("the host name did not resolve in time")]
    TimedOut,
}

type Answer = Result<Arc<[IpAddr]>, ResolveError>;

/// Cheap to clone; clones share their look-ups.
#[derive(Clone)]
pub(super) struct GuardedResolver(Arc<Shared>);

struct Shared {
    lookup: Lookup,
    guard: Guard,
    permits: Arc<Semaphore>,
    /// Look-ups under way by name: whoever needs the same name meanwhile waits for the same answer. Answers are not
    /// kept; caching is the system resolver's work.
    running: Mutex<HashMap<String, watch::Receiver<Option<Answer>>>>,
}

impl GuardedResolver {
    pub(super) fn new(guard: Guard, lookup: Lookup) -> Self {
        Self(Arc::new(Shared {
            lookup,
            guard,
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT_LOOKUPS)),
            running: Mutex::new(HashMap::new()),
        }))
    }

    /// The vetted addresses of a name. Cancel-safe: the look-up itself goes on and keeps its permit until it is done.
    pub(super) async fn addresses(&self, host: &str) -> Answer {
        let mut answer = match self.join(host) {
            Some(answer) => answer,
            None => self.begin(host).await?,
        };
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Err(ResolveError::Unresolved)),
            // The look-up panicked.
            Err(_closed) => Err(ResolveError::Unresolved),
        }
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.0.guard
    }

    fn join(&self, host: &str) -> Option<watch::Receiver<Option<Answer>>> {
        self.0.running().get(host).cloned()
    }

    async fn begin(&self, host: &str) -> Result<watch::Receiver<Option<Answer>>, ResolveError> {
        let permits = Arc::clone(&self.0.permits);
        let permit = permits.acquire_owned().await.map_err(|_closed| ResolveError::Unresolved)?;
        let mut running = self.0.running();
        // Another delivery may have begun while this one waited for its permit.
        if let Some(answer) = running.get(host) {
            return Ok(answer.clone());
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(host.to_owned(), receiver.clone());
        drop(running);
        let (shared, host) = (Arc::clone(&self.0), host.to_owned());
        let lookup = RunningLookup { shared, host, answer: None, sender, _permit: permit };
        // Not awaited: the answer comes through the channel, to everyone who waits by then.
        drop(tokio::task::spawn_blocking(move || lookup.run()));
        Ok(receiver)
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<Answer>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vetted(&self, host: &str, found: io::Result<Vec<IpAddr>>) -> Answer {
        let addresses = found.map_err(|error| {
            tracing::debug!(host, error = %error, "A host name did not resolve");
            ResolveError::Unresolved
        })?;
        self.guard.judge_resolved(host, &addresses)?;
        if addresses.is_empty() { Err(ResolveError::Unresolved) } else { Ok(addresses.into()) }
    }
}

struct RunningLookup {
    shared: Arc<Shared>,
    host: String,
    answer: Option<Answer>,
    sender: watch::Sender<Option<Answer>>,
    /// Held by the thread and not by who waits: deliveries that gave up must not let more threads begin.
    _permit: OwnedSemaphorePermit,
}

impl RunningLookup {
    fn run(mut self) {
        self.answer = Some(self.shared.vetted(&self.host, (self.shared.lookup)(&self.host)));
    }
}

impl Drop for RunningLookup {
    /// Also when the look-up panics. Gone from the map before anyone knows the answer: who asks after that wants to know
    /// how the name resolves then.
    fn drop(&mut self) {
        self.shared.running().remove(&self.host);
        self.sender.send_replace(self.answer.take());
    }
}

/// Addresses to connect to, in order. Port 0 stands for the URL's.
pub(super) type Addresses = std::vec::IntoIter<SocketAddr>;

impl Service<Name> for GuardedResolver {
    type Response = Addresses;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Addresses, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            let sockets: Vec<SocketAddr> = addresses.iter().map(|&address| SocketAddr::new(address, 0)).collect();
            Ok(sockets.into_iter())
        })
    }
}

/// Asks the system: `/etc/hosts`, then its name servers, as `getaddrinfo` does.
pub fn system_lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}
