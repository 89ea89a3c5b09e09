//! The id that identifies a request to its client and in logs.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of an id from a client.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// 1 to 128 visible ASCII characters, which are safe in a header and in a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id if it is safe to repeat, else a new id.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(REQUEST_ID) {
            Some(value) if is_fit(value.as_bytes()) => Self(value.clone()),
            Some(_) | None => Self::random(),
        }
    }

    fn random() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        let text = uuid::Uuid::new_v4().simple().encode_lower(&mut buffer);
        // Hexadecimal digits are always valid in a header value.
        Self(HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("none")))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or("none")
    }

    pub(crate) fn into_header(self) -> HeaderValue {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_fit(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        RequestId::of(&headers).to_string()
    }

    #[test]
    fn accepts_only_short_request_ids_in_visible_ascii() {
        assert_eq!(of(b"my-id/7"), "my-id/7");
        assert_eq!(of("x".repeat(128).as_bytes()), "x".repeat(128));
        for unfit in [b"".as_slice(), b"a b", b"a\tb", "é".as_bytes(), "x".repeat(129).as_bytes()] {
            assert_eq!(of(unfit).len(), 32, "{unfit:?}");
        }
    }
}
