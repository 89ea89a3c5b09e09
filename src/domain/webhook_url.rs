//! The URL to which an agent's events are posted.
//!
//! The checks in this file use only the text. The module `channels` checks the host's addresses when the URL is saved
//! and again at every send.

use std::fmt;

use url::{ParseError, Url};

/// Maximum length of a URL, in bytes, both as entered and as sent.
pub const MAX_URL_BYTES: usize = 2_048;

/// The reason why a text is not a valid webhook URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("must be at most {MAX_URL_BYTES} bytes")]
    TooLong,
    /// The URL standard drops some of these characters silently, so that the stored URL would differ from the URL that the user
    /// entered.
    #[error("must not contain spaces or control characters")]
    InvalidCharacter,
    #[error("is not a URL: {0}")]
    Malformed(ParseError),
    #[error("must begin with https://")]
    UnknownScheme,
    #[error("must begin with https://, because this service does not send over plain http")]
    HttpNotAllowed,
    #[error("must not contain a user name or password; use a header")]
    UserInfo,
    #[error("must not contain a fragment")]
    Fragment,
    #[error("must not contain port 0")]
    PortZero,
}

/// An HTTPS URL (or HTTP, if the operator allows it) with a host, without user info and fragment.
///
/// Debug output shows only the origin, because paths and queries of webhooks often contain a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    pub fn parse(text: &str, allow_http: bool) -> Result<Self, UrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(UrlError::TooLong);
        }
        if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
            return Err(UrlError::InvalidCharacter);
        }
        let url = Url::parse(text).map_err(UrlError::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if allow_http => {}
            "http" => return Err(UrlError::HttpNotAllowed),
            _ => return Err(UrlError::UnknownScheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        if url.port() == Some(0) {
            return Err(UrlError::PortZero);
        }
        // Percent-encoding and punycode can make the URL that is sent longer than the URL that was entered.
        if url.as_str().len() > MAX_URL_BYTES {
            return Err(UrlError::TooLong);
        }
        Ok(Self(url))
    }

    /// The normalized URL, which is stored and used.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn as_url(&self) -> &Url {
        &self.0
    }

    pub fn into_url(self) -> Url {
        self.0
    }

    /// Scheme, host and port. Stored secrets stay valid only while the origin does not change.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebhookUrl").field(&self.origin()).finish()
    }
}

/// The text of a URL without its query, for readers who may not see the query.
pub fn without_query(mut url: String) -> String {
    url.truncate(url.find('?').unwrap_or(url.len()));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> UrlError {
        WebhookUrl::parse(text, false).unwrap_err()
    }

    #[test]
    fn a_url_is_stored_in_normalized_form() {
        let url = WebhookUrl::parse("HTTPS://Example.COM:443/hook?token=a", false).unwrap();
        assert_eq!(url.as_str(), "https://example.com/hook?token=a");
        assert_eq!(url.origin(), "https://example.com");
        assert_eq!(format!("{url:?}"), "WebhookUrl(\"https://example.com\")");
    }

    #[test]
    fn each_rule_for_urls_has_its_own_error() {
        assert_eq!(refused("http://example.com/"), UrlError::HttpNotAllowed);
        assert_eq!(refused("ftp://example.com/"), UrlError::UnknownScheme);
        assert_eq!(refused("https://user@example.com/"), UrlError::UserInfo);
        assert_eq!(refused("https://:pass@example.com/"), UrlError::UserInfo);
        assert_eq!(refused("https://example.com/#top"), UrlError::Fragment);
        assert_eq!(refused("https://example.com:0/"), UrlError::PortZero);
        assert_eq!(refused("https://exa\nmple.com/"), UrlError::InvalidCharacter);
        assert_eq!(refused(" https://example.com/"), UrlError::InvalidCharacter);
        assert_eq!(refused("https://"), UrlError::Malformed(ParseError::EmptyHost));
        assert_eq!(refused("/hook"), UrlError::Malformed(ParseError::RelativeUrlWithoutBase));
        assert_eq!(refused("https://1.2.3.256/"), UrlError::Malformed(ParseError::InvalidIpv4Address));
        assert_eq!(refused(&format!("https://example.com/{}", "a".repeat(2_048))), UrlError::TooLong);
    }

    #[test]
    fn the_length_limit_applies_to_the_encoded_url() {
        let text = format!("https://example.com/{}", "é".repeat(700));
        assert!(text.len() < MAX_URL_BYTES);
        assert_eq!(refused(&text), UrlError::TooLong);
    }

    #[test]
    fn plain_http_needs_the_operators_permission() {
        assert!(WebhookUrl::parse("http://example.com/", true).is_ok());
    }
}
