//! The destination of messages: a URL that is parsed once, not for each message.

use std::fmt;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};
use url::{Position, Url};

use crate::domain::names::TenantId;

/// A parsed URL. Cloning copies only the text of the URL.
///
/// `Debug` shows only the origin, because paths and queries of webhooks often contain a token.
#[derive(Clone)]
pub struct Target {
    url: Url,
    destination: Option<Destination>,
}

/// The destination of a request.
#[derive(Clone)]
pub(super) struct Destination {
    /// The URI for HTTP/2.
    pub(super) absolute: Uri,
    /// The URI for HTTP/1.1 (RFC 9112, section 3.2.1): only the path, because the header `Host` names the host.
    pub(super) path: Uri,
    pub(super) host: HeaderValue,
    /// Scheme, host and port. Requests to the same origin can share connections.
    pub(super) origin: Arc<str>,
    pub(super) tenant: TenantId,
}

impl Target {
    pub fn new(url: Url, tenant: TenantId) -> Self {
        Self { destination: Destination::of(&url, tenant), url }
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// `None` if the URL is not an HTTP URL.
    pub(super) fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }
}

impl Destination {
    fn of(url: &Url, tenant: TenantId) -> Option<Self> {
        let absolute = Uri::try_from(url.as_str()).ok()?;
        let path = absolute.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        // If the URL has the scheme's default port, the authority contains no port, because the URL parser removes it.
        let host = HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort]).ok()?;
        absolute.scheme()?;
        Some(Self { path: Uri::from(path), host, origin: url[..Position::AfterPort].into(), absolute, tenant })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.url.origin().ascii_serialization()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::new(Url::parse(url).unwrap(), TenantId::parse("acme").unwrap())
    }

    #[test]
    fn parses_the_destination_from_a_url() {
        for (url, host, path, origin) in [
            ("https://a.test", "a.test", "/", "https://a.test"),
            ("HTTPS://A.Test:443/b?c=d", "a.test", "/b?c=d", "https://a.test"),
            ("http://a.test:8080?c", "a.test:8080", "/?c", "http://a.test:8080"),
            ("https://[::1]:8443/b%20c/", "[::1]:8443", "/b%20c/", "https://[::1]:8443"),
        ] {
            let target = target(url);
            let found = target.destination().unwrap();
            assert_eq!(
                (found.host.to_str().unwrap(), found.path.to_string().as_str(), &*found.origin),
                (host, path, origin)
            );
            assert_eq!(found.absolute.to_string(), target.url().as_str(), "{url}");
        }
        assert!(target("mailto:a@b.test").destination().is_none());
    }

    #[test]
    fn debug_shows_only_the_origin() {
        let target = target("https://a.test/token?key=k");
        assert_eq!(format!("{target:?}"), "Target(\"https://a.test\")");
    }
}
