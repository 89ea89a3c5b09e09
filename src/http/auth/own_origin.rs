//! Protects a demonstration: it accepts only requests to its own host, and returns the sign-in tokens only to its own pages
//! and to programs other than browsers.
//!
//! An attacker can point a host name to 127.0.0.1 (DNS rebinding). The attacker's page then has the same origin as the
//! demonstration and could read the tokens, but its requests still have the attacker's host name in `Host`.

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use axum::http::uri::Authority;

use crate::http::request::problem::{Problem, ProblemCode};

/// <https://w3c.github.io/webappsec-fetch-metadata/#sec-fetch-site-header>
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Rejects a request to a host that is not in the list `own`. An empty list accepts any host.
pub(crate) fn check_host(own: &[String], request: &Request) -> Result<(), Problem> {
    if own.is_empty() || host(request).is_some_and(|host| own.iter().any(|own| own.eq_ignore_ascii_case(host))) {
        return Ok(());
    }
    Err(Problem::new(ProblemCode::NotFound)
        .detail(format!("this demonstration is available only at {}", own.join(" and "))))
}

/// The host that the request names in its header or its URI; `None` if the header `Host` occurs several times.
fn host(request: &Request) -> Option<&str> {
    let mut headers = request.headers().get_all(HOST).iter();
    match (headers.next(), headers.next()) {
        (None, _) => request.uri().authority().map(Authority::as_str),
        (Some(header), None) => header.to_str().ok(),
        (Some(_), Some(_)) => None,
    }
}

/// Whether the request comes from a page of a host in the list `own`, or from a program that is not a browser.
pub(crate) fn is_own_page(own: &[String], headers: &HeaderMap) -> bool {
    let is_own = |origin: &HeaderValue| own.iter().any(|own| *origin == format!("http://{own}"));
    headers.get(FETCH_SITE).is_none_or(|site| site == "same-origin") && headers.get(ORIGIN).is_none_or(is_own)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn own() -> Vec<String> {
        vec!["127.0.0.1:8080".to_owned(), "localhost:8080".to_owned()]
    }

    fn request(uri: &str, hosts: &[&str]) -> Request {
        let request = hosts.iter().fold(Request::builder().uri(uri), |request, host| request.header(HOST, *host));
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn accepts_only_the_hosts_of_the_demonstration() {
        for (uri, hosts, is_answered) in [
            ("/", ["127.0.0.1:8080"].as_slice(), true),
            ("/", &["LocalHost:8080"], true),
            ("http://localhost:8080/", &[], true),
            ("/", &["rebound.example:8080"], false),
            ("/", &["localhost"], false),
            ("/", &["localhost:8080.rebound.example"], false),
            ("/", &["rebound.example:8080", "localhost:8080"], false),
            ("http://localhost:8080/", &["rebound.example:8080"], false),
            ("http://rebound.example:8080/", &[], false),
            ("/", &[], false),
        ] {
            assert_eq!(check_host(&own(), &request(uri, hosts)).is_ok(), is_answered, "{uri} {hosts:?}");
            assert!(check_host(&[], &request(uri, hosts)).is_ok());
        }
    }

    #[test]
    fn accepts_pages_of_the_demonstration_and_programs() {
        for (headers, is_own) in [
            ([].as_slice(), true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("origin", "http://localhost:8080")], true),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("origin", "http://localhost:3000")], false),
            (&[("origin", "null")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://localhost:8080")], false),
        ] {
            let map =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            assert_eq!(is_own_page(&own(), &map.collect()), is_own, "{headers:?}");
        }
    }
}
