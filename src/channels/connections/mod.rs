//! Connections that can be used for more than one request.
//!
//! An HTTP/1.1 connection serves one request at a time, and the request polls the connection ([`http1`]). So an attempt uses
//! its socket directly: it needs no task and no channel, and wakes no other thread. An HTTP/2 connection has a task, and
//! many requests share it. ALPN selects the protocol when a connection opens.

mod http1;
mod pool;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Extensions, Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http2};
use hyper::rt::Executor as _;
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service;

use self::http1::Http1;
use self::pool::{Http2, Pool, PooledConnection};
use super::MAX_TIMEOUT;
use super::connector::{Dial, ExchangeError};
use super::target::Destination;

/// Receive windows of HTTP/2 in bytes. A stream needs only the part of the response body that the client reads. A connection
/// serves many streams.
const HTTP2_STREAM_WINDOW: u32 = 16 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Pings detect an HTTP/2 connection whose host no longer responds. The connection is closed only after the longest deadline,
/// so that no attempt fails early.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(5);

/// The request that every channel sends, without a URI and without the header `Host`.
pub(super) type Message = Request<Full<Bytes>>;

/// Creates the message; every call returns the same message. A connection calls this function when it accepts the request.
/// The message is not kept in memory, because thousands of requests wait for their responses at once.
pub(super) type Writer<'a> = &'a (dyn Fn() -> Result<Message, ExchangeError> + Sync);

pub(super) trait Stream: hyper::rt::Read + hyper::rt::Write + Connection + Unpin + Send + 'static {}

impl<S: hyper::rt::Read + hyper::rt::Write + Connection + Unpin + Send + 'static> Stream for S {}

/// A pool of connections over streams `S`, which the connector `C` opens.
pub(super) struct Connections<C, S: Stream> {
    connector: C,
    pool: Pool<S>,
}

/// A response whose head has arrived and whose body is still to be read.
pub(super) struct PendingResponse<'a, S: Stream> {
    pub(super) response: Response<AnswerBody<'a, S>>,
    /// The address of the endpoint.
    pub(super) peer: Option<SocketAddr>,
}

/// The body of a response. Reading the whole body returns the connection to the pool. Dropping the body earlier closes the
/// connection (HTTP/1.1) or resets the stream (HTTP/2).
pub(super) struct AnswerBody<'a, S: Stream> {
    incoming: Incoming,
    /// The HTTP/1.1 connection to poll; `None` for HTTP/2.
    connection: Option<Box<Http1<S>>>,
    pool: &'a Pool<S>,
}

/// The result of a request: the head of the response, or the error.
type Head = Result<Response<Incoming>, TrySendError<Message>>;

/// A message that a connection has accepted.
struct Sent<S: Stream> {
    answer: Pin<Box<dyn Future<Output = Head> + Send>>,
    connection: Option<Box<Http1<S>>>,
    peer: Option<SocketAddr>,
}

/// The request failed before a response arrived.
struct Failed {
    error: ExchangeError,
    /// True if no byte of the request was written to the socket.
    unsent: bool,
}

impl<C, S> Connections<C, S>
where
    C: Service<Dial, Response = S> + Clone,
    C::Error: Into<ExchangeError>,
    S: Stream,
{
    /// Pools at most `max_idle` idle HTTP/1.1 connections for each origin.
    pub(super) fn new(connector: C, max_idle: usize) -> Self {
        Self { connector, pool: Pool::new(max_idle) }
    }

    /// Sends a message on a pooled connection, or on a new one. If a pooled connection closed before any byte was written to
    /// it, tries the next connection. Dropping the future or the response aborts the request.
    pub(super) async fn request(
        &self,
        to: &Destination,
        write: Writer<'_>,
    ) -> Result<PendingResponse<'_, S>, ExchangeError> {
        while let Some(kept) = poll_fn(|context| Poll::Ready(self.pool.take(&to.origin, context))).await {
            let is_shared = matches!(kept, PooledConnection::Http2(_));
            match self.send(kept, to, write).await {
                Ok(pending) => return Ok(pending),
                Err(Failed { error, unsent: false }) => return Err(error),
                // Do not retry on a pooled connection, because the pool may return the same shared connection again.
                Err(_unsent) if is_shared => break,
                Err(_unsent) => {}
            }
        }
        self.request_by_new(to, write).await
    }

    /// Sends a message on a new connection.
    pub(super) async fn request_by_new(
        &self,
        to: &Destination,
        write: Writer<'_>,
    ) -> Result<PendingResponse<'_, S>, ExchangeError> {
        // The future is boxed, so that thousands of waiting requests do not keep the memory for opening a connection.
        let opened = Box::pin(self.open(to)).await?;
        self.send(opened, to, write).await.map_err(|failed| failed.error)
    }

    async fn send(
        &self,
        by: PooledConnection<S>,
        to: &Destination,
        write: Writer<'_>,
    ) -> Result<PendingResponse<'_, S>, Failed> {
        let mut sent = Sent::by(by, to, write()?);
        let head = poll_fn(|context| sent.poll(context)).await?;
        let Sent { connection, peer, answer: _ } = sent;
        Ok(PendingResponse {
            response: head.map(|incoming| AnswerBody { incoming, connection, pool: &self.pool }),
            peer,
        })
    }

    async fn open(&self, to: &Destination) -> Result<PooledConnection<S>, ExchangeError> {
        let mut connector = self.connector.clone();
        poll_fn(|context| connector.poll_ready(context)).await.map_err(Into::into)?;
        let stream =
            connector.call(Dial { uri: to.absolute.clone(), tenant: to.tenant.clone() }).await.map_err(Into::into)?;
        let connected = stream.connected();
        let mut known = Extensions::new();
        connected.get_extras(&mut known);
        let peer = known.get().map(HttpInfo::remote_addr);
        if !connected.is_negotiated_h2() {
            return Ok(PooledConnection::Http1(Http1::open(stream, Arc::clone(&to.origin), peer).await?));
        }
        let (requests, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(MAX_TIMEOUT)
            .handshake(stream)
            .await?;
        // The task is not awaited, because it ends when no request uses the connection and the pool has dropped the
        // connection.
        TokioExecutor::new().execute(async move {
            if let Err(error) = driver.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "An HTTP/2 connection ended with an error");
            }
        });
        let connection = Http2::new(requests, peer);
        self.pool.share(&to.origin, &connection);
        Ok(PooledConnection::Http2(connection))
    }
}

impl<S: Stream> Sent<S> {
    fn by(kept: PooledConnection<S>, to: &Destination, mut message: Message) -> Self {
        match kept {
            PooledConnection::Http1(mut connection) => {
                message.uri_mut().clone_from(&to.path);
                message.headers_mut().insert(HOST, to.host.clone());
                let answer = Box::pin(connection.requests.try_send_request(message));
                Self { answer, peer: connection.peer, connection: Some(connection) }
            }
            PooledConnection::Http2(mut connection) => {
                message.uri_mut().clone_from(&to.absolute);
                let answer = Box::pin(connection.requests.try_send_request(message));
                Self { answer, peer: connection.peer, connection: None }
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Response<Incoming>, Failed>> {
        // Poll the connection first, because polling it completes the response.
        let ended = self.connection.as_mut().is_some_and(|connection| connection.drive(context));
        match self.answer.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(answer.map_err(Failed::from)),
            // hyper lost the message and does not report whether a part was sent
            // (https://github.com/hyperium/hyper/issues/4122).
            Poll::Pending if ended => {
                let closed: ExchangeError = io::Error::from(io::ErrorKind::UnexpectedEof).into();
                Poll::Ready(Err(closed.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl From<TrySendError<Message>> for Failed {
    fn from(error: TrySendError<Message>) -> Self {
        Self { unsent: error.message().is_some(), error: error.into_error().into() }
    }
}

impl From<ExchangeError> for Failed {
    fn from(error: ExchangeError) -> Self {
        Self { error, unsent: false }
    }
}

impl<S: Stream> Body for AnswerBody<'_, S> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.incoming.is_end_stream() {
            if let Some(connection) = &mut self.connection {
                // The result is not needed, because the response body reports why the connection ended.
                connection.drive(context);
            }
            let frame = Pin::new(&mut self.incoming).poll_frame(context);
            if !matches!(frame, Poll::Ready(None)) {
                return frame;
            }
        }
        if let Some(connection) = self.connection.take() {
            self.pool.park(connection);
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
