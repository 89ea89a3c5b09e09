//! The secrets in an endpoint's settings, in the forms in which endpoints echo them.

use super::signature::PREFIX;
use crate::channels::Redactor;
use crate::domain::push_config::Header;
use crate::domain::secret_text::SecretText;

/// The text that replaces a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// A credential with fewer bytes occurs in ordinary text, so the search for it includes its scheme (such as `Bearer`).
const MIN_CREDENTIAL_BYTES: usize = 8;

/// Finds secret header values with and without their scheme, and signing secrets with and without their prefix. Also finds
/// them in JSON encoding. Does not find secrets that the endpoint has encoded in another way.
pub fn redactor<'a>(headers: &[Header], signing_secrets: impl IntoIterator<Item = &'a SecretText>) -> Redactor {
    let secret_headers = headers.iter().filter(|header| header.value.is_secret());
    let values = secret_headers.flat_map(|header| {
        let value = header.value.text().expose();
        let credential = value.split_once(' ').map(|(_, credential)| credential.trim());
        [Some(value), credential.filter(|credential| credential.len() >= MIN_CREDENTIAL_BYTES)]
    });
    let keys = signing_secrets.into_iter().flat_map(|secret| {
        let key = secret.expose().strip_prefix(PREFIX).map(|key| key.trim_end_matches('='));
        [Some(secret.expose()), key]
    });
    Redactor::new(REDACTED, values.chain(keys).flatten().flat_map(forms))
}

/// The secret unchanged, in JSON encoding, and in JSON encoding with escaped slashes, as PHP writes it.
fn forms(text: &str) -> [SecretText; 3] {
    let json = serde_json::Value::from(text).to_string();
    let json = &json[1..json.len() - 1];
    [SecretText::new(text), SecretText::new(json), SecretText::new(json.replace('/', "\\/"))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::push_config::{HeaderName, HeaderValue};

    #[test]
    fn finds_a_secret_in_each_form() {
        let secret = |name: &str, text: &str| Header {
            name: HeaderName::parse(name).unwrap(),
            value: HeaderValue::Secret(SecretText::new(text)),
        };
        let plain = Header { value: HeaderValue::Plain(SecretText::new("production")), ..secret("X-Env", "") };
        let headers = [secret("Authorization", "Bearer hunter2-/\\x\""), secret("X-Key", "s 1"), plain];
        let redactor = redactor(&headers, [&SecretText::new("whsec_q83v/83vq83vq83v+83vq83vq83vq83vq83vq83vq8w=")]);
        for (text, expected) in [
            ("{\"authorization\":\"Bearer hunter2-/\\\\x\\\"\"}", "{\"authorization\":\"[redacted]\"}"),
            ("{\"authorization\":\"Bearer hunter2-\\/\\\\x\\\"\"}", "{\"authorization\":\"[redacted]\"}"),
            ("Bearer hunter2-/\\x\"", "[redacted]"),
            ("token=hunter2-/\\x\";", "token=[redacted];"),
            ("s 1, but 1", "[redacted], but 1"),
            ("key whsec_q83v/83vq83vq83v+83vq83vq83vq83vq83vq83vq8w=", "key [redacted]"),
            ("key q83v\\/83vq83vq83v+83vq83vq83vq83vq83vq83vq8w", "key [redacted]"),
            ("production: nothing", "production: nothing"),
        ] {
            assert_eq!(redactor.apply(text.to_owned()), expected);
        }
    }
}
