//! A connection of HTTP/1.1 that has no task: it moves while somebody waits for its answer, and rests in between.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;

use super::Stream;

/// The longest head of an answer that is understood, in bytes, as in Node: a longer one counts as no HTTP. Also the most that
/// is read of a body at once.
const MAX_HEAD: usize = 16 * 1024;

pub(super) struct Http1<S: Stream> {
    pub(super) requests: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<S, Full<Bytes>>,
    ended: bool,
    /// Where it leads to.
    pub(super) origin: Arc<str>,
    pub(super) peer: Option<SocketAddr>,
}

impl<S: Stream> Http1<S> {
    pub(super) async fn open(stream: S, origin: Arc<str>, peer: Option<SocketAddr>) -> hyper::Result<Box<Self>> {
        let (requests, driver) = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(stream).await?;
        Ok(Box::new(Self { requests, driver, ended: false, origin, peer }))
    }

    /// Moves what can be moved: writes the request, hands over what is read of the answer. Wakes `context` when more
    /// can be. Returns whether the connection has ended; why, the request's future or the answer's body say.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) -> bool {
        self.ended = self.ended || Pin::new(&mut self.driver).poll(context).is_ready();
        self.ended
    }

    /// Whether it would take a request, as far as is known here of the other side.
    pub(super) fn is_ready(&mut self, context: &mut Context<'_>) -> bool {
        !self.drive(context) && self.requests.is_ready()
    }

    /// Whether it can be kept for another request; it wakes nobody from now on.
    pub(super) fn rests(&mut self) -> bool {
        self.is_ready(&mut Context::from_waker(Waker::noop()))
    }
}
