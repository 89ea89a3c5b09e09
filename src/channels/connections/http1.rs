//! An HTTP/1.1 connection without a task: it is polled only while a request waits for its response.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;

use super::Stream;

/// The longest accepted response head, in bytes, as in Node: a longer one counts as invalid HTTP. Also the most that one
/// read of a body takes.
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

    /// Writes the request and reads the response as far as possible now. Wakes `context` when more is possible. Returns
    /// true if the connection has ended; the request's future or the response body reports the reason.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) -> bool {
        self.ended = self.ended || Pin::new(&mut self.driver).poll(context).is_ready();
        self.ended
    }

    /// True if it can accept a request, as far as known on this side.
    pub(super) fn is_ready(&mut self, context: &mut Context<'_>) -> bool {
        !self.drive(context) && self.requests.is_ready()
    }

    /// True if it can be pooled for another request. A pooled connection wakes no task.
    pub(super) fn rests(&mut self) -> bool {
        self.is_ready(&mut Context::from_waker(Waker::noop()))
    }
}
