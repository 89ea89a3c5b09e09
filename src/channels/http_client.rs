//! The HTTP client of all channels. It checks whether a message may be sent to its destination, and makes one attempt to
//! send the message.
//!
//! - The resolver checks the addresses of host names. This module checks literal addresses, and also checks the peer's
//!   address after the connection opens.
//! - One deadline covers DNS, connection, TLS, headers and body.
//! - A request that the endpoint may have processed is never sent again, so redirects and the library's retries are
//!   disabled. A request that was certainly not processed is sent once more on a new connection, within the same deadline.
//!   [`Connections`] also repeats a request if a pooled connection closed before any byte was written.
//! - Responses are bounded and never decompressed.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, InvalidHeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use rustls::ClientConfig;
use tokio::time::{Sleep, timeout};
use url::{Host, Url};

use super::address::AddressRules;
use super::classify::{self, Failure};
use super::connections::{AnswerBody, Connections, Message, PendingResponse, Stream};
use super::connector::{Connector, ExchangeError, Tcp};
use super::guard::Guard;
use super::resolver::{GuardedResolver, Lookup, ResolveError, VetError, by_name_servers};
use super::target::Destination;
use super::{Settings, Target};
use crate::domain::names::TenantId;
use crate::telemetry::metrics::Metrics;

/// How many bytes of a response body are read. If a body is longer, the client closes the connection.
const MAX_ANSWER_BYTES: usize = 8 * 1024;

/// Maximum number of idle connections per host, equal to the default number of concurrent attempts. With a lower limit,
/// each load peak would open new connections.
const MAX_IDLE_PER_HOST: usize = 1_000;

/// The client could not be built. Happens only at start.
#[derive(Debug, thiserror::Error)]
#[error("TLS could not be set up, or a certificate authority in the settings is not valid")]
pub struct BuildError(#[from] rustls::Error);

/// A response with its complete body, or with the beginning of a long body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// At most [`MAX_ANSWER_BYTES`].
    pub(super) body: Vec<u8>,
    /// True if the response body was longer than the limit.
    pub(super) truncated: bool,
}

/// One message.
pub(super) struct Post<'a> {
    pub(super) to: &'a Target,
    /// Creates the headers; every call returns the same headers.
    pub(super) headers: &'a (dyn Fn() -> Result<HeaderMap, InvalidHeaderValue> + Sync),
    pub(super) body: Bytes,
    pub(super) timeout: Duration,
}

/// The reason why a request has no complete response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExchangeFailure {
    /// The status, if the head of the response arrived.
    pub(super) status: Option<StatusCode>,
    pub(super) failure: Failure,
}

/// Sends requests. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct HttpClient(Arc<Shared>);

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

struct Shared {
    connections: Connections<Connector<GuardedResolver>, Tcp>,
    resolver: GuardedResolver,
    /// Kept to build clients that send a single request.
    settings: Settings,
    tls: ClientConfig,
}

impl HttpClient {
    pub fn new(settings: &Settings, metrics: &Metrics) -> Result<Self, BuildError> {
        Self::with_lookup(settings, metrics, by_name_servers(&settings.name_servers))
    }

    /// A client that resolves names with `lookup` and checks the addresses. For tests.
    pub fn with_lookup(settings: &Settings, metrics: &Metrics, lookup: Lookup) -> Result<Self, BuildError> {
        let rules = AddressRules::new(settings.allowed_networks.clone(), settings.denied_networks.clone());
        let resolver = GuardedResolver::new(Guard::new(rules, metrics.clone()), settings.lookups, lookup);
        let tls = crate::tls::client_config(&settings.extra_roots)?;
        let connections = Connections::new(Connector::new(resolver.clone(), tls.clone()), MAX_IDLE_PER_HOST);
        Ok(Self(Arc::new(Shared { connections, resolver, settings: settings.clone(), tls })))
    }

    pub(super) fn resolver(&self) -> &GuardedResolver {
        &self.0.resolver
    }

    pub(super) fn tls(&self) -> &ClientConfig {
        &self.0.tls
    }

    /// The deadline for endpoints without a timeout.
    pub fn default_timeout(&self) -> Duration {
        self.0.settings.default_timeout
    }

    /// Resolves the URL's host and checks that the tenant's messages may be sent there. Sends nothing. Every send checks
    /// the host again.
    pub async fn vet(&self, url: &Url, tenant: &TenantId) -> Result<(), VetError> {
        let resolver = &self.0.resolver;
        let name = match url.host() {
            Some(Host::Domain(name)) => name,
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => {
                return resolver.guard().judge_literal(url).map_err(|_forbidden| VetError::BlockedAddress);
            }
            None => return Err(VetError::Unresolved),
        };
        match timeout(self.0.settings.default_timeout, resolver.addresses(name, tenant)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(ResolveError::Forbidden(_) | ResolveError::Unresolved)) => Err(VetError::Unresolved),
            Ok(Err(ResolveError::TimedOut)) | Err(_) => Err(VetError::TimedOut),
        }
    }

    /// Sends the message and reads the response. Dropping the future closes the connection (HTTP/1.1) or resets the stream
    /// (HTTP/2); the endpoint may have processed the message by then.
    pub(super) async fn post(&self, post: &Post<'_>) -> Result<Answer, ExchangeFailure> {
        let destination = post.destination().map_err(|failure| ExchangeFailure { status: None, failure })?;
        // Pinned here, because moving a future into another future doubles its memory, and thousands of attempts wait at once.
        self.guarded(post, pin!(self.exchange(destination, post))).await
    }

    /// Applies the rules for every request. `exchange` starts only if the URL is allowed. One deadline covers `exchange`
    /// and reading the response.
    pub(super) async fn guarded<S: Stream>(
        &self,
        post: &Post<'_>,
        exchange: impl Future<Output = Result<PendingResponse<'_, S>, ExchangeError>>,
    ) -> Result<Answer, ExchangeFailure> {
        let before_answer = |failure| ExchangeFailure { status: None, failure };
        if post.to.url().scheme() != "https" && !self.0.settings.allow_http {
            return Err(before_answer(Failure::UnusableUrl));
        }
        let guard = self.0.resolver.guard();
        guard.judge_literal(post.to.url()).map_err(Failure::from).map_err(before_answer)?;
        // Sending and reading use the same timer, so that the runtime registers only one timer.
        let mut deadline = pin!(tokio::time::sleep(post.timeout));
        let PendingResponse { response, peer } =
            within(deadline.as_mut(), Failure::NoAnswerInTime, exchange).await.map_err(before_answer)?;
        guard.judge_peer(post.to.url(), peer).map_err(Failure::from).map_err(before_answer)?;
        let status = response.status();
        // The future is boxed, so that thousands of waiting requests do not reserve memory for reading.
        within(deadline, Failure::UnfinishedAnswer, Box::pin(read(response)))
            .await
            .map_err(|failure| ExchangeFailure { status: Some(status), failure })
    }

    /// Sends the request. Repeats it once if the endpoint has certainly not processed it. (Known gap: if an HTTP/2
    /// connection ends just when hyper receives the request, hyper can lose the request. The request is then not sent and
    /// times out: <https://github.com/hyperium/hyper/issues/4122>. Remove this note when hyper has a fix.)
    async fn exchange(&self, to: &Destination, post: &Post<'_>) -> Result<PendingResponse<'_, Tcp>, ExchangeError> {
        let write = || post.message();
        match self.0.connections.request(to, &write).await {
            Err(error) if classify::was_never_processed(error.as_ref()) => {
                Box::pin(self.0.connections.request_by_new(to, &write)).await
            }
            answer => answer,
        }
    }
}

impl Post<'_> {
    pub(super) fn destination(&self) -> Result<&Destination, Failure> {
        self.to.destination().ok_or(Failure::UnusableUrl)
    }

    /// The request to send, without a URI.
    pub(super) fn message(&self) -> Result<Message, ExchangeError> {
        let mut message = Message::new(Full::new(self.body.clone()));
        *message.method_mut() = Method::POST;
        let mut headers = (self.headers)()?;
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(super::USER_AGENT));
        *message.headers_mut() = headers;
        Ok(message)
    }
}

async fn within<T>(
    mut deadline: Pin<&mut Sleep>,
    late: Failure,
    step: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = step => done.map_err(|error| {
            // The errors are safe to log, because they do not contain the URL, which can contain a token.
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            tracing::debug!(error, "A request failed before a complete response arrived");
            classify::failure(error)
        }),
        () = deadline.as_mut() => Err(late),
    }
}

/// Reads the response body up to its limit. If the body ends within the limit, the connection returns to the pool. If the
/// body is longer, the connection is closed and the rest stays unread.
async fn read<S: Stream>(response: Response<AnswerBody<'_, S>>) -> Result<Answer, ExchangeError> {
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
