//! Serves connections: limits their number, closes slow ones, and shuts down gracefully.

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

use crate::http::auth::throttle::Peer;
use crate::http::server::bounded_writes::BoundedWrites;
use crate::http::server::client_address::{client_address, is_trusted};
use crate::http::server::edge;
use crate::http::server::shares::{Place, Shares};
use crate::http::settings::Settings;

/// Pause when the system has no more file descriptors, because immediate retries would fail and use CPU time.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Size of the buffer for the head of a request, in bytes: twice the limit, so that most oversized requests get an error
/// response.
const HEAD_ROOM_BYTES: usize = 32 * 1024;
/// Maximum number of connections that wait for a 503 response. Further connections are closed without a response.
const REFUSED_AT_ONCE: usize = 64;
/// How long a connection over the limit may take to send the request that gets 503.
const REFUSED_HEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves connections until `shutdown` is canceled. Then stops accepting, and waits for open requests at most the time
/// `settings.drain_timeout`. After that, aborts the requests that are still open.
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
            // Remove finished connections while others arrive.
            Some(_ended) = tasks.join_next() => continue,
            accepted = limit.accept(&listener, settings.write_timeout) => accepted,
        };
        match accepted {
            // Close the connection at once, because enough connections already wait for a 503 response.
            Ok(Accepted { served: None, refused: None, .. }) => {}
            Ok(Accepted { stream, peer, served, refused }) => {
                let trusted_proxies = Arc::clone(&settings.trusted_proxies);
                let is_served = served.is_some();
                let router = if is_served { router.clone() } else { full.clone() };
                let connection = connection(stream, Connected { router, peer, trusted_proxies }, is_served, settings);
                let connection = graceful.watch(connection);
                // A panic ends only this connection: the task set takes the error, and the permits are released.
                tasks.spawn(async move {
                    fail::fail_point!("http::connection");
                    // Logged only at debug level, because a client may close its connection in any way.
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection failed");
                    }
                    drop((served, refused));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
    drop(listener);
    if timeout(settings.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "aborted requests that did not finish in time");
    }
    tasks.shutdown().await;
}

/// Limits connections. An address may open a connection while it has fewer connections than are free. A trusted proxy may use
/// all connections.
struct ConnectionLimit {
    served: Shares<IpAddr>,
    /// Permits for connections that get 503. These connections do not count for the limit.
    refused: Arc<Semaphore>,
    trusted_proxies: Arc<[IpNet]>,
}

struct Accepted {
    stream: TcpStream,
    peer: IpAddr,
    /// The connection's permit; `None` if the total limit or the address's limit is reached.
    served: Option<Place<IpAddr>>,
    /// The permit to respond with 503 if the connection is not served.
    refused: Option<OwnedSemaphorePermit>,
}

impl ConnectionLimit {
    fn new(settings: &Settings) -> Self {
        Self {
            served: Shares::new(settings.max_connections),
            refused: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
            trusted_proxies: Arc::clone(&settings.trusted_proxies),
        }
    }

    async fn accept(&self, listener: &TcpListener, patience: Duration) -> io::Result<Accepted> {
        let (stream, peer) = listener.accept().await?;
        // Responses are small and written at once, so Nagle's algorithm would only delay them.
        stream.set_nodelay(true)?;
        // Also limits how long the kernel keeps sent data unacknowledged, so that a client that vanished or stopped reading does
        // not keep its connection.
        SockRef::from(&stream).set_tcp_user_timeout(Some(patience))?;
        let peer = peer.ip().to_canonical();
        let key = Peer(peer).counted();
        let served =
            if is_trusted(peer, &self.trusted_proxies) { self.served.take_any(&key) } else { self.served.take(&key) };
        let refused = served.is_err().then(|| Arc::clone(&self.refused).try_acquire_owned().ok()).flatten();
        Ok(Accepted { stream, peer, served: served.ok(), refused })
    }
}

/// The router for one connection: adds the peer address to each request.
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
    is_served: bool,
    settings: &Settings,
) -> http1::Connection<TokioIo<BoundedWrites<TcpStream>>, Connected> {
    let stream = BoundedWrites::new(stream, settings.write_timeout);
    let head_timeout = if is_served { settings.head_timeout } else { settings.head_timeout.min(REFUSED_HEAD_TIMEOUT) };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_ROOM_BYTES)
        .keep_alive(is_served)
        .serve_connection(TokioIo::new(stream), service)
}
