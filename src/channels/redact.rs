//! Takes what was sent in confidence out of what comes back: some endpoints answer with what they were sent.
//!
//! What is secret, and in which forms it comes back, is for each channel to say.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::Anchored;
use aho_corasick::automaton::Automaton as _;
use aho_corasick::nfa::contiguous::NFA;
use zeroize::Zeroizing;

use super::http_client::Answer;
use crate::domain::secret_text::SecretText;

/// How much of a secret is searched for, in bytes: this bounds the automaton, and more is random in no usual credential. From
/// these bytes on, as many bytes as the secret has are redacted.
const MAX_PATTERN_BYTES: usize = 64;

/// Made once for an endpoint's settings. Texts in other forms than the given ones are not found.
#[derive(Clone)]
pub struct Redactor {
    /// Sorted, each beginning once.
    patterns: Vec<Pattern>,
    /// Built for the first answer that is long enough to hold a secret: most answers are not. `None` inside: it could not be
    /// built.
    automaton: OnceLock<Option<NFA>>,
    mark: &'static str,
}

#[derive(Clone)]
struct Pattern {
    beginning: Zeroizing<Vec<u8>>,
    /// The length of the whole secret.
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
    /// `mark` will stand in the place of each secret.
    pub(super) fn new(mark: &'static str, secrets: impl IntoIterator<Item = SecretText>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.expose().is_empty());
        let mut patterns: Vec<_> = secrets.map(|secret| Pattern::new(&secret)).collect();
        patterns.sort_by(|a, b| a.beginning.cmp(&b.beginning).then(b.bytes.cmp(&a.bytes)));
        // Of those with one beginning the longest stays.
        patterns.dedup_by(|later, earlier| later.beginning == earlier.beginning);
        Self { patterns, automaton: OnceLock::new(), mark }
    }

    /// The beginning of the answer's body as text that any database stores, and whether the body went on. Redacted before
    /// it is cut, for half a secret would not be found. `None` for a redirect, whose body repeats its target.
    pub(super) fn readable(&self, answer: &Answer, max_bytes: usize) -> Option<(String, bool)> {
        if answer.status.is_redirection() {
            return None;
        }
        let mut body = answer.body.as_slice();
        // A character that the client's bound went through is not broken, only left out.
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

    /// The text without the secrets.
    pub(super) fn apply(&self, text: String) -> String {
        self.without(text, None)
    }

    /// The beginning of a secret that the end of the text went through. One that is longer than a pattern is found as a whole
    /// one.
    fn unfinished(&self, text: &str) -> Option<Range<usize>> {
        let longest = text.len().min(MAX_PATTERN_BYTES);
        let mut starts = text.len() - longest..text.len();
        starts.find(|start| self.begins_with(&text.as_bytes()[*start..])).map(|start| start..text.len())
    }

    /// Whether a pattern begins with these bytes.
    fn begins_with(&self, bytes: &[u8]) -> bool {
        let at = self.patterns.partition_point(|pattern| pattern.beginning.as_slice() < bytes);
        self.patterns.get(at).is_some_and(|pattern| pattern.beginning.starts_with(bytes))
    }

    /// Where secrets are in the text: in one pass over it, at most one place for each of its bytes, in no order of starts.
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
                // The first one is the longest that ends here. No other one reaches further: only patterns of the greatest
                // length are beginnings.
                let pattern = &self.patterns[automaton.match_pattern(state, 0).as_usize()];
                let start = at + 1 - pattern.beginning.len();
                let end = text.ceil_char_boundary(text.len().min(start + pattern.bytes));
                places.push(start..end);
            }
        }
        places
    }

    /// Sparse where it can be: thousands of endpoints have one.
    pub(super) fn automaton(&self) -> Option<&NFA> {
        let build = || {
            let beginnings = self.patterns.iter().map(|pattern| &*pattern.beginning);
            NFA::builder().prefilter(false).dense_depth(1).build(beginnings).ok()
        };
        self.automaton.get_or_init(build).as_ref()
    }

    /// All places are found before any is replaced: secrets may overlap, and may be part of the mark.
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

/// The automaton's own form would show the patterns.
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("patterns", &self.patterns.len()).finish_non_exhaustive()
    }
}

/// Whether these bytes are the beginning of a longer character.
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
    fn of_secrets_that_overlap_nothing_is_left() {
        for (secrets, text, expected) in [
            (&["abcd", "cdef"][..], "-abcdef-", "-[redacted]-"),
            (&["abcdef", "cd"], "abcdef cd", "[redacted] [redacted]"),
            (&["ab", "cd"], "abcd", "[redacted][redacted]"),
            // A secret that is part of the mark leaves the marks of others as they are.
            (&["e", "d", "red"], "the end", "th[redacted] [redacted]n[redacted]"),
            (&["ü"], "für", "f[redacted]r"),
            (&["", "x"], "", ""),
            (&[], "text", "text"),
        ] {
            assert_eq!(redactor(secrets).apply(text.to_owned()), expected, "{secrets:?}");
        }
    }

    #[test]
    fn a_body_is_text_without_nul() {
        assert_eq!(shown(&redactor(&[]), b"a\0b\xffc", false), "a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn a_body_is_cut_between_characters_and_after_its_secrets() {
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
    fn a_secret_that_the_bound_of_the_client_went_through_is_left_out() {
        let secret = redactor(&["hunter2-hunter2-é"]);
        for end in [&b"h"[..], b"hunter2", b"hunter2-hunter2-", b"hunter2-hunter2-\xc3"] {
            assert_eq!(shown(&secret, &[b"key=", end].concat(), true), "key=[redacted]", "{end:?}");
        }
        assert_eq!(shown(&secret, b"key=hunter2", false), "key=hunter2");
        assert_eq!(shown(&redactor(&[]), b"a\xc3", true), "a");
        // A body that itself ends so is shown as it is.
        assert_eq!(shown(&redactor(&[]), b"a\xc3", false), "a\u{fffd}");
    }

    #[test]
    fn nothing_is_kept_of_the_body_of_a_redirect() {
        let answer = Answer { status: StatusCode::FOUND, ..answer(b"<a href=\"https://x/?token=1\">", false) };
        assert_eq!(redactor(&[]).readable(&answer, 1_024), None);
    }
}
