//! Serves the portal's files from the binary, without authentication. The portal's pages get their data from the API with the
//! user's token.

use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};

use crate::http::auth::authorized::Anyone;
use crate::http::auth::own_origin;
use crate::http::request::path::PathName;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::state::ApiState;
use crate::portal::{self, File};

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// <https://w3c.github.io/ServiceWorker/#service-worker-allowed>
const WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");

/// Redirects to the portal.
#[utoipa::path(get, path = "/", tag = "Portal", responses((status = 303, description = "See /portal/")))]
pub(crate) async fn root(_: Anyone) -> Redirect {
    Redirect::to("/portal/")
}

/// Redirects to the portal.
#[utoipa::path(get, path = "/portal", tag = "Portal", responses((status = 303, description = "See /portal/")))]
pub(crate) async fn without_slash(_: Anyone) -> Redirect {
    Redirect::to("/portal/")
}

/// Returns the portal's page.
#[utoipa::path(get, path = "/portal/", tag = "Portal",
    responses((status = 200, description = "The page"), (status = 304, description = "Not modified (`If-None-Match`)")))]
pub(crate) async fn index(_: Anyone, State(state): State<ApiState>, headers: HeaderMap) -> Result<Response, Problem> {
    answer(&state, portal::INDEX, &headers)
}

/// Returns a file of the portal, such as the client module `notifications.js` or the service worker `sw.js`.
#[utoipa::path(get, path = "/portal/{file}", tag = "Portal",
    params(("file" = String, Path, example = "notifications.js")),
    responses((status = 200, description = "The file"), (status = 304, description = "Not modified (`If-None-Match`)"),
        (status = 404, description = "No such file")))]
pub(crate) async fn file(
    _: Anyone,
    State(state): State<ApiState>,
    PathName(name): PathName,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&state, &name, &headers)
}

/// Returns a file in a folder of the portal.
#[utoipa::path(get, path = "/portal/{folder}/{file}", tag = "Portal",
    params(("folder" = String, Path, example = "notifications"), ("file" = String, Path, example = "state.js")),
    responses((status = 200, description = "The file"), (status = 304, description = "Not modified (`If-None-Match`)"),
        (status = 404, description = "No such file")))]
pub(crate) async fn file_in_folder(
    _: Anyone,
    State(state): State<ApiState>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path((folder, name)) = path.map_err(|_no_text| Problem::new(ProblemCode::NotFound))?;
    answer(&state, &format!("{folder}/{name}"), &headers)
}

fn answer(state: &ApiState, path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let has_tokens = path == portal::SIGN_IN && state.settings.sign_in_choices.is_some();
    if has_tokens && !own_origin::is_own_page(&state.settings.own_hosts, headers) {
        return Err(Problem::new(ProblemCode::NotFound).detail("only the portal's pages may read this file"));
    }
    let File { content_type, etag, bytes } =
        state.portal.file(path).ok_or_else(|| Problem::new(ProblemCode::NotFound))?;
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &etag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, HeaderValue::from_static(content_type))], bytes).into_response()
    };
    let headers = response.headers_mut();
    // Quotes and hexadecimal digits are always valid in a header value.
    headers.extend(HeaderValue::from_str(&etag).map(|etag| (ETAG, etag)));
    // Browsers revalidate a file on each use and get 304 if it has not changed. So updates apply at once, and files of different
    // versions do not mix for long.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(portal::CONTENT_SECURITY_POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    if path == portal::WORKER {
        headers.insert(WORKER_ALLOWED, HeaderValue::from_static("/"));
    }
    Ok(response)
}

/// Whether the header `If-None-Match` contains the tag. The comparison is weak, as GET requires (RFC 9110, 13.1.2).
fn names(if_none_match: &HeaderValue, etag: &str) -> bool {
    let tags = if_none_match.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.into_iter().any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
