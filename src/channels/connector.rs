//! Opens connections only to checked addresses. Uses TLS if the URL has the scheme https.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::Service;

use super::MAX_TIMEOUT;
use super::resolver::ForTenant;
use crate::domain::names::TenantId;

pub(super) type Tcp = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The reason why a request failed. [`classify`](super::classify) maps the reason to an outcome.
pub(super) type ExchangeError = Box<dyn std::error::Error + Send + Sync>;

/// A connection to open.
pub(super) struct Dial {
    pub(super) uri: Uri,
    /// The look-up of the host name counts towards the limit of this tenant.
    pub(super) tenant: TenantId,
}

/// Opens connections to the addresses that resolver `R` returns. The caller must check literal addresses. The TLS handshake
/// offers HTTP/2 and HTTP/1.1. The connector has no separate deadline, because the caller drops the future when the attempt's
/// deadline expires.
#[derive(Clone)]
pub(super) struct Connector<R> {
    resolver: R,
    tls: Arc<ClientConfig>,
}

impl<R> Connector<R> {
    pub(super) fn new(resolver: R, mut tls: ClientConfig) -> Self {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { resolver, tls: Arc::new(tls) }
    }
}

impl<R: ForTenant> Service<Dial> for Connector<R> {
    type Response = Tcp;
    type Error = ExchangeError;
    type Future = Pin<Box<dyn Future<Output = Result<Tcp, ExchangeError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, dial: Dial) -> Self::Future {
        let mut tcp = HttpConnector::new_with_resolver(self.resolver.for_tenant(&dial.tenant));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // The connector divides this timeout by the number of addresses. If one address does not respond, time remains for
        // the next.
        tcp.set_connect_timeout(Some(MAX_TIMEOUT));
        // Closes an HTTP/2 connection to a dead host. Attempts share that connection, so dropping one attempt does not
        // close the connection.
        tcp.set_tcp_user_timeout(Some(MAX_TIMEOUT));
        HttpsConnector::from((tcp, Arc::clone(&self.tls))).call(dial.uri)
    }
}
