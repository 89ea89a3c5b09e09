//! The URL of the portal.

use std::net::SocketAddr;

use url::Url;

/// The portal's URL, as shown to users.
pub(super) fn url(public_url: Option<&Url>, listener: SocketAddr) -> String {
    let origin = match public_url {
        Some(url) => url.origin().ascii_serialization(),
        None if listener.ip().is_unspecified() => format!("http://localhost:{}", listener.port()),
        None => format!("http://{listener}"),
    };
    format!("{origin}/portal/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portal_url_uses_the_public_url_or_the_listener() {
        let public = Url::parse("https://notify.example.com").unwrap();
        for (public_url, listener, expected) in [
            (Some(&public), "0.0.0.0:8080", "https://notify.example.com/portal/"),
            (None, "0.0.0.0:8080", "http://localhost:8080/portal/"),
            (None, "[::]:8080", "http://localhost:8080/portal/"),
            (None, "127.0.0.1:9000", "http://127.0.0.1:9000/portal/"),
            (None, "[::1]:9000", "http://[::1]:9000/portal/"),
        ] {
            assert_eq!(url(public_url, listener.parse().unwrap()), expected);
        }
    }
}
