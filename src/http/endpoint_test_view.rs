//! The test of an endpoint as JSON. Values of secret headers do not get here.

use serde::Serialize;
use utoipa::ToSchema;

use super::curl::{CurlHeader, curl};
use super::delivery_view::milliseconds;
use crate::channels::Timings;
use crate::channels::webhook::{DiagnosisCode, Endpoint, EndpointTest, EndpointTestResponse};
use crate::domain::delivery::Outcome;
use crate::domain::push_config::PushConfig;
use crate::domain::secret_text::SecretText;

/// A test event and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointTestView {
    /// What would be the outcome of a delivery.
    outcome: Outcome,
    request: TestRequestView,
    /// Null where there was no answer, or nothing was sent.
    response: Option<TestResponseView>,
    timing_ms: TimingView,
    diagnosis: DiagnosisView,
    /// The secret that was made for this test and signed it, because the draft has another origin than the saved config; absent:
    /// the stored secrets signed it, or it was not signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_...")]
    signing_secret: Option<String>,
    /// The same request as a command for a shell. Secret headers are variables, `$SECRET_` and the header's name. A
    /// signature is good for a few minutes.
    #[schema(example = "curl ... --header 'authorization: '\"${SECRET_AUTHORIZATION:?}\" ...")]
    curl: String,
}

/// What was sent, or would have been.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TestRequestView {
    headers: Vec<TestHeaderView>,
    /// The bytes that were sent and signed, as text.
    body: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TestHeaderView {
    name: String,
    secret: bool,
    /// Null for a secret header.
    value: Option<String>,
}

/// What the endpoint answered. Values of secret headers that it repeats are redacted, and so are cookies.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TestResponseView {
    status: u16,
    /// The first 64. Of a redirect's target only the origin is shown.
    headers: Vec<TestAnswerHeaderView>,
    /// The first 4 KiB; null for a redirect, and where it did not arrive.
    body: Option<String>,
    /// Whether the body went on.
    truncated: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TestAnswerHeaderView {
    name: String,
    value: String,
}

/// How long each step took, in milliseconds; null: it was not needed, or did not end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimingView {
    /// The look-up of the host's name.
    dns: Option<f64>,
    /// The TCP connection.
    connect: Option<f64>,
    /// The TLS handshake.
    tls: Option<f64>,
    /// From the connection to the beginning of the answer.
    first_byte: Option<f64>,
    total: f64,
}

/// What it means, and what to do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DiagnosisView {
    code: DiagnosisCode,
    /// In plain words.
    hint: String,
}

impl EndpointTestView {
    pub(super) fn new(
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
