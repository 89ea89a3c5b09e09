//! A configured header: the names and values that may be sent with a webhook.

use std::fmt;

use crate::domain::secret_text::SecretText;

/// Maximum length of a header name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Maximum length of a header value, in bytes.
pub const MAX_VALUE_BYTES: usize = 4_096;

/// Header names that frame or route the message, or that the service sets.
const FORBIDDEN: [&str; 14] = [
    "accept-encoding",
    "connection",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];

const FORBIDDEN_PREFIXES: [&str; 5] = ["content-", "proxy-", "webhook-", "x-flametree-", "x-forwarded-"];

/// The metadata services of Google, Oracle, Azure, Amazon, Alibaba and Akamai return credentials to requests with these headers.
const METADATA: [&str; 4] = ["metadata", "metadata-flavor", "x-google-metadata-request", "x-metadata-token"];
const METADATA_PREFIXES: [&str; 3] = ["metadata-token", "x-aliyun-ecs-metadata-token", "x-aws-ec2-metadata-token"];

/// Names of headers whose values are always credentials.
const ALWAYS_SECRET: [&str; 2] = ["authorization", "cookie"];

/// The reason why a header name is invalid. The message does not quote the name, because users may type a value into the wrong
/// field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderNameError {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {MAX_NAME_BYTES} bytes")]
    TooLong,
    #[error("must consist of letters, digits and !#$%&'*+-.^_`|~")]
    NotAToken,
    #[error("is a header that the service or the connection sets itself")]
    Reserved,
    #[error("is a header that makes cloud metadata services return credentials")]
    CloudMetadata,
}

/// The name of a configured header, in its original case: an RFC 9110 token that a config may set.
#[derive(Debug, Clone)]
pub struct HeaderName(String);

impl HeaderName {
    pub fn parse(text: impl Into<String>) -> Result<Self, HeaderNameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(HeaderNameError::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(HeaderNameError::TooLong);
        }
        if !text.bytes().all(is_token_byte) {
            return Err(HeaderNameError::NotAToken);
        }
        let lower = text.to_ascii_lowercase();
        if is_listed(&lower, &METADATA, &METADATA_PREFIXES) {
            return Err(HeaderNameError::CloudMetadata);
        }
        if is_listed(&lower, &FORBIDDEN, &FORBIDDEN_PREFIXES) {
            return Err(HeaderNameError::Reserved);
        }
        Ok(Self(text))
    }

    /// Wraps a header name from the database, which was checked before it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if the header's value is always a credential, so that it is never shown.
    pub fn is_always_secret(&self) -> bool {
        ALWAYS_SECRET.iter().any(|name| self.0.eq_ignore_ascii_case(name))
    }
}

/// Compares names case-insensitively (RFC 9110, section 5.1).
impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for HeaderName {}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_listed(name: &str, names: &[&str], prefixes: &[&str]) -> bool {
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// True for a character of a token (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The reason why a header value is invalid. The message does not quote the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderValueError {
    /// If empty values were valid, an empty form field would erase a stored secret.
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {MAX_VALUE_BYTES} bytes")]
    TooLong,
    #[error("must consist of visible ASCII characters, spaces and tabs")]
    InvalidCharacter,
    #[error("must not begin or end with white space")]
    OuterWhiteSpace,
}

/// Checks a header value: visible ASCII characters, with spaces and tabs only between them.
pub fn parse_value(text: String) -> Result<SecretText, HeaderValueError> {
    let text = SecretText::new(text);
    let value = text.expose();
    if value.is_empty() {
        return Err(HeaderValueError::Empty);
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(HeaderValueError::TooLong);
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t') {
        return Err(HeaderValueError::InvalidCharacter);
    }
    if value.starts_with([' ', '\t']) || value.ends_with([' ', '\t']) {
        return Err(HeaderValueError::OuterWhiteSpace);
    }
    Ok(text)
}

/// A header value and its visibility. Every value is encrypted in the database and hidden in debug output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// Every user who may read the config sees the value.
    Plain(SecretText),
    /// No user sees the value, not even the user who entered it.
    Secret(SecretText),
}

impl HeaderValue {
    pub fn is_secret(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Secret(_) => true,
        }
    }

    /// The value, for code that encrypts or sends it.
    pub fn text(&self) -> &SecretText {
        match self {
            Self::Plain(text) | Self::Secret(text) => text,
        }
    }
}

/// A header that is sent with every message of an agent's webhook.
#[derive(Debug, Clone)]
pub struct Header {
    pub name: HeaderName,
    pub value: HeaderValue,
}

/// Compares names with their case. A name in another case denotes the same header, but counts as a change of the config.
impl PartialEq for Header {
    fn eq(&self, other: &Self) -> bool {
        self.name.as_str() == other.name.as_str() && self.value == other.value
    }
}

impl Eq for Header {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_for_header_names_has_its_own_error() {
        use HeaderNameError as Error;
        let long = "x".repeat(129);
        let table = [
            ("", Error::Empty),
            (long.as_str(), Error::TooLong),
            ("X Key", Error::NotAToken),
            ("X:Key", Error::NotAToken),
            (":authority", Error::NotAToken),
            ("X-K\u{e9}y", Error::NotAToken),
            ("X-Key\r\nHost", Error::NotAToken),
            ("(x)", Error::NotAToken),
            ("HOST", Error::Reserved),
            ("Content-Type", Error::Reserved),
            ("content-anything", Error::Reserved),
            ("Transfer-Encoding", Error::Reserved),
            ("TE", Error::Reserved),
            ("Traceparent", Error::Reserved),
            ("X-Forwarded-For", Error::Reserved),
            ("Proxy-Authorization", Error::Reserved),
            ("Webhook-Signature", Error::Reserved),
            ("X-Flametree-Event", Error::Reserved),
            ("Metadata", Error::CloudMetadata),
            ("Metadata-Flavor", Error::CloudMetadata),
            ("X-Google-Metadata-Request", Error::CloudMetadata),
            ("X-Metadata-Token", Error::CloudMetadata),
            ("X-aws-ec2-metadata-token", Error::CloudMetadata),
            ("X-aws-ec2-metadata-token-ttl-seconds", Error::CloudMetadata),
            ("X-Aliyun-Ecs-Metadata-Token", Error::CloudMetadata),
        ];
        for (text, error) in table {
            assert_eq!(HeaderName::parse(text).unwrap_err(), error, "{text}");
        }
        for name in FORBIDDEN {
            assert_eq!(HeaderName::parse(name).unwrap_err(), Error::Reserved, "{name}");
        }
    }

    #[test]
    fn allows_header_names_that_resemble_forbidden_names() {
        let longest = "x".repeat(128);
        for text in
            ["X-Host", "Dated", "x-content", "contents", "X-Metadata", "Via-X", "a", "!#$%&'*+-.^_`|~", &longest]
        {
            assert_eq!(HeaderName::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn names_are_case_insensitive() {
        assert_eq!(HeaderName::parse("X-Key"), HeaderName::parse("x-kEY"));
        assert!(HeaderName::parse("AUTHORIZATION").unwrap().is_always_secret());
        assert!(HeaderName::parse("Cookie").unwrap().is_always_secret());
        assert!(!HeaderName::parse("X-Cookie").unwrap().is_always_secret());
    }

    #[test]
    fn each_rule_for_header_values_has_its_own_error() {
        use HeaderValueError as Error;
        let table = [
            (String::new(), Error::Empty),
            ("x".repeat(4_097), Error::TooLong),
            ("a\r\nHost: b".into(), Error::InvalidCharacter),
            ("a\0".into(), Error::InvalidCharacter),
            ("a\u{7f}".into(), Error::InvalidCharacter),
            ("\u{e9}".into(), Error::InvalidCharacter),
            (" a".into(), Error::OuterWhiteSpace),
            ("a\t".into(), Error::OuterWhiteSpace),
            (" ".into(), Error::OuterWhiteSpace),
        ];
        for (text, error) in table {
            assert_eq!(parse_value(text.clone()), Err(error), "{text:?}");
        }
        for text in ["Bearer x", "a\tb", "!~", &"x".repeat(4_096)] {
            assert_eq!(parse_value(text.into()).unwrap().expose(), text);
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let header = Header {
            name: HeaderName::parse("X-Key").unwrap(),
            value: HeaderValue::Plain(parse_value("hunter2".into()).unwrap()),
        };
        assert!(!format!("{header:?}").contains("hunter2"));
    }
}
