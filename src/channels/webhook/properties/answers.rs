//! Sends arbitrary response bytes of an endpoint over a real connection, once for a delivery and once for an endpoint test.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::super::diagnosis_code::DiagnosisCode;
use super::super::endpoint_test::{MAX_SHOWN_BYTES, MAX_SHOWN_HEADERS, MAX_SHOWN_VALUE_BYTES};
use super::super::{Endpoint, EndpointTest, MAX_EXCERPT_BYTES, configured_headers, redactor, send, test_endpoint};
use super::messages::{delivery, plain_event};
use crate::channels::{HttpClient, Target, properties};
use crate::domain::delivery::{Attempt, Delivery, Outcome};
use crate::domain::names::TenantId;
use crate::domain::push_config::{Header, HeaderName, HeaderValue};
use crate::domain::secret_text::SecretText;
use crate::domain::webhook_url::WebhookUrl;

/// A secret in the request, which some endpoints echo.
const SECRET: &str = "hunter2-hunter2";

/// The endpoint's next response.
static ANSWER: Mutex<Bytes> = Mutex::new(Bytes::new());

/// One client and one endpoint for all responses, which are tested one after another.
static SCENE: LazyLock<Mutex<Scene>> = LazyLock::new(|| Mutex::new(Scene::new()));

struct Scene {
    runtime: Runtime,
    client: HttpClient,
    endpoint: Endpoint,
    delivery: Delivery,
}

impl Scene {
    fn new() -> Self {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            panic!("no runtime");
        };
        let Ok(url) = WebhookUrl::parse(&format!("http://{}/hook?key=k", serve()), true) else { panic!("a URL") };
        let value = HeaderValue::Secret(SecretText::new(format!("Bearer {SECRET}")));
        let configured = [Header { name: HeaderName::from_stored("Authorization".to_owned()), value }];
        let Some(headers) = configured_headers(&configured) else { panic!("headers") };
        let redactor = redactor(&configured, []);
        let loopback = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8));
        Self {
            runtime,
            client: properties::client(vec![loopback]),
            endpoint: Endpoint {
                target: Target::new(url.into_url(), TenantId::from_stored("acme".to_owned())),
                headers,
                secrets: Vec::new(),
                timeout: Duration::from_secs(10),
                redactor,
            },
            delivery: delivery(plain_event()),
        }
    }
}

/// An endpoint that reads each request completely, sends [`ANSWER`] and closes the connection.
fn serve() -> SocketAddr {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.unwrap_or_else(|error| panic!("no listener: {error}"));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let answer = ANSWER.lock().clone();
            // The client may close the connection first.
            connection.and_then(|connection| exchange(connection, &answer)).ok();
        }
    });
    address
}

fn exchange(mut connection: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // The request ends with the empty metadata object.
    while !request.ends_with(b"{}}}") {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    connection.write_all(answer)
}

/// Sends a delivery and an endpoint test to an endpoint that responds with these bytes.
pub fn answer(input: &[u8]) {
    let scene = SCENE.lock();
    let Scene { runtime, client, endpoint, delivery } = &*scene;
    *ANSWER.lock() = Bytes::copy_from_slice(input);
    let attempt = runtime.block_on(send(client, endpoint, delivery, false, DateTime::UNIX_EPOCH));
    assert_recorded(&attempt);
    let test = runtime.block_on(test_endpoint(client, endpoint, delivery, DateTime::UNIX_EPOCH));
    assert_shown(&test);
    // A delivery can fail because the endpoint closed the pooled connection after the previous response. A test always opens
    // a new connection.
    if attempt.outcome != Outcome::ConnectError {
        assert_eq!(test.outcome, attempt.outcome, "a test must have the outcome of a delivery");
    }
}

/// Checks that the status determines the outcome, and that the stored excerpt is short, fits any database, and contains no
/// secret of the request.
fn assert_recorded(attempt: &Attempt) {
    let Attempt { outcome, http_status, detail, .. } = attempt;
    let of_status = http_status.map(|status| match status {
        200..=299 => Outcome::Delivered,
        300..=399 => Outcome::Redirect,
        410 => Outcome::Gone,
        429 => Outcome::Throttled,
        _ => Outcome::HttpError,
    });
    let note = detail.as_ref().and_then(|detail| detail.note.as_ref());
    match (of_status, note) {
        (Some(expected), None) => assert_eq!(*outcome, expected),
        // The response was not complete.
        (_, Some(note)) => {
            let broken = [Outcome::ConnectError, Outcome::ProtocolError];
            assert!(broken.contains(outcome), "{attempt:?}");
            assert!(!note.is_empty());
        }
        (None, None) => panic!("no status and no note: {attempt:?}"),
    }
    if let Some(body) = detail.as_ref().and_then(|detail| detail.response_body.as_ref()) {
        assert!(body.len() <= MAX_EXCERPT_BYTES && !body.contains(SECRET) && !body.contains('\0'), "{body:?}");
        assert_ne!(*outcome, Outcome::Redirect, "{body:?}");
    }
}

/// Checks that the shown response is bounded and contains no secret of the request.
fn assert_shown(test: &EndpointTest) {
    assert!(!test.diagnosis.hint.is_empty() && !test.diagnosis.hint.contains(SECRET));
    let delivered = [DiagnosisCode::Delivered, DiagnosisCode::Slow].contains(&test.diagnosis.code);
    assert_eq!(delivered, test.outcome == Outcome::Delivered, "{:?}", test.diagnosis);
    let Some(response) = &test.response else { return };
    assert!(response.headers.len() <= MAX_SHOWN_HEADERS);
    for (name, value) in &response.headers {
        assert!(value.len() <= MAX_SHOWN_VALUE_BYTES && !value.contains(SECRET), "{name}: {value}");
        if name == "location" {
            let is_origin = url::Url::parse(value).is_ok_and(|url| url.origin().ascii_serialization() == *value);
            assert!(is_origin || value == "[redacted]", "shows more than an origin: {value}");
        }
    }
    assert!(!response.status.is_redirection() || response.body.is_none());
    if let Some(body) = &response.body {
        assert!(body.len() <= MAX_SHOWN_BYTES && !body.contains(SECRET) && !body.contains('\0'), "{body:?}");
    }
}
