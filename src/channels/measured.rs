//! Sends one request and measures each step, for users who test an endpoint.
//!
//! The same rules apply as to every other request ([`HttpClient::guarded`]). But this request always opens a new connection,
//! so that DNS, TCP and TLS can be measured. Requests of deliveries are not measured.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use hyper_util::client::legacy::connect::dns::Name;
use parking_lot::Mutex;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tower::Service;

use super::HttpClient;
use super::connections::Connections;
use super::connector::{Connector, Tcp};
use super::http_client::{Answer, ExchangeFailure, Post};
use super::resolver::{Addresses, ForTenant, GuardedResolver, ResolveError, TenantResolver};
use crate::domain::names::TenantId;

/// How long each step took; `None` if the step was not needed or did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    pub dns: Option<Duration>,
    pub connect: Option<Duration>,
    pub tls: Option<Duration>,
    /// Time from the opening of the connection to the arrival of the response head.
    pub first_byte: Option<Duration>,
    /// Time from the start of the request to the end of the response or to the failure.
    pub total: Duration,
}

/// The step in which a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Lookup,
    Connection,
    Tls,
    Answer,
}

/// The result of a request with the duration of each step.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) result: Result<Answer, ExchangeFailure>,
    /// The headers of the response; empty if no response arrived.
    pub(super) headers: HeaderMap,
    pub(super) timings: Timings,
    /// The last step that the request started.
    pub(super) step: Step,
}

impl HttpClient {
    /// Like [`HttpClient::post`], but sends the message on a new connection.
    pub(super) async fn post_measured(&self, post: &Post<'_>) -> Measured {
        let stopwatch = Stopwatch::start();
        let mut headers = HeaderMap::new();
        let destination = match post.destination() {
            Ok(destination) => destination,
            Err(failure) => {
                let ((timings, step), result) = (stopwatch.read(), Err(ExchangeFailure { status: None, failure }));
                return Measured { result, headers, timings, step };
            }
        };
        let connections = self.of_one_request(&stopwatch);
        let exchange = async {
            let pending = connections.request(destination, &|| post.message()).await?;
            stopwatch.note(|marks| &mut marks.answered);
            headers.clone_from(pending.response.headers());
            Ok(pending)
        };
        let result = self.guarded(post, exchange).await;
        // A response from a forbidden address must reveal nothing.
        if matches!(result, Err(ExchangeFailure { status: None, .. })) {
            headers.clear();
        }
        let (timings, step) = stopwatch.read();
        Measured { result, headers, timings, step }
    }

    /// Creates a client for one request, without TLS session resumption. `stopwatch` records each step of the request.
    fn of_one_request(
        &self,
        stopwatch: &Stopwatch,
    ) -> Connections<TimedConnector<Connector<TimedResolver<GuardedResolver>>>, Tcp> {
        let mut tls = self.tls().clone();
        tls.resumption = Resumption::store(Arc::new(stopwatch.clone()));
        let resolver = TimedResolver { inner: self.resolver().clone(), stopwatch: stopwatch.clone() };
        Connections::new(TimedConnector { inner: Connector::new(resolver, tls), stopwatch: stopwatch.clone() }, 0)
    }
}

/// Records when each step of one request happens. All clones write to the same record.
#[derive(Debug, Clone)]
struct Stopwatch {
    started: Instant,
    marks: Arc<Mutex<Marks>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    connecting: Option<Instant>,
    looking_up: Option<Instant>,
    looked_up: Option<Instant>,
    handshaking: Option<Instant>,
    connected: Option<Instant>,
    answered: Option<Instant>,
}

impl Stopwatch {
    fn start() -> Self {
        Self { started: Instant::now(), marks: Arc::default() }
    }

    /// Records the current time for a step. Only the first call for each step counts.
    fn note(&self, mark: impl FnOnce(&mut Marks) -> &mut Option<Instant>) {
        let mut marks = self.marks.lock();
        mark(&mut marks).get_or_insert_with(Instant::now);
    }

    fn read(&self) -> (Timings, Step) {
        let marks = *self.marks.lock();
        (marks.timings(self.started.elapsed()), marks.step())
    }
}

impl Marks {
    fn timings(&self, total: Duration) -> Timings {
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.duration_since(from?));
        Timings {
            dns: between(self.looking_up, self.looked_up),
            connect: between(self.looked_up.or(self.connecting), self.handshaking.or(self.connected)),
            tls: between(self.handshaking, self.connected),
            first_byte: between(self.connected, self.answered),
            total,
        }
    }

    fn step(&self) -> Step {
        if self.connected.is_some() {
            Step::Answer
        } else if self.handshaking.is_some() {
            Step::Tls
        } else if self.looking_up.is_some() && self.looked_up.is_none() {
            Step::Lookup
        } else {
            Step::Connection
        }
    }
}

/// A resolver that records when each look-up starts and ends.
#[derive(Clone)]
struct TimedResolver<R> {
    inner: R,
    stopwatch: Stopwatch,
}

impl ForTenant for TimedResolver<GuardedResolver> {
    type Resolver = TimedResolver<TenantResolver>;

    fn for_tenant(&self, tenant: &TenantId) -> Self::Resolver {
        TimedResolver { inner: self.inner.for_tenant(tenant), stopwatch: self.stopwatch.clone() }
    }
}

impl Service<Name> for TimedResolver<TenantResolver> {
    type Response = Addresses;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Addresses, ResolveError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (answer, stopwatch) = (self.inner.call(name), self.stopwatch.clone());
        Box::pin(async move {
            stopwatch.note(|marks| &mut marks.looking_up);
            let answer = answer.await;
            stopwatch.note(|marks| &mut marks.looked_up);
            answer
        })
    }
}

/// Wraps the connector. Records the end of the TLS handshake when the connector returns the connection.
#[derive(Debug, Clone)]
struct TimedConnector<S> {
    inner: S,
    stopwatch: Stopwatch,
}

impl<S, Request> Service<Request> for TimedConnector<S>
where
    S: Service<Request>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.stopwatch.note(|marks| &mut marks.connecting);
        let (connecting, stopwatch) = (self.inner.call(request), self.stopwatch.clone());
        Box::pin(async move {
            let connection = connecting.await?;
            stopwatch.note(|marks| &mut marks.connected);
            Ok(connection)
        })
    }
}

/// A TLS session cache that stays empty. rustls queries the cache at the start of each handshake. The query marks the end of
/// the TCP connect, which the connector does not report.
impl ClientSessionStore for Stopwatch {
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.note(|marks| &mut marks.handshaking);
        None
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.note(|marks| &mut marks.handshaking);
        None
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.note(|marks| &mut marks.handshaking);
        None
    }

    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}
}
