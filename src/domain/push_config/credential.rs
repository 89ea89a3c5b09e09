//! Detects headers whose name or value looks like a credential, to warn if a header is not marked as secret.

use super::Header;

/// Words in the names of headers that usually contain credentials.
const CREDENTIAL_WORDS: [&str; 14] = [
    "apikey",
    "auth",
    "authentication",
    "authorization",
    "credential",
    "credentials",
    "jwt",
    "key",
    "passwd",
    "password",
    "secret",
    "session",
    "signature",
    "token",
];
/// Prefixes of header values that are credentials: authentication schemes (RFC 9110, section 11.4).
const CREDENTIAL_SCHEMES: [&str; 3] = ["basic ", "bearer ", "digest "];

impl Header {
    /// True if a plain header looks like a credential by its name or value. This guess only leads to a warning.
    pub fn shows_credential(&self) -> bool {
        if self.value.is_secret() {
            return false;
        }
        let name = self.name.as_str().to_ascii_lowercase();
        let mut words = name.split(['-', '_', '.']);
        let is_named_so = words.any(|word| CREDENTIAL_WORDS.contains(&word)) && !name.contains("idempotency");
        let value = self.value.text().expose().as_bytes();
        let has_scheme = |scheme: &&str| {
            value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
        };
        is_named_so || CREDENTIAL_SCHEMES.iter().any(has_scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::push_config::{HeaderName, HeaderValue};
    use crate::domain::secret_text::SecretText;

    #[test]
    fn detects_plain_headers_that_look_like_credentials() {
        let header = |name: &str, value: &str| Header {
            name: HeaderName::parse(name).unwrap(),
            value: HeaderValue::Plain(SecretText::new(value)),
        };
        for (name, value) in [("X-Api-Key", "x"), ("x_auth_token", "x"), ("ApiKey", "x"), ("X-Custom", "bearer x")] {
            assert!(header(name, value).shows_credential(), "{name}: {value}");
        }
        for (name, value) in [("X-Env", "prod"), ("X-Keyboard", "qwerty"), ("Idempotency-Key", "7"), ("X-A", "bearer")]
        {
            assert!(!header(name, value).shows_credential(), "{name}: {value}");
        }
        let secret = Header { value: HeaderValue::Secret(SecretText::new("x")), ..header("X-Api-Key", "x") };
        assert!(!secret.shows_credential());
    }
}
