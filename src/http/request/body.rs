//! Reads request bodies. Checks the media type, and limits the size and the arrival time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::http::request::problem::{Problem, ProblemCode, RETRY_SOON};

/// How many bytes of an oversized body are read and discarded. A client that sends the whole body before it reads the response
/// would otherwise get a connection reset.
const DISCARDED_BYTES: usize = 4 * 1024 * 1024;

/// Maximum size of a body that is not an event or a batch. A push config may have 83 KiB of headers, and JSON escapes can
/// double their size.
const MAX_JSON_BYTES: usize = 256 * 1024;

const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

/// The timeout for a body to arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyTimeout(pub(crate) Duration);

/// A JSON body that is not validated yet. The domain's parsers report all its faults.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonBody(pub Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody
where
    BodyTimeout: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = read_json(request, BodyTimeout::from_ref(state), MAX_JSON_BYTES).await?;
        parse_json(&bytes).map(Self)
    }
}

/// A JSON Merge Patch (RFC 7396) that is not validated yet. The media type may also be plain JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MergePatchBody(pub Value);

impl<S: Send + Sync> FromRequest<S> for MergePatchBody
where
    BodyTimeout: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let media_types = [JSON, MERGE_PATCH];
        let bytes = read(request, BodyTimeout::from_ref(state), MAX_JSON_BYTES, &media_types).await?;
        parse_json(&bytes).map(Self)
    }
}

/// Reads a JSON body. Returns 415 for another media type, 413 if the body is too large, and 408 if it arrives too late.
pub(crate) async fn read_json(request: Request, within: BodyTimeout, limit: usize) -> Result<Bytes, Problem> {
    read(request, within, limit, &[JSON]).await
}

async fn read(request: Request, within: BodyTimeout, limit: usize, media_types: &[&str]) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    check_media_type(&parts.headers, media_types)?;
    match timeout(within.0, collect(body, declared_length(&parts.headers), limit)).await {
        Ok(collected) => collected,
        Err(_elapsed) => Err(too_slow("the body did not arrive in time")),
    }
}

fn too_slow(detail: &str) -> Problem {
    Problem::new(ProblemCode::RequestTimeout).detail(detail).retry_after(RETRY_SOON)
}

/// Parses JSON. Returns 400 with the position of a syntax error.
pub(crate) fn parse_json<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Report only the position, because serde's message can quote the input.
        let place = format!("syntax error at line {}, column {}", error.line(), error.column());
        Problem::new(ProblemCode::InvalidJson).detail(place)
    })
}

fn check_media_type(headers: &HeaderMap, media_types: &[&str]) -> Result<(), Problem> {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim();
    let is_json = media_types.iter().any(|media_type| essence.eq_ignore_ascii_case(media_type));
    let is_plain = headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
    if is_json && is_plain { Ok(()) } else { Err(Problem::new(ProblemCode::UnsupportedMediaType)) }
}

fn declared_length(headers: &HeaderMap) -> usize {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

async fn collect(mut body: Body, declared: usize, limit: usize) -> Result<Bytes, Problem> {
    let mut bytes = Vec::with_capacity(declared.min(limit));
    while let Some(data) = next_data(&mut body).await? {
        if bytes.len() + data.len() > limit {
            discard(body).await;
            let detail = format!("the body may have at most {limit} bytes");
            return Err(Problem::new(ProblemCode::PayloadTooLarge).detail(detail));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// Returns the next data frame. Skips trailers.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_error| too_slow("the body ended early"))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn discard(mut body: Body) {
    let mut discarded = 0;
    while discarded < DISCARDED_BYTES {
        match next_data(&mut body).await {
            Ok(Some(data)) => discarded += data.len(),
            Ok(None) | Err(_) => return,
        }
    }
}
