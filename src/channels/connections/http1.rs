//! An HTTP/1.1 connection without its own task. A request polls the connection while the request waits for its response.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;

use super::Stream;

/// Maximum size of a response head in bytes, the same limit as in Node. A longer head counts as invalid HTTP. One read of a
/// response body also returns at most this number of bytes.
const MAX_HEAD: usize = 16 * 1024;

pub(super) struct Http1<S: Stream> {
    pub(super) requests: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<S, Full<Bytes>>,
    ended: bool,
    pub(super) origin: Arc<str>,
    pub(super) peer: Option<SocketAddr>,
}

impl<S: Stream> Http1<S> {
    pub(super) async fn open(stream: S, origin: Arc<str>, peer: Option<SocketAddr>) -> hyper::Result<Box<Self>> {
        let (requests, driver) = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(stream).await?;
        Ok(Box::new(Self { requests, driver, ended: false, origin, peer }))
    }

    /// Writes the request and reads the response without blocking. Wakes `context` when the connection can read or write
    /// more. Returns true if the connection has ended; the request's future or the response body then reports the reason.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) -> bool {
        self.ended = self.ended || Pin::new(&mut self.driver).poll(context).is_ready();
        self.ended
    }

    /// True if the connection can accept a request. The peer might already have closed the connection unnoticed.
    pub(super) fn is_ready(&mut self, context: &mut Context<'_>) -> bool {
        !self.drive(context) && self.requests.is_ready()
    }

    /// True if the connection can be pooled for another request. A pooled connection wakes no task.
    pub(super) fn rests(&mut self) -> bool {
        self.is_ready(&mut Context::from_waker(Waker::noop()))
    }
}
