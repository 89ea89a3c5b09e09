//! The API documentation: Swagger UI, which is embedded in the binary and shows this deployment's OpenAPI document.

use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa_swagger_ui::Config;

use crate::http::auth::authorized::Anyone;
use crate::http::request::path::PathName;
use crate::http::request::problem::{Problem, ProblemCode};

/// The content security policy of the pages. Swagger UI needs inline styles and images in data URLs. Inline scripts and other
/// origins are blocked.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Redirects to the documentation.
#[utoipa::path(get, path = "/docs", tag = "Service",
    responses((status = 303, description = "See `/docs/index.html`",
        headers(("Location" = String, description = "The URL of the documentation.")))))]
pub(crate) async fn docs(_: Anyone) -> Redirect {
    Redirect::to("/docs/index.html")
}

/// A file of the documentation.
#[utoipa::path(get, path = "/docs/{file}", tag = "Service",
    params(("file" = String, Path, example = "index.html")),
    responses((status = 200, description = "The file", content(
        (String = "text/html"), (String = "text/css"), (String = "text/javascript"), (String = "image/png")))))]
pub(crate) async fn docs_file(_: Anyone, PathName(name): PathName) -> Result<Response, Problem> {
    // Without this setting, Swagger UI sends the document to its vendor's validator.
    let config = Config::from("/v1/openapi.json").validator_url("none");
    let file = utoipa_swagger_ui::serve(&name, Arc::new(config)).map_err(|error| {
        tracing::error!(%error, "could not serve the documentation");
        Problem::new(ProblemCode::Internal)
    })?;
    let file = file.ok_or_else(|| Problem::new(ProblemCode::NotFound))?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_str(&file.content_type).unwrap_or(HeaderValue::from_static("text/plain"))),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    let mut response = (StatusCode::OK, headers, file.bytes.into_owned()).into_response();
    if file.gzpipped {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
