//! The one HTTP client: it decides where a message may go, and sends it once.
//!
//! - Every address is vetted, of names by the resolver and of literals here; the peer is looked at again when it answers.
//! - One deadline spans look-up, connection, TLS, headers and body.
//! - What the other side may have processed is never sent again: no redirects, no retries by the library. A request
//!   that provably was not goes once to a new connection, within the same deadline. (Where a pooled connection turns out
//!   closed before anything was written, hyper-util does the same.)
//! - Answers are bounded and never inflated.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::InvalidHeaderValue;
use http::{HeaderMap, Method, StatusCode};
use reqwest::dns::Resolve;
use reqwest::{Request, Response, redirect, retry};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::address::AddressRules;
use super::classify::{self, Failure};
use super::measured::Stopwatch;
use super::resolver::{GuardedResolver, Lookup, ResolveError, VetError, system_lookup};
use super::{MAX_TIMEOUT, Settings, USER_AGENT};

/// How much of an answer's body is read. A longer one costs its connection.
const MAX_ANSWER_BYTES: usize = 8 * 1024;

/// How long a connection stays open unused. Common servers close after 5 s (Node); to be earlier avoids the race in
/// which they close just as a request leaves, which would burn its only attempt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Unused connections that are kept per host: as many as attempts by default, else an ebb closes what a flood reopens.
const MAX_IDLE_PER_HOST: usize = 1_000;

/// Receive windows of HTTP/2, in bytes: a stream never needs more than the part of a body that is read, a connection
/// serves many streams.
const HTTP2_STREAM_WINDOW: u32 = 16 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// An HTTP/2 connection whose host went silent is found by pings. It is given up after the longest deadline, so that no
/// attempt ends earlier by it.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(5);

/// Why the client could not be made; only at start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("TLS could not be set up, or a certificate authority of the settings is not valid")]
    Tls(#[from] rustls::Error),
    #[error("the HTTP client could not be set up")]
    Client(#[from] reqwest::Error),
}

/// A whole answer, or the beginning of one.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// At most [`MAX_ANSWER_BYTES`].
    pub(super) body: Vec<u8>,
    /// Whether the body went on.
    pub(super) truncated: bool,
}

/// One message.
pub(super) struct Post<'a> {
    pub(super) url: &'a Url,
    /// Writes the headers, the same ones each time. Written when they are needed and given away: thousands of messages
    /// wait for their answers at once.
    pub(super) headers: &'a (dyn Fn() -> Result<HeaderMap, InvalidHeaderValue> + Sync),
    pub(super) body: Bytes,
    pub(super) timeout: Duration,
}

/// An attempt that brought no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    /// Where the answer at least began.
    pub(super) status: Option<StatusCode>,
    pub(super) failure: Failure,
}

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct HttpClient(Arc<Shared>);

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

struct Shared {
    pooled: reqwest::Client,
    /// Opens a connection for each request: for what was not processed on a pooled one.
    fresh: reqwest::Client,
    resolver: GuardedResolver,
    /// What a client of a single request is made of.
    settings: Settings,
    tls: ClientConfig,
}

impl HttpClient {
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        Self::with_lookup(settings, system_lookup)
    }

    /// A client that asks `lookup` for the addresses of names; they are vetted all the same.
    pub fn with_lookup(settings: &Settings, lookup: Lookup) -> Result<Self, BuildError> {
        let resolver = GuardedResolver::new(AddressRules::new(settings.allowed_networks.clone()), lookup);
        let tls = tls_config(settings)?;
        let client = |max_idle_per_host| {
            builder(settings, resolver.clone(), tls.clone()).pool_max_idle_per_host(max_idle_per_host).build()
        };
        let (pooled, fresh) = (client(MAX_IDLE_PER_HOST)?, client(0)?);
        Ok(Self(Arc::new(Shared { pooled, fresh, resolver, settings: settings.clone(), tls })))
    }

    /// A client of one request, whose connection nobody has opened before and nobody uses after: no TLS session is
    /// resumed, and `stopwatch` learns of each of its steps.
    pub(super) fn of_one_request(&self, stopwatch: &Stopwatch) -> Result<reqwest::Client, reqwest::Error> {
        let mut tls = self.0.tls.clone();
        tls.resumption = Resumption::store(Arc::new(stopwatch.clone()));
        builder(&self.0.settings, stopwatch.resolver(self.0.resolver.clone()), tls)
            .connector_layer(stopwatch.clone())
            .pool_max_idle_per_host(0)
            .build()
    }

    /// The deadline where an endpoint names none.
    pub fn default_timeout(&self) -> Duration {
        self.0.settings.default_timeout
    }

    /// Whether messages may go to the URL's host as it resolves now. Sends nothing. A host that passes is vetted again
    /// at every send.
    pub async fn vet(&self, url: &Url) -> Result<(), VetError> {
        let deadline = Instant::now() + self.0.settings.default_timeout;
        let found = match url.host() {
            Some(Host::Domain(name)) => {
                timeout_at(deadline, self.0.resolver.addresses(name)).await.map_err(|_elapsed| VetError::TimedOut)?
            }
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => self.vet_literal(url).map(|()| Arc::default()),
            None => Err(ResolveError::Unresolved),
        };
        match found {
            Ok(_) => Ok(()),
            Err(ResolveError::Forbidden(_)) => Err(VetError::BlockedAddress),
            Err(ResolveError::Unresolved) => Err(VetError::Unresolved),
        }
    }

    /// Sends the message once and reads the answer. Dropping the future closes the connection (HTTP/1.1) or resets the
    /// stream (HTTP/2); the message may have been processed by then.
    pub(super) async fn post(&self, post: &Post<'_>) -> Result<Answer, Broken> {
        let request = post.request().map_err(|failure| Broken { status: None, failure })?;
        self.guarded(post, self.exchange(request, post)).await
    }

    /// What holds of every request, whichever client sends it: `exchange` begins only if the URL may be sent to, and
    /// the deadline spans it and the reading of the answer.
    pub(super) async fn guarded(
        &self,
        post: &Post<'_>,
        exchange: impl Future<Output = Result<Response, reqwest::Error>>,
    ) -> Result<Answer, Broken> {
        let deadline = Instant::now() + post.timeout;
        let before_answer = |failure| Broken { status: None, failure };
        self.vet_literal(post.url).map_err(Failure::from).map_err(before_answer)?;
        let response = within(deadline, Failure::NoAnswerInTime, exchange).await.map_err(before_answer)?;
        self.vet_peer(post.url, response.remote_addr()).map_err(Failure::from).map_err(before_answer)?;
        let status = response.status();
        within(deadline, Failure::UnfinishedAnswer, read(response))
            .await
            .map_err(|failure| Broken { status: Some(status), failure })
    }

    /// One request, but for what was certainly not processed. (What is left: when a connection ends in the very instant
    /// in which hyper is handed the request, the request may be forgotten and run into its deadline, unsent:
    /// <https://github.com/hyperium/hyper/issues/4122>. Remove this note with its fix.)
    async fn exchange(&self, request: Request, post: &Post<'_>) -> Result<Response, reqwest::Error> {
        match self.0.pooled.execute(request).await {
            Err(error) if classify::was_never_processed(&error) => match post.request() {
                Ok(request) => self.0.fresh.execute(request).await,
                Err(_unwritable) => Err(error),
            },
            answer => answer,
        }
    }

    /// The connector does not ask the resolver for hosts that are addresses already. The URL parser has turned every
    /// notation (`0x7f.1`, `2130706433`, ...) into the address that it means.
    fn vet_literal(&self, url: &Url) -> Result<(), ResolveError> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.vet_address(url, IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => self.vet_address(url, IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    /// Nothing but vetted addresses is connected to; should that ever fail, it is known and shown.
    fn vet_peer(&self, url: &Url, peer: Option<SocketAddr>) -> Result<(), ResolveError> {
        peer.map_or(Ok(()), |peer| self.vet_address(url, peer.ip()))
    }

    fn vet_address(&self, url: &Url, address: IpAddr) -> Result<(), ResolveError> {
        if self.0.resolver.rules().allow(address) {
            return Ok(());
        }
        tracing::warn!(host = url.host_str(), %address, "A host has an address that is not allowed");
        Err(ResolveError::Forbidden(address))
    }
}

impl Post<'_> {
    pub(super) fn request(&self) -> Result<Request, Failure> {
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = (self.headers)().map_err(|_invalid| Failure::UnwritableHeaders)?;
        *request.body_mut() = Some(self.body.clone().into());
        Ok(request)
    }
}

async fn within<T>(
    deadline: Instant,
    late: Failure,
    step: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, Failure> {
    match timeout_at(deadline, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            // A URL may hold a token.
            let error = error.without_url();
            tracing::debug!(error = &error as &dyn std::error::Error, "A request brought no answer");
            Err(classify::failure(&error))
        }
        Err(_elapsed) => Err(late),
    }
}

/// Reads the body up to its bound. One that fits is read to its end, which gives the connection back to the pool; what
/// is left of a longer one goes with its connection.
async fn read(mut response: Response) -> Result<Answer, reqwest::Error> {
    let mut body = Vec::new();
    let mut truncated = false;
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            truncated = true;
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: response.status(), headers: std::mem::take(response.headers_mut()), body, truncated })
}

fn tls_config(settings: &Settings) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in &settings.extra_roots {
        roots.add(root.clone())?;
    }
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

#[expect(clippy::disallowed_methods, reason = "this is the client that guards addresses")]
fn builder(settings: &Settings, resolver: impl Resolve + 'static, tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(resolver)
        .user_agent(USER_AGENT)
        .https_only(!settings.allow_http)
        // A proxy of the environment would connect in our place, to any address.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never().max_retries_per_request(0))
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        // A deadline drops its attempt; these end what the pool goes on with by itself.
        .connect_timeout(MAX_TIMEOUT)
        .tcp_user_timeout(MAX_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .http2_keep_alive_timeout(MAX_TIMEOUT)
}
