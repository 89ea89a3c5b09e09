//! How connections are opened: to vetted addresses only, with TLS where the URL says so.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;

use super::MAX_TIMEOUT;

/// Opens connections to what the resolver `R` answers; literal addresses are the caller's to vet.
pub(super) type Connector<R> = HttpsConnector<HttpConnector<R>>;

/// What it opens.
pub(super) type Tcp = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The connector. It offers HTTP/2 and HTTP/1.1. Its TLS has no deadline but that of the caller, who drops it.
pub(super) fn connector<R>(resolver: R, tls: ClientConfig) -> Connector<R> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Divided by the addresses of a name: one that does not answer leaves time for the next within the longest deadline.
    tcp.set_connect_timeout(Some(MAX_TIMEOUT));
    // A deadline drops its attempt and so its connection; this ends one that attempts share.
    tcp.set_tcp_user_timeout(Some(MAX_TIMEOUT));
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp)
}
