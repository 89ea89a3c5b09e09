//! A trace collector on a real socket. It decodes OTLP requests, and can reject them, respond slowly or not respond.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::waiting::within;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    /// Returns this status and stores no spans.
    Refuses(StatusCode),
    Hangs,
}

/// A request as received.
#[derive(Debug, Clone)]
pub(crate) struct Export {
    pub(crate) headers: http::HeaderMap,
    pub(crate) resource: HashMap<String, String>,
    pub(crate) spans: Vec<Span>,
}

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

struct Record {
    mood: Mutex<Mood>,
    exports: Mutex<Vec<Export>>,
    asked: Mutex<usize>,
}

impl Collector {
    pub(crate) async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record { mood: mood.into(), exports: Mutex::default(), asked: Mutex::default() });
        let task = tokio::spawn(serve(listener, Arc::clone(&record)));
        Self { address, record, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/collector", self.address)
    }

    pub(crate) fn be(&self, mood: Mood) {
        *self.record.mood.lock().unwrap() = mood;
    }

    /// The number of requests to the collector, including the rejected requests.
    pub(crate) fn asked(&self) -> usize {
        *self.record.asked.lock().unwrap()
    }

    pub(crate) fn exports(&self) -> Vec<Export> {
        self.record.exports.lock().unwrap().clone()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.exports().into_iter().flat_map(|export| export.spans).collect()
    }

    /// Waits until there are `count` spans with this name.
    pub(crate) async fn named(&self, name: &str, count: usize) -> Vec<Span> {
        let named = || self.spans().into_iter().filter(|span| span.name == name).collect::<Vec<_>>();
        within(PATIENCE, &format!("{count} spans named {name:?} are exported"), async || named().len() >= count).await;
        assert_eq!(named().len(), count, "{name}");
        named()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, record: Arc<Record>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let record = Arc::clone(&record);
        let service = service_fn(move |request| {
            let record = Arc::clone(&record);
            async move { Ok::<_, Infallible>(record.take(request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Record {
    async fn take(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/collector/v1/traces"));
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        *self.asked.lock().unwrap() += 1;
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Takes => {}
            Mood::Refuses(status) => {
                return Response::builder().status(status).body(Full::default()).unwrap();
            }
            Mood::Hangs => std::future::pending().await,
        }
        let decoded = ExportTraceServiceRequest::decode(body).unwrap();
        for of_resource in decoded.resource_spans {
            let resource = attributes(&of_resource.resource.unwrap().attributes);
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
            self.exports.lock().unwrap().push(Export { headers: head.headers.clone(), resource, spans });
        }
        let answer = ExportTraceServiceResponse::default().encode_to_vec();
        Response::builder().header("content-type", "application/x-protobuf").body(Full::new(answer.into())).unwrap()
    }
}

/// Attribute values as text, by name.
pub(crate) fn attributes(attributes: &[KeyValue]) -> HashMap<String, String> {
    let value = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|one| (one.key.clone(), value(&one.value))).collect()
}

pub(crate) fn hex(id: &[u8]) -> String {
    let digits: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}
