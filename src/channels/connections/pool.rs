//! Pools idle connections for four seconds.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::Stream;
use super::http1::Http1;

/// How long an idle connection stays open. Common servers close idle connections after 5 s (Node). We close earlier, because
/// a server that closes the connection just when a request is sent would make the only attempt fail.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How often closed and idle connections are removed. If a server closes a connection, this side closes it within this
/// time.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Pool<S: Stream>(Arc<Shared<S>>);

/// A pooled connection that can send a request.
pub(super) enum PooledConnection<S: Stream> {
    Http1(Box<Http1<S>>),
    Http2(Http2),
}

#[derive(Clone)]
pub(super) struct Http2 {
    pub(super) requests: SendRequest<Full<Bytes>>,
    pub(super) peer: Option<SocketAddr>,
    used: Instant,
}

struct Shared<S: Stream> {
    max_idle: usize,
    hosts: Mutex<Hosts<S>>,
}

struct Hosts<S: Stream> {
    by_origin: HashMap<Arc<str>, Host<S>>,
    /// True while a sweep task runs.
    swept: bool,
}

struct Host<S: Stream> {
    /// The connection with the longest idle time comes first.
    idle: Vec<Idle<S>>,
    shared: Option<Http2>,
}

struct Idle<S: Stream> {
    connection: Box<Http1<S>>,
    since: Instant,
}

impl Http2 {
    pub(super) fn new(requests: SendRequest<Full<Bytes>>, peer: Option<SocketAddr>) -> Self {
        Self { requests, peer, used: Instant::now() }
    }
}

impl<S: Stream> Pool<S> {
    pub(super) fn new(max_idle: usize) -> Self {
        let hosts = Hosts { by_origin: HashMap::new(), swept: false };
        Self(Arc::new(Shared { max_idle, hosts: Mutex::new(hosts) }))
    }

    /// Removes and returns the most recently used connection that is not known to be closed. The connection wakes `context`
    /// when its state changes.
    pub(super) fn take(&self, origin: &Arc<str>, context: &mut Context<'_>) -> Option<PooledConnection<S>> {
        loop {
            let mut kept = self.0.hosts.lock().take(origin)?;
            let is_ready = match &mut kept {
                PooledConnection::Http1(connection) => connection.is_ready(context),
                PooledConnection::Http2(_) => true,
            };
            if is_ready {
                return Some(kept);
            }
        }
    }

    /// Returns a connection to the pool after its response has been read completely, if the connection is reusable.
    pub(super) fn park(&self, mut connection: Box<Http1<S>>) {
        if self.0.max_idle == 0 || !connection.rests() {
            return;
        }
        let mut hosts = self.0.hosts.lock();
        let host = hosts.of(&connection.origin);
        if host.idle.len() < self.0.max_idle {
            host.idle.push(Idle { connection, since: Instant::now() });
        }
        self.have_swept(hosts);
    }

    /// Makes an HTTP/2 connection available to other requests, unless the pool already has one for this origin.
    pub(super) fn share(&self, origin: &Arc<str>, connection: &Http2) {
        if self.0.max_idle == 0 {
            return;
        }
        let mut hosts = self.0.hosts.lock();
        let host = hosts.of(origin);
        if host.shared.as_ref().is_none_or(|shared| shared.requests.is_closed()) {
            host.shared = Some(connection.clone());
        }
        self.have_swept(hosts);
    }

    fn have_swept(&self, mut hosts: MutexGuard<'_, Hosts<S>>) {
        if !std::mem::replace(&mut hosts.swept, true) {
            // The task is not awaited, because it ends when the pool is dropped.
            TokioExecutor::new().execute(sweep(Arc::downgrade(&self.0)));
        }
    }
}

/// Sweeps the pool until it is empty.
async fn sweep<S: Stream>(pool: Weak<Shared<S>>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut hosts = pool.hosts.lock();
        let ended = hosts.sweep();
        hosts.swept = !hosts.by_origin.is_empty();
        let done = !hosts.swept;
        drop(hosts);
        // Close the connections only after the lock is released.
        drop(ended);
        if done {
            return;
        }
    }
}

impl<S: Stream> Hosts<S> {
    fn of(&mut self, origin: &Arc<str>) -> &mut Host<S> {
        self.by_origin.entry(Arc::clone(origin)).or_insert_with(|| Host { idle: Vec::new(), shared: None })
    }

    fn take(&mut self, origin: &Arc<str>) -> Option<PooledConnection<S>> {
        let host = self.by_origin.get_mut(origin)?;
        if let Some(shared) = host.shared.as_mut().filter(|shared| !shared.requests.is_closed()) {
            shared.used = Instant::now();
            return Some(PooledConnection::Http2(shared.clone()));
        }
        let newest = host.idle.pop_if(|newest| newest.since.elapsed() < IDLE_TIMEOUT)?;
        Some(PooledConnection::Http1(newest.connection))
    }

    /// Removes connections that are closed or were idle for too long.
    fn sweep(&mut self) -> Vec<Idle<S>> {
        let mut ended = Vec::new();
        self.by_origin.retain(|_, host| {
            let over = |idle: &mut Idle<S>| idle.since.elapsed() >= IDLE_TIMEOUT || !idle.connection.rests();
            ended.extend(host.idle.extract_if(.., over));
            host.shared.take_if(|shared| shared.requests.is_closed() || shared.used.elapsed() >= IDLE_TIMEOUT);
            !host.idle.is_empty() || host.shared.is_some()
        });
        ended
    }
}
