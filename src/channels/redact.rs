//! Removes secrets from responses, because some endpoints echo the request.
//!
//! Each channel defines its secrets and the forms in which endpoints echo them.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::Anchored;
use aho_corasick::automaton::Automaton as _;
use aho_corasick::nfa::contiguous::NFA;
use zeroize::Zeroizing;

use super::http_client::Answer;
use crate::domain::secret_text::SecretText;

/// The automaton searches for at most this number of bytes of a secret. The limit bounds the size of the automaton. The
/// guessable prefix of any common credential is shorter. A match still redacts the length of the whole secret.
const MAX_PATTERN_BYTES: usize = 64;

/// Removes the secrets of one endpoint's settings from text. Finds a secret only in the given forms.
#[derive(Clone)]
pub struct Redactor {
    /// Sorted, without duplicates.
    patterns: Vec<Pattern>,
    /// Built when a response is long enough to contain a secret, because most responses are too short. Contains `None` if
    /// building failed.
    automaton: OnceLock<Option<NFA>>,
    mark: &'static str,
}

#[derive(Clone)]
struct Pattern {
    beginning: Zeroizing<Vec<u8>>,
    bytes: usize,
}

impl Pattern {
    fn new(secret: &SecretText) -> Self {
        let secret = secret.expose().as_bytes();
        let beginning = secret[..secret.len().min(MAX_PATTERN_BYTES)].to_vec();
        Self { beginning: Zeroizing::new(beginning), bytes: secret.len() }
    }
}

impl Redactor {
    /// Creates a redactor that replaces each secret by `mark`.
    pub(super) fn new(mark: &'static str, secrets: impl IntoIterator<Item = SecretText>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.expose().is_empty());
        let mut patterns: Vec<_> = secrets.map(|secret| Pattern::new(&secret)).collect();
        patterns.sort_by(|a, b| a.beginning.cmp(&b.beginning).then(b.bytes.cmp(&a.bytes)));
        // If several secrets have the same beginning, keep the longest secret.
        patterns.dedup_by(|later, earlier| later.beginning == earlier.beginning);
        Self { patterns, automaton: OnceLock::new(), mark }
    }

    /// Returns the beginning of the response body as text that any database can store, and true if the body was longer.
    /// Redacts the text before shortening it, because half a secret would not be found. Returns `None` for a redirect,
    /// because its body repeats its target.
    pub(super) fn readable(&self, answer: &Answer, max_bytes: usize) -> Option<(String, bool)> {
        if answer.status.is_redirection() {
            return None;
        }
        let mut body = answer.body.as_slice();
        // If the read limit split a character, drop the bytes of that character. They are not invalid UTF-8.
        if answer.truncated
            && let Some(last) = body.utf8_chunks().last().filter(|last| is_unfinished(last.invalid()))
        {
            body = &body[..body.len() - last.invalid().len()];
        }
        let text = String::from_utf8_lossy(body).replace('\0', "\u{fffd}");
        let unfinished = if answer.truncated { self.unfinished(&text) } else { None };
        let mut text = self.without(text, unfinished);
        let is_cut = text.len() > max_bytes;
        text.truncate(text.floor_char_boundary(max_bytes));
        Some((text, is_cut || answer.truncated))
    }

    pub(super) fn apply(&self, text: String) -> String {
        self.without(text, None)
    }

    /// The byte range of a secret that the end of the text cuts off. This search is not needed for a secret whose first
    /// [`MAX_PATTERN_BYTES`] bytes are in the text, because the automaton finds this secret.
    fn unfinished(&self, text: &str) -> Option<Range<usize>> {
        let longest = text.len().min(MAX_PATTERN_BYTES);
        let mut starts = text.len() - longest..text.len();
        starts.find(|start| self.begins_with(&text.as_bytes()[*start..])).map(|start| start..text.len())
    }

    fn begins_with(&self, bytes: &[u8]) -> bool {
        let at = self.patterns.partition_point(|pattern| pattern.beginning.as_slice() < bytes);
        self.patterns.get(at).is_some_and(|pattern| pattern.beginning.starts_with(bytes))
    }

    /// The byte ranges of all secrets in the text. Searches in one pass. Returns at most one match per byte, not sorted by start.
    pub(super) fn places(&self, text: &str) -> Vec<Range<usize>> {
        if self.patterns.iter().all(|pattern| pattern.beginning.len() > text.len()) {
            return Vec::new();
        }
        let whole = || std::iter::once(0..text.len()).collect();
        let Some(automaton) = self.automaton() else { return whole() };
        let Ok(mut state) = automaton.start_state(Anchored::No) else { return whole() };
        let mut places = Vec::new();
        for (at, byte) in text.bytes().enumerate() {
            state = automaton.next_state(Anchored::No, state, byte);
            if automaton.is_match(state) {
                // The first match is the longest match that ends at this byte. A shorter match would not redact more,
                // because only patterns of the maximum length can belong to longer secrets.
                let pattern = &self.patterns[automaton.match_pattern(state, 0).as_usize()];
                let start = at + 1 - pattern.beginning.len();
                let end = text.ceil_char_boundary(text.len().min(start + pattern.bytes));
                places.push(start..end);
            }
        }
        places
    }

    /// The automaton. It is mostly sparse to save memory, because each of thousands of endpoints has its own automaton.
    pub(super) fn automaton(&self) -> Option<&NFA> {
        let build = || {
            let beginnings = self.patterns.iter().map(|pattern| &*pattern.beginning);
            NFA::builder().prefilter(false).dense_depth(1).build(beginnings).ok()
        };
        self.automaton.get_or_init(build).as_ref()
    }

    /// Replaces all secrets. Finds every match before the first replacement, because secrets can overlap and can occur in
    /// the replacement text.
    fn without(&self, text: String, unfinished: Option<Range<usize>>) -> String {
        let mut places = self.places(&text);
        places.extend(unfinished);
        if places.is_empty() {
            return text;
        }
        places.sort_by_key(|place| place.start);
        let mut redacted = String::with_capacity(text.len());
        let mut end = 0;
        for place in places {
            if place.start >= end {
                redacted.push_str(&text[end..place.start]);
                redacted.push_str(self.mark);
            }
            end = end.max(place.end);
        }
        redacted.push_str(&text[end..]);
        redacted
    }
}

/// Omits the automaton, because its `Debug` output would show the secrets.
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("patterns", &self.patterns.len()).finish_non_exhaustive()
    }
}

/// True if the bytes are the beginning of an incomplete UTF-8 character.
fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        Redactor::new("[redacted]", secrets.iter().copied().map(SecretText::new))
    }

    fn answer(body: &[u8], truncated: bool) -> Answer {
        Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.to_vec(), truncated }
    }

    fn shown(redactor: &Redactor, body: &[u8], truncated: bool) -> String {
        redactor.readable(&answer(body, truncated), 1_024).unwrap().0
    }

    #[test]
    fn removes_overlapping_secrets_completely() {
        for (secrets, text, expected) in [
            (&["abcd", "cdef"][..], "-abcdef-", "-[redacted]-"),
            (&["abcdef", "cd"], "abcdef cd", "[redacted] [redacted]"),
            (&["ab", "cd"], "abcd", "[redacted][redacted]"),
            // The secrets "e", "d" and "red" occur in the replacement text, which stays unchanged.
            (&["e", "d", "red"], "the end", "th[redacted] [redacted]n[redacted]"),
            (&["ü"], "für", "f[redacted]r"),
            (&["", "x"], "", ""),
            (&[], "text", "text"),
        ] {
            assert_eq!(redactor(secrets).apply(text.to_owned()), expected, "{secrets:?}");
        }
    }

    #[test]
    fn a_shown_body_contains_no_nul_character() {
        assert_eq!(shown(&redactor(&[]), b"a\0b\xffc", false), "a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn redacts_a_body_before_it_cuts_the_body_between_characters() {
        let body = |text: &str| answer(format!("{}{text}", "a".repeat(1_023)).as_bytes(), false);
        let none = redactor(&[]);
        assert_eq!(none.readable(&body("é and more"), 1_024), Some(("a".repeat(1_023), true)));
        assert_eq!(none.readable(&body("b"), 1_024), Some((format!("{}b", "a".repeat(1_023)), false)));
        assert_eq!(
            redactor(&["hunter2"]).readable(&body("hunter2"), 1_024),
            Some((format!("{}[", "a".repeat(1_023)), true))
        );
    }

    #[test]
    fn removes_a_secret_that_is_cut_at_the_read_limit() {
        let secret = redactor(&["hunter2-hunter2-é"]);
        for end in [&b"h"[..], b"hunter2", b"hunter2-hunter2-", b"hunter2-hunter2-\xc3"] {
            assert_eq!(shown(&secret, &[b"key=", end].concat(), true), "key=[redacted]", "{end:?}");
        }
        assert_eq!(shown(&secret, b"key=hunter2", false), "key=hunter2");
        assert_eq!(shown(&redactor(&[]), b"a\xc3", true), "a");
        // If the body is complete, the invalid byte at the end is shown as a replacement character.
        assert_eq!(shown(&redactor(&[]), b"a\xc3", false), "a\u{fffd}");
    }

    #[test]
    fn does_not_show_the_body_of_a_redirect() {
        let answer = Answer { status: StatusCode::FOUND, ..answer(b"<a href=\"https://x/?token=1\">", false) };
        assert_eq!(redactor(&[]).readable(&answer, 1_024), None);
    }
}
