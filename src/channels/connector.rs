//! How connections are opened: to vetted addresses only, with TLS where the URL says so, and not for ever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use tokio::time::timeout;
use tower::Service;

use super::MAX_TIMEOUT;

/// Opens connections to what the resolver `R` answers; literal addresses are the caller's to vet.
pub(super) type Connector<R> = HttpsConnector<HttpConnector<R>>;

/// The connector, without the bound that [`Bounded`] gives. It offers HTTP/2 and HTTP/1.1.
pub(super) fn connector<R>(resolver: R, tls: ClientConfig) -> Connector<R> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // A deadline drops its attempt; these end what the pool goes on with by itself.
    tcp.set_connect_timeout(Some(MAX_TIMEOUT));
    tcp.set_tcp_user_timeout(Some(MAX_TIMEOUT));
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp)
}

/// A connector that gives up after the longest deadline, TLS included: a pool goes on with a connection whose request has
/// found another one.
#[derive(Debug, Clone)]
pub(super) struct Bounded<S>(pub(super) S);

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Box<dyn std::error::Error + Send + Sync>>> + Send>>;

impl<S> Service<Uri> for Bounded<S>
where
    S: Service<Uri>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Connecting<S::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            match timeout(MAX_TIMEOUT, connecting).await {
                Ok(connection) => connection.map_err(Into::into),
                Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}
