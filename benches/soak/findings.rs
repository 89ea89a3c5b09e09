//! Counts how often each guarantee was broken, and keeps a few examples.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Mutex;

/// The maximum number of examples for each broken guarantee.
const EXAMPLES: usize = 5;

#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<BTreeMap<&'static str, Found>>);

#[derive(Debug, Default)]
struct Found {
    times: u64,
    examples: Vec<String>,
}

impl Findings {
    pub(crate) fn add(&self, what: &'static str, example: impl Display) {
        let mut all = self.0.lock().unwrap();
        let found = all.entry(what).or_default();
        found.times += 1;
        if found.examples.len() < EXAMPLES {
            found.examples.push(example.to_string());
        }
    }

    /// Adds a finding if `found` differs from `expected`.
    pub(crate) fn expect_equal<T: Copy + PartialEq + Display>(&self, what: &'static str, found: T, expected: T) {
        if found != expected {
            self.add(what, format!("{found} instead of {expected}"));
        }
    }

    /// One line per finding.
    pub(crate) fn lines(&self) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter()
            .map(|(what, found)| format!("{what}: {} times ({})", found.times, found.examples.join(", ")))
            .collect()
    }
}
