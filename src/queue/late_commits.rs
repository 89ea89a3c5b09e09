//! From which position a search must look to find every late commit. Pure state, no I/O.
//!
//! A delivery's position is drawn before its transaction commits, so it can appear behind positions that were already
//! taken. But a transaction draws only positions behind those that were taken before it began to write. So each
//! transaction is remembered with the furthest such position, and when it has ended, one search starts from there. This
//! costs nothing while transactions are short, and finds a late commit however late it is.
//!
//! One that draws a position in the moment before it has a transaction id may be missed: claims re-scan for longer than
//! that, and full walks find the rest.

use std::collections::{HashMap, HashSet};

#[derive(Debug)]
pub(super) struct LateCommits {
    /// Transactions that were writing at the last check, each with the furthest position taken before it began.
    writing: HashMap<i64, i64>,
    /// The furthest position taken before the last check.
    taken: i64,
    /// Deliveries of the transactions that have ended since the last complete search lie behind this position.
    search_after: i64,
}

impl Default for LateCommits {
    fn default() -> Self {
        Self { writing: HashMap::new(), taken: 0, search_after: i64::MAX }
    }
}

impl LateCommits {
    /// A check before a search: the transactions that are writing now, and the furthest position that was taken before
    /// they were listed.
    pub(super) fn check(&mut self, writing: &[i64], taken: i64) {
        let before = std::mem::replace(&mut self.taken, taken);
        let still: HashSet<i64> = writing.iter().copied().collect();
        // Those that began and ended since the last check were never listed.
        let mut search_after = self.search_after.min(before);
        self.writing.retain(|id, began_after| {
            let goes_on = still.contains(id);
            if !goes_on {
                search_after = search_after.min(*began_after);
            }
            goes_on
        });
        self.search_after = search_after;
        for id in still {
            self.writing.entry(id).or_insert(before);
        }
    }

    /// Deliveries that have become visible before the last check, and that no search has found, lie behind this position.
    pub(super) fn search_after(&self) -> i64 {
        self.search_after
    }

    /// A search that began after the last check has looked at all endpoints, or a full walk is to find what it missed.
    pub(super) fn searched(&mut self) {
        self.search_after = i64::MAX;
    }
}
