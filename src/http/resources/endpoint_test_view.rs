//! The result of an endpoint test as JSON, without the values of secret headers.

use serde::Serialize;
use utoipa::ToSchema;

use crate::channels::Timings;
use crate::channels::webhook::{DiagnosisCode, Endpoint, EndpointTest, EndpointTestResponse};
use crate::domain::delivery::Outcome;
use crate::domain::push_config::PushConfig;
use crate::domain::secret_text::SecretText;
use crate::http::resources::curl::{CurlHeader, curl};
use crate::http::resources::delivery_view::milliseconds;

/// A test event and its result.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointTestView {
    /// The outcome that a delivery would have had.
    outcome: Outcome,
    request: TestRequestView,
    /// Null if no response arrived or nothing was sent.
    response: Option<TestResponseView>,
    timing_ms: TimingView,
    diagnosis: DiagnosisView,
    /// The secret that was created to sign this test's message, if the draft's origin differs from the saved config's origin.
    /// Absent if the stored secrets signed the message, or if the message was not signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_...")]
    signing_secret: Option<String>,
    /// The request as a shell command. A shell variable such as `SECRET_AUTHORIZATION` replaces the value of each secret header.
    /// The signature is valid for a few minutes.
    #[schema(example = "curl ... --header 'authorization: '\"${SECRET_AUTHORIZATION:?}\" ...")]
    curl: String,
}

/// The request that was sent, or that would have been sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestRequestView {
    headers: Vec<TestHeaderView>,
    /// The bytes that were sent and signed, as text.
    body: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestHeaderView {
    name: String,
    secret: bool,
    /// Null for a secret header.
    value: Option<String>,
}

/// The endpoint's response. Cookies, and values of secret headers that the response repeats, are redacted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestResponseView {
    status: u16,
    /// The first 64 headers of the response. For a redirect, only the origin of its target is shown.
    headers: Vec<TestAnswerHeaderView>,
    /// The first 4 KiB of the body; null for a redirect, and if no body arrived.
    body: Option<String>,
    /// Whether the shown body was cut off.
    truncated: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestAnswerHeaderView {
    name: String,
    value: String,
}

/// The duration of each step of the request in milliseconds; null if the step was not needed or did not finish.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TimingView {
    /// The DNS lookup.
    dns: Option<f64>,
    /// The TCP connection.
    connect: Option<f64>,
    /// The TLS handshake.
    tls: Option<f64>,
    /// Time from the opening of the connection to the first byte of the response.
    first_byte: Option<f64>,
    total: f64,
}

/// The meaning of the result, and how to fix the endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiagnosisView {
    code: DiagnosisCode,
    /// The explanation as text.
    hint: String,
}

impl EndpointTestView {
    pub(crate) fn new(
        endpoint: &Endpoint,
        config: &PushConfig,
        own_secret: Option<&SecretText>,
        test: EndpointTest,
    ) -> Self {
        let headers = headers(config, &test);
        let body = String::from_utf8_lossy(&test.body).into_owned();
        let arguments: Vec<_> = headers.iter().map(curl_header).collect();
        let curl = curl(endpoint.target.url().as_str(), &arguments, &body, endpoint.timeout.as_secs_f64());
        Self {
            outcome: test.outcome,
            response: test.response.map(TestResponseView::from),
            timing_ms: test.timings.into(),
            signing_secret: own_secret.map(|secret| secret.expose().to_owned()),
            diagnosis: DiagnosisView { code: test.diagnosis.code, hint: test.diagnosis.hint },
            request: TestRequestView { headers, body },
            curl,
        }
    }
}

fn headers(config: &PushConfig, test: &EndpointTest) -> Vec<TestHeaderView> {
    let is_secret = |name: &str| {
        config.headers.iter().any(|header| header.value.is_secret() && header.name.as_str().eq_ignore_ascii_case(name))
    };
    let view = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let secret = is_secret(name.as_str());
        let value = (!secret).then(|| String::from_utf8_lossy(value.as_bytes()).into_owned());
        TestHeaderView { name: name.to_string(), secret, value }
    };
    test.headers.iter().map(view).collect()
}

fn curl_header(header: &TestHeaderView) -> CurlHeader<'_> {
    match &header.value {
        Some(value) => CurlHeader::Plain { name: &header.name, value },
        None => CurlHeader::Secret { name: &header.name },
    }
}

impl From<EndpointTestResponse> for TestResponseView {
    fn from(response: EndpointTestResponse) -> Self {
        let headers = response.headers.into_iter().map(|(name, value)| TestAnswerHeaderView { name, value });
        Self {
            status: response.status.as_u16(),
            headers: headers.collect(),
            body: response.body,
            truncated: response.truncated,
        }
    }
}

impl From<Timings> for TimingView {
    fn from(timings: Timings) -> Self {
        Self {
            dns: timings.dns.map(milliseconds),
            connect: timings.connect.map(milliseconds),
            tls: timings.tls.map(milliseconds),
            first_byte: timings.first_byte.map(milliseconds),
            total: milliseconds(timings.total),
        }
    }
}
