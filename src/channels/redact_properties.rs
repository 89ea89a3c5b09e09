//! Compares redaction with a plain search for each secret, and checks the maximum cost of redaction.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::Redactor;
use crate::domain::secret_text::SecretText;

/// The maximum size of one endpoint's automaton in bytes. An endpoint has at most 20 headers, and each header has six forms
/// to search for.
const MAX_AUTOMATON_BYTES: usize = 256 * 1024;

fn redactor(secrets: &[String]) -> Redactor {
    Redactor::new("*", secrets.iter().map(SecretText::new))
}

/// Finds every occurrence of every secret by comparing the secret at each position.
fn plain_search(secrets: &[String], text: &str) -> Vec<Range<usize>> {
    let places = |secret: &String| {
        let is_at = |at: &usize| text.as_bytes()[*at..].starts_with(secret.as_bytes());
        (0..text.len()).filter(is_at).map(|at| at..at + secret.len()).collect::<Vec<_>>()
    };
    secrets.iter().flat_map(places).collect()
}

fn covered(places: &[Range<usize>], text: &str) -> Vec<bool> {
    let mut covered = vec![false; text.len()];
    for place in places {
        covered[place.clone()].fill(true);
    }
    covered
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redacts_exactly_what_a_plain_search_finds(
        secrets in prop::collection::vec("[abü]{1,6}", 0..8),
        text in "[abüc]{0,60}",
    ) {
        let found = redactor(&secrets).places(&text);
        prop_assert!(found.len() <= text.len());
        prop_assert_eq!(covered(&found, &text), covered(&plain_search(&secrets, &text), &text));
    }

    #[test]
    fn redacts_long_secrets_completely(
        secrets in prop::collection::vec("[ab]{0,2}[abü]{58,70}", 1..5),
        between in prop::collection::vec("[abü]{0,20}", 5),
    ) {
        let text: String = secrets.iter().zip(&between).flat_map(|(secret, text)| [text.as_str(), secret]).collect();
        let found = covered(&redactor(&secrets).places(&text), &text);
        let expected = covered(&plain_search(&secrets, &text), &text);
        prop_assert!(expected.iter().zip(&found).all(|(expected, found)| found >= expected));
    }
}

#[test]
fn the_length_of_the_response_bounds_the_number_of_matches() {
    // Each secret matches at nearly every byte of the response. The search covers six forms of each header.
    let filler = |number: u8| format!("{}{}", char::from(b'a' + number), "a".repeat(4_093));
    let forms = |number| {
        ["", "Bearer "].map(|scheme| ["/", "\\/", "\"/"].map(|end| format!("{scheme}{}{end}", filler(number))))
    };
    let secrets: Vec<String> = (0..20).flat_map(forms).flatten().collect();
    let distinct = (0..120_u64).map(|number| STANDARD.encode(Sha256::digest(number.to_be_bytes())).repeat(2)).collect();
    let nested: Vec<String> = (1..=20).map(|length| "a".repeat(length)).collect();
    for secrets in [secrets, distinct, nested] {
        let (redactor, answer) = (redactor(&secrets), "a".repeat(8 * 1024));
        assert!(redactor.places(&answer).len() <= answer.len());
        let automaton = aho_corasick::automaton::Automaton::memory_usage(redactor.automaton().unwrap());
        assert!(automaton <= MAX_AUTOMATON_BYTES, "{automaton} bytes");
    }
}

#[test]
fn a_response_with_64_bytes_of_a_secret_does_not_reveal_the_length_of_the_secret() {
    let secret = format!("{}{}", "k".repeat(64), "z".repeat(36));
    let text = format!("<{}{}>{}", "k".repeat(64), "ü".repeat(17), "ü".repeat(9));
    let found = redactor(&[secret]).places(&text);
    assert_eq!(found, [Range { start: 1, end: 102 }]);
}
