//! Takes values that were sent in confidence out of what comes back: some endpoints answer with what they were sent.

use crate::domain::secret_text::SecretText;

/// What stands in place of what must not be read.
pub(super) const REDACTED: &str = "[redacted]";

/// Below this the part behind a scheme, such as `Bearer`, is too common a text to be looked for alone.
const MIN_CREDENTIAL_BYTES: usize = 8;

/// Looks for secrets as they were sent, without their scheme, and as JSON writes them. A secret that the endpoint has
/// turned into something else is not found.
pub(super) struct Redactor(Vec<SecretText>);

impl Redactor {
    pub(super) fn of(secrets: &[SecretText]) -> Self {
        let mut needles = Vec::new();
        for secret in secrets {
            let credential = secret.expose().split_once(' ').map(|(_, credential)| credential.trim());
            let credential = credential.filter(|credential| credential.len() >= MIN_CREDENTIAL_BYTES);
            for text in std::iter::once(secret.expose()).chain(credential) {
                let json = serde_json::Value::from(text).to_string();
                needles.extend([SecretText::new(text), SecretText::new(json.trim_matches('"'))]);
            }
        }
        // The longest first, so that no part of one is left beside a shorter one inside it.
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.expose().len()));
        needles.retain(|needle| !needle.expose().is_empty());
        Self(needles)
    }

    pub(super) fn apply(&self, text: String) -> String {
        self.0.iter().fold(text, |text, needle| {
            if text.contains(needle.expose()) { text.replace(needle.expose(), REDACTED) } else { text }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_each_form_in_which_it_comes_back() {
        let secrets = [SecretText::new("Bearer hunter2-\\x"), SecretText::new("hunter2-"), SecretText::new("s 1")];
        let redactor = Redactor::of(&secrets);
        for (text, expected) in [
            ("{\"authorization\":\"Bearer hunter2-\\\\x\"}", "{\"authorization\":\"[redacted]\"}"),
            ("Bearer hunter2-\\x", "[redacted]"),
            ("token=hunter2-\\x;", "token=[redacted];"),
            ("s 1, but 1", "[redacted], but 1"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(redactor.apply(text.to_owned()), expected);
        }
    }
}
