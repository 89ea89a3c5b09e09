//! Computes the position from which a search finds every late commit. Pure state, no I/O.
//!
//! A transaction draws a delivery's position before it commits, so the delivery can appear before positions that were already
//! claimed. But all positions of a transaction lie behind those that were claimed before it began to write. So the node remembers
//! the furthest such position for each transaction, and one search starts there after the transaction ends. This costs nothing
//! while transactions are short, and finds a late commit however late it is.
//!
//! A transaction that draws a position just before it gets a transaction id may be missed. Claims re-scan for longer than that,
//! and walks find the rest.

use std::collections::{HashMap, HashSet};

#[derive(Debug)]
pub(super) struct LateCommits {
    /// Transactions that were writing at the last check, each with the furthest position claimed before it began.
    writing: HashMap<i64, i64>,
    /// The furthest position claimed before the last check.
    taken: i64,
    /// Deliveries of transactions that ended since the last complete search lie behind this position.
    search_after: i64,
}

impl Default for LateCommits {
    fn default() -> Self {
        Self { writing: HashMap::new(), taken: 0, search_after: i64::MAX }
    }
}

impl LateCommits {
    /// A check before a search: the transactions that are writing now, and the furthest position claimed before they were listed.
    pub(super) fn check(&mut self, writing: &[i64], taken: i64) {
        let before = std::mem::replace(&mut self.taken, taken);
        let still: HashSet<i64> = writing.iter().copied().collect();
        // Transactions that began and ended since the last check were never listed.
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

    /// Deliveries that became visible before the last check and were found by no search lie behind this position.
    pub(super) fn search_after(&self) -> i64 {
        self.search_after
    }

    /// A search that started after the last check has covered all endpoints, or a full walk will find the rest.
    pub(super) fn searched(&mut self) {
        self.search_after = i64::MAX;
    }
}
