//! Connections: as many as are allowed, none that dawdles, and an orderly end.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::bounded_writes::BoundedWrites;

/// How long to wait when the system has no more descriptors: accepting again at once would only spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Room for the head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Serves until `shutdown`; then accepts nothing more, finishes the requests that have begun within
/// `settings.drain_timeout`, and breaks off what is left.
pub async fn serve(listener: TcpListener, router: Router, settings: &Settings, shutdown: CancellationToken) {
    let connections = Arc::new(Semaphore::new(settings.max_connections));
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    let mut stopped = pin!(shutdown.cancelled_owned());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            // Ended connections are let go of while others come.
            Some(_ended) = tasks.join_next() => continue,
            accepted = accept(&listener, &connections, settings.write_timeout) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = connection(stream, router.clone(), settings);
                let connection = graceful.watch(connection);
                tasks.spawn(async move {
                    // How a client ends its connection is its own affair.
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection broke off");
                    }
                    drop(permit);
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

/// The next connection, once there may be one more.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    patience: Duration,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small and whole: there is nothing to wait for.
    stream.set_nodelay(true)?;
    // What the kernel has taken is not read yet: the same bound holds for it, so that a client that has gone without a
    // word, or reads no more, does not keep its connection.
    SockRef::from(&stream).set_tcp_user_timeout(Some(patience))?;
    Ok((stream, permit))
}

fn connection(
    stream: TcpStream,
    router: Router,
    settings: &Settings,
) -> http1::Connection<TokioIo<BoundedWrites<TcpStream>>, TowerToHyperService<Router>> {
    let stream = BoundedWrites::new(stream, settings.write_timeout);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}
