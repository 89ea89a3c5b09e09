//! The one HTTP client: it decides where a message may go, and sends it once.
//!
//! - Every address is vetted, of names by the resolver and of literals here; the peer is looked at again when it answers.
//! - One deadline spans look-up, connection, TLS, headers and body.
//! - What the other side may have processed is never sent again: no redirects, no retries by the library. A request
//!   that provably was not goes once to a new connection, within the same deadline. (Where a pooled connection turns out
//!   closed before anything was written, hyper-util does the same.)
//! - Answers are bounded and never inflated.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, InvalidHeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connect, HttpInfo};
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::address::AddressRules;
use super::classify::{self, Failure};
use super::connector::{Bounded, Connector, connector};
use super::guard::Guard;
use super::resolver::{GuardedResolver, Lookup, ResolveError, VetError, system_lookup};
use super::{MAX_TIMEOUT, Settings};
use crate::telemetry::metrics::Metrics;

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

/// How much is read from a connection at once, in bytes: an answer to a webhook is short, and thousands are waited for.
const READ_BUFFER: usize = 4 * 1024;

/// Why the client could not be made; only at start.
#[derive(Debug, thiserror::Error)]
#[error("TLS could not be set up, or a certificate authority of the settings is not valid")]
pub struct BuildError(#[from] rustls::Error);

/// What went wrong with a request; [`classify`] knows what it means.
pub(super) type ExchangeError = Box<dyn std::error::Error + Send + Sync>;

/// The client below the guard: connections, their pool, HTTP/1.1 and HTTP/2. reqwest would stand on the same one; it adds
/// copies of the headers, a parsed URL for each answer and some 8 KiB per waiting request.
pub(super) type Sender<C> = Client<C, Full<Bytes>>;

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
    pooled: Sender<Bounded<Connector<GuardedResolver>>>,
    /// Opens a connection for each request: for what was not processed on a pooled one.
    fresh: Sender<Bounded<Connector<GuardedResolver>>>,
    resolver: GuardedResolver,
    /// What a client of a single request is made of.
    settings: Settings,
    tls: ClientConfig,
}

impl HttpClient {
    pub fn new(settings: &Settings, metrics: &Metrics) -> Result<Self, BuildError> {
        Self::with_lookup(settings, metrics, system_lookup)
    }

    /// A client that asks `lookup` for the addresses of names; they are vetted all the same.
    pub fn with_lookup(settings: &Settings, metrics: &Metrics, lookup: Lookup) -> Result<Self, BuildError> {
        let guard = Guard::new(AddressRules::new(settings.allowed_networks.clone()), metrics.clone());
        let resolver = GuardedResolver::new(guard, lookup);
        let tls = crate::tls::client_config(&settings.extra_roots)?;
        let connector = Bounded(connector(resolver.clone(), tls.clone()));
        let pooled = sender(connector.clone(), MAX_IDLE_PER_HOST);
        let fresh = sender(connector, 0);
        Ok(Self(Arc::new(Shared { pooled, fresh, resolver, settings: settings.clone(), tls })))
    }

    pub(super) fn resolver(&self) -> &GuardedResolver {
        &self.0.resolver
    }

    pub(super) fn tls(&self) -> &ClientConfig {
        &self.0.tls
    }

    /// The deadline where an endpoint names none.
    pub fn default_timeout(&self) -> Duration {
        self.0.settings.default_timeout
    }

    /// Whether messages may go to the URL's host as it resolves now. Sends nothing. A host that passes is vetted again
    /// at every send.
    pub async fn vet(&self, url: &Url) -> Result<(), VetError> {
        let deadline = Instant::now() + self.0.settings.default_timeout;
        let guard = self.0.resolver.guard();
        let found = match url.host() {
            Some(Host::Domain(name)) => {
                timeout_at(deadline, self.0.resolver.addresses(name)).await.map_err(|_elapsed| VetError::TimedOut)?
            }
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => {
                guard.judge_literal(url).map(|()| Arc::default()).map_err(ResolveError::from)
            }
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
        // Pinned here: a future that is moved into another takes its room twice, and thousands wait at once.
        self.guarded(post, pin!(self.exchange(request, post))).await
    }

    /// What holds of every request, whichever client sends it: `exchange` begins only if the URL may be sent to, and
    /// the deadline spans it and the reading of the answer.
    pub(super) async fn guarded(
        &self,
        post: &Post<'_>,
        exchange: impl Future<Output = Result<Response<Incoming>, ExchangeError>>,
    ) -> Result<Answer, Broken> {
        let deadline = Instant::now() + post.timeout;
        let before_answer = |failure| Broken { status: None, failure };
        if post.url.scheme() != "https" && !self.0.settings.allow_http {
            return Err(before_answer(Failure::UnusableUrl));
        }
        let guard = self.0.resolver.guard();
        guard.judge_literal(post.url).map_err(Failure::from).map_err(before_answer)?;
        let response = within(deadline, Failure::NoAnswerInTime, exchange).await.map_err(before_answer)?;
        let peer = response.extensions().get::<HttpInfo>().map(HttpInfo::remote_addr);
        guard.judge_peer(post.url, peer).map_err(Failure::from).map_err(before_answer)?;
        let status = response.status();
        within(deadline, Failure::UnfinishedAnswer, pin!(read(response)))
            .await
            .map_err(|failure| Broken { status: Some(status), failure })
    }

    /// One request, but for what was certainly not processed. (What is left: when a connection ends in the very instant
    /// in which hyper is handed the request, the request may be forgotten and run into its deadline, unsent:
    /// <https://github.com/hyperium/hyper/issues/4122>. Remove this note with its fix.)
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        post: &Post<'_>,
    ) -> Result<Response<Incoming>, ExchangeError> {
        match self.0.pooled.request(request).await {
            Err(error) if classify::was_never_processed(&error) => match post.request() {
                Ok(request) => Ok(self.0.fresh.request(request).await?),
                Err(_unwritable) => Err(error.into()),
            },
            answer => Ok(answer?),
        }
    }
}

impl Post<'_> {
    pub(super) fn request(&self) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::try_from(self.url.as_str()).map_err(|_invalid| Failure::UnusableUrl)?;
        let mut headers = (self.headers)().map_err(|_invalid| Failure::UnwritableHeaders)?;
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(super::USER_AGENT));
        *request.headers_mut() = headers;
        Ok(request)
    }
}

async fn within<T>(
    deadline: Instant,
    late: Failure,
    step: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, Failure> {
    match timeout_at(deadline, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            // The client's errors hold no URL, which may hold a token.
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            tracing::debug!(error, "A request brought no answer");
            Err(classify::failure(error))
        }
        Err(_elapsed) => Err(late),
    }
}

/// Reads the body up to its bound. One that fits is read to its end, which gives the connection back to the pool; what
/// is left of a longer one goes with its connection.
async fn read(response: Response<Incoming>) -> Result<Answer, ExchangeError> {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    let mut truncated = false;
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame?.into_data() else { continue };
        let room = MAX_ANSWER_BYTES - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            truncated = true;
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: head.status, headers: head.headers, body, truncated })
}

/// A client that sends through `connector`, keeps that many unused connections per host, and repeats nothing but what
/// found its pooled connection closed.
pub(super) fn sender<C>(connector: C, max_idle_per_host: usize) -> Sender<C>
where
    C: Connect + Clone,
{
    Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(max_idle_per_host)
        .http1_read_buf_exact_size(READ_BUFFER)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .http2_keep_alive_timeout(MAX_TIMEOUT)
        .build(connector)
}
