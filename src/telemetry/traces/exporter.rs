//! Exports ended spans to the collector: OTLP over HTTP, as protobuf (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//! The message types are from the crate opentelemetry-proto.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use reqwest::StatusCode;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Share;
use super::span::text;
use crate::telemetry::metrics::{Metrics, SpanResult};

/// Spans per request.
const BATCH: usize = 2_048;
/// How long a batch waits for more spans.
const GATHER: Duration = Duration::from_secs(1);
/// Pauses between the attempts to send a batch. After the last attempt the batch is dropped, because other batches wait.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// How long a shutdown waits for the remaining spans.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes that are read from a response.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where the service sends traces, and which traces it sends.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The complete URL of the collector, including the path `/v1/traces`.
    pub url: Url,
    /// Headers that the collector requires. Their values are marked as sensitive.
    pub headers: HeaderMap,
    /// The resource attributes of this process, the service name first.
    pub resource: Vec<(String, String)>,
    pub share: Share,
}

/// Why a batch was not accepted.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("no response arrived: {0}")]
    NoAnswer(reqwest::Error),
    #[error("the response has the status {0}")]
    Status(StatusCode),
}

impl ExportError {
    /// True if the collector might accept the same batch later. OTLP defines the retryable statuses.
    fn may_pass(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}

/// Exports the spans that a `Tracer` records.
#[derive(Debug)]
pub struct Exporter {
    /// The client's timeout limits one export request.
    client: reqwest::Client,
    settings: Settings,
    metrics: Metrics,
    waiting: mpsc::Receiver<Span>,
    is_failing: bool,
}

/// Spans that have left the queue and are not yet exported.
#[derive(Default)]
struct Taken {
    gathered: Vec<Span>,
    batch: Option<Batch>,
}

struct Batch {
    body: Bytes,
    spans: u64,
}

impl Exporter {
    pub(super) fn new(
        client: reqwest::Client,
        settings: Settings,
        metrics: Metrics,
        waiting: mpsc::Receiver<Span>,
    ) -> Self {
        Self { client, settings, metrics, waiting, is_failing: false }
    }

    /// Exports spans until `stop`. Then exports the remaining spans within `LAST_EXPORT_TIMEOUT`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut taken = Taken::default();
        stop.run_until_cancelled(self.export(&mut taken)).await;
        // `export` also returns when the last tracer is dropped, which can happen before the shutdown.
        stop.cancelled().await;
        self.waiting.close();
        if timeout(LAST_EXPORT_TIMEOUT, self.export(&mut taken)).await.is_err() {
            let left = taken.batch.map_or(0, |batch| batch.spans) + (taken.gathered.len() + self.waiting.len()) as u64;
            self.metrics.spans_ended(SpanResult::Failed, left);
            tracing::warn!(spans = left, "the last traces were not exported in time");
        }
    }

    /// Runs until the queue is closed and empty. Cancel-safe: unfinished spans stay in `taken`.
    async fn export(&mut self, taken: &mut Taken) {
        loop {
            if let Some(batch) = &taken.batch {
                self.send(batch).await;
                taken.batch = None;
            }
            gather(&mut self.waiting, &mut taken.gathered).await;
            if taken.gathered.is_empty() {
                return;
            }
            let spans = std::mem::take(&mut taken.gathered);
            taken.batch = Some(self.batch(spans));
        }
    }

    fn batch(&self, spans: Vec<Span>) -> Batch {
        let count = spans.len() as u64;
        let attributes = self.settings.resource.iter().map(|(name, value)| text(name, value.clone())).collect();
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes, ..Resource::default() }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        };
        Batch { body: request.encode_to_vec().into(), spans: count }
    }

    /// Exports a batch, or drops it after the last attempt.
    async fn send(&mut self, batch: &Batch) {
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.post(&batch.body).await {
                Ok(rejected) => {
                    let rejected = rejected.min(batch.spans);
                    self.metrics.spans_ended(SpanResult::Failed, rejected);
                    self.metrics.spans_ended(SpanResult::Exported, batch.spans - rejected);
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("traces are exported again");
                    }
                    return;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!(%error, "traces cannot be exported; deliveries continue, excess spans are dropped");
                    }
                    let Some(pause) = pauses.next().filter(|_| error.may_pass()) else {
                        self.metrics.spans_ended(SpanResult::Failed, batch.spans);
                        tracing::debug!(%error, spans = batch.spans, "spans were dropped");
                        return;
                    };
                    sleep(pause).await;
                }
            }
        }
    }

    /// Returns the number of spans that the collector rejected.
    async fn post(&self, body: &Bytes) -> Result<u64, ExportError> {
        // The URL in an error can contain a key.
        let no_answer = |error: reqwest::Error| ExportError::NoAnswer(error.without_url());
        let request = self.client.post(self.settings.url.clone()).headers(self.settings.headers.clone());
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let mut answer = request.body(body.clone()).send().await.map_err(no_answer)?;
        if !answer.status().is_success() {
            return Err(ExportError::Status(answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        let rejected =
            ExportTraceServiceResponse::decode(bytes.as_slice()).ok().and_then(|answer| answer.partial_success);
        Ok(rejected.and_then(|rejected| u64::try_from(rejected.rejected_spans).ok()).unwrap_or(0))
    }
}

/// Collects spans until the batch is full or `GATHER` has passed. Collects none if the queue is closed and empty.
async fn gather(waiting: &mut mpsc::Receiver<Span>, spans: &mut Vec<Span>) {
    if spans.is_empty() && waiting.recv_many(spans, BATCH).await == 0 {
        return;
    }
    let end = Instant::now() + GATHER;
    while spans.len() < BATCH {
        let room = BATCH - spans.len();
        match timeout_at(end, waiting.recv_many(spans, room)).await {
            Ok(more) if more > 0 => {}
            Ok(_) | Err(_) => return,
        }
    }
}
