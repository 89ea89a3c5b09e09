//! Connections: as many as are allowed, none that dawdles, and an orderly end.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use ipnet::IpNet;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::auth_throttle::Peer;
use super::bounded_writes::BoundedWrites;
use super::client_address::{client_address, is_trusted};
use super::shares::{Place, Shares};
use super::{Settings, edge};

/// How long to wait when the system has no more descriptors: accepting again at once would only spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Room for the head of a request, in bytes; twice what is allowed, so that most that are too large are told so.
const HEAD_ROOM_BYTES: usize = 32 * 1024;
/// How many connections beyond the allowed ones are told to come back; further ones wait in the kernel's queue.
const REFUSED_AT_ONCE: usize = 64;

/// Serves until `shutdown`; then accepts nothing more, finishes the requests that have started within
/// `settings.drain_timeout`, and breaks off what is left.
pub async fn serve(listener: TcpListener, router: Router, settings: &Settings, shutdown: CancellationToken) {
    let limit = ConnectionLimit::new(settings);
    let full = Router::new().fallback(edge::too_many_connections);
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    let mut stopped = pin!(shutdown.cancelled_owned());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            // Ended connections are let go of while others come.
            Some(_ended) = tasks.join_next() => continue,
            accepted = limit.accept(&listener, settings.write_timeout) => accepted,
        };
        match accepted {
            Ok(Accepted { stream, peer, place, served }) => {
                let trusted_proxies = Arc::clone(&settings.trusted_proxies);
                let router = if served.is_some() { router.clone() } else { full.clone() };
                let connection =
                    connection(stream, Connected { router, peer, trusted_proxies }, served.is_some(), settings);
                let connection = graceful.watch(connection);
                // A panic ends this connection alone: `join_next` takes the error, and the permits are released.
                tasks.spawn(async move {
                    fail::fail_point!("http::connection");
                    // How a client ends its connection is its own affair.
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection broke off");
                    }
                    drop((place, served));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
    drop(listener);
    if timeout(settings.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests were broken off: they did not end in time");
    }
    tasks.shutdown().await;
}

/// How many connections there may be: an address may have as many as it leaves free, a trusted proxy as many as there are.
struct ConnectionLimit {
    /// Served or refused.
    any: Arc<Semaphore>,
    served: Shares<IpAddr>,
    trusted_proxies: Arc<[IpNet]>,
}

struct Accepted {
    stream: TcpStream,
    peer: IpAddr,
    place: OwnedSemaphorePermit,
    /// `None`: there are too many, of all or of this address.
    served: Option<Place<IpAddr>>,
}

impl ConnectionLimit {
    fn new(settings: &Settings) -> Self {
        Self {
            any: Arc::new(Semaphore::new(settings.max_connections + REFUSED_AT_ONCE)),
            served: Shares::new(settings.max_connections),
            trusted_proxies: Arc::clone(&settings.trusted_proxies),
        }
    }

    /// The next connection, once there may be one more.
    async fn accept(&self, listener: &TcpListener, patience: Duration) -> io::Result<Accepted> {
        let place = Arc::clone(&self.any).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        // Answers are small and whole: there is nothing to wait for.
        stream.set_nodelay(true)?;
        // What the kernel has taken is not read yet: the same bound holds for it, so that a client that has gone without a
        // word, or reads no more, does not keep its connection.
        SockRef::from(&stream).set_tcp_user_timeout(Some(patience))?;
        let peer = peer.ip().to_canonical();
        let key = Peer(peer).counted();
        let served =
            if is_trusted(peer, &self.trusted_proxies) { self.served.take_any(&key) } else { self.served.take(&key) };
        Ok(Accepted { stream, peer, place, served: served.ok() })
    }
}

/// The router as one connection sees it: its requests know which address they come from.
struct Connected {
    router: Router,
    peer: IpAddr,
    trusted_proxies: Arc<[IpNet]>,
}

impl hyper::service::Service<hyper::Request<Incoming>> for Connected {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        let client = client_address(self.peer, request.headers(), &self.trusted_proxies);
        request.extensions_mut().insert(Peer(client));
        // A router is always ready.
        self.router.clone().call(request)
    }
}

fn connection(
    stream: TcpStream,
    service: Connected,
    keep_alive: bool,
    settings: &Settings,
) -> http1::Connection<TokioIo<BoundedWrites<TcpStream>>, Connected> {
    let stream = BoundedWrites::new(stream, settings.write_timeout);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(HEAD_ROOM_BYTES)
        .keep_alive(keep_alive)
        .serve_connection(TokioIo::new(stream), service)
}
