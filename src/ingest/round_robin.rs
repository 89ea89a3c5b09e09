//! A queue with one FIFO line per tenant, which schedules tenants round-robin. Pure state, no I/O.

use std::collections::{HashMap, VecDeque};

use crate::domain::names::TenantId;

/// Waiting items, in one line per tenant.
#[derive(Debug)]
pub(super) struct RoundRobin<T> {
    lines: HashMap<TenantId, VecDeque<T>>,
    /// The tenants that have lines, in the order of their turns.
    order: VecDeque<TenantId>,
}

impl<T> Default for RoundRobin<T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> RoundRobin<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn push(&mut self, tenant: &TenantId, item: T) {
        self.line(tenant).push_back(item);
    }

    /// Adds an item at the front of its tenant's line.
    pub(super) fn push_front(&mut self, tenant: &TenantId, item: T) {
        self.line(tenant).push_front(item);
    }

    /// Takes the first item of the tenant whose turn it is.
    pub(super) fn next(&mut self) -> Option<T> {
        self.next_by(|_tenant, line| line.pop_front())
    }

    /// Calls `pick` with each line in turn, and returns the first result that is not `None`. The tenant's next turn comes last.
    pub(super) fn next_by<R>(&mut self, mut pick: impl FnMut(&TenantId, &mut VecDeque<T>) -> Option<R>) -> Option<R> {
        for _ in 0..self.order.len() {
            let tenant = self.order.pop_front()?;
            let Some(line) = self.lines.get_mut(&tenant) else { continue };
            let picked = pick(&tenant, line);
            if line.is_empty() {
                self.lines.remove(&tenant);
            } else {
                self.order.push_back(tenant);
            }
            if picked.is_some() {
                return picked;
            }
        }
        None
    }

    fn line(&mut self, tenant: &TenantId) -> &mut VecDeque<T> {
        if !self.lines.contains_key(tenant) {
            self.order.push_back(tenant.clone());
        }
        self.lines.entry(tenant.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::parse(format!("tenant-{number}")).unwrap()
    }

    proptest! {
        /// Each step is a tenant and a number of items that it adds. If the number is 0, one item is taken instead.
        #[test]
        fn every_waiting_tenant_gets_a_turn_between_two_turns_of_another_tenant(
            steps in prop::collection::vec((0..5_usize, 0..4_usize), 1..200),
        ) {
            let mut turns = RoundRobin::default();
            let mut lines: HashMap<usize, VecDeque<usize>> = HashMap::new();
            // How many turns other tenants got while each tenant waited.
            let mut passed = [0; 5];
            let mut next = 0;
            for (number, count) in steps {
                for _ in 0..count {
                    turns.push(&tenant(number), (number, next));
                    lines.entry(number).or_default().push_back(next);
                    next += 1;
                }
                if count > 0 {
                    continue;
                }
                let Some((of, item)) = turns.next() else {
                    prop_assert!(lines.values().all(VecDeque::is_empty), "an item is lost");
                    continue;
                };
                prop_assert_eq!(lines.entry(of).or_default().pop_front(), Some(item), "a line is not in order");
                for (other, line) in &lines {
                    passed[*other] = if *other == of || line.is_empty() { 0 } else { passed[*other] + 1 };
                    prop_assert!(passed[*other] < 5, "tenant {other} gets no turn");
                }
            }
            let left = std::iter::from_fn(|| turns.next()).count();
            prop_assert_eq!(left, lines.values().map(VecDeque::len).sum::<usize>());
            prop_assert!(turns.is_empty() && turns.lines.is_empty());
        }
    }

    #[test]
    fn a_tenant_keeps_its_line_if_no_item_is_picked() {
        let mut turns = RoundRobin::default();
        turns.push(&tenant(0), 1);
        turns.push(&tenant(1), 2);
        assert_eq!(turns.next_by(|_, line| line.pop_front_if(|item| *item == 2)), Some(2));
        assert_eq!((turns.next(), turns.next()), (Some(1), None));
    }
}
