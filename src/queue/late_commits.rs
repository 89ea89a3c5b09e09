//! Computes the position from which a search finds every late commit. Pure state, no I/O.
//!
//! A transaction gets a delivery's position before it commits. So the delivery can become visible at a position before
//! positions that were already claimed. But all positions of a transaction come after the positions that were claimed before it
//! began to write. So the node remembers the furthest claimed position at the start of each transaction. After the transaction
//! ends, one search starts at that position. This costs nothing while transactions are short, and finds late commits even of
//! very long transactions.
//!
//! The check can miss a transaction that gets a position just before it gets a transaction id. Claims re-scan far enough to
//! find most of these deliveries, and walks find the rest.

use std::collections::{HashMap, HashSet};

#[derive(Debug)]
pub(super) struct LateCommits {
    /// Transactions that were writing at the last check, each with the furthest position that was claimed before it began.
    writing: HashMap<i64, i64>,
    /// The furthest position that was claimed before the last check.
    taken: i64,
    /// The next search starts after this position, to find the deliveries of transactions that ended since the last full search.
    search_after: i64,
}

impl Default for LateCommits {
    fn default() -> Self {
        Self { writing: HashMap::new(), taken: 0, search_after: i64::MAX }
    }
}

impl LateCommits {
    /// Notes the transactions that are writing now, and the furthest position that was claimed before they were listed.
    pub(super) fn check(&mut self, writing: &[i64], taken: i64) {
        let before = std::mem::replace(&mut self.taken, taken);
        let still: HashSet<i64> = writing.iter().copied().collect();
        // No check has listed the transactions that began and ended since the last check.
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

    /// The position after which the next search starts, to find all deliveries that became visible before the last check.
    pub(super) fn search_after(&self) -> i64 {
        self.search_after
    }

    /// Called after a search of all endpoints has ended, or if a later walk will repeat the search.
    pub(super) fn searched(&mut self) {
        self.search_after = i64::MAX;
    }
}
