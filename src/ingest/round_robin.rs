//! A queue with one FIFO line per tenant, which schedules tenants by deficit round-robin. Pure state, no I/O.

use std::collections::{HashMap, VecDeque};

use crate::domain::names::TenantId;

/// The largest size of an item that costs a tenant one turn. An item of twice this size costs two turns, and so on.
const TURN: usize = 16;

/// Waiting items, in one line per tenant.
#[derive(Debug)]
pub(super) struct RoundRobin<T> {
    lines: HashMap<TenantId, Line<T>>,
    /// The tenants that have lines, in the order of their turns.
    order: VecDeque<TenantId>,
}

#[derive(Debug)]
struct Line<T> {
    items: VecDeque<T>,
    /// The size that the tenant still owes for its last item. The tenant skips turns until the debt is zero.
    debt: usize,
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

    /// Takes the first item of the tenant whose turn it is. If the item is larger than `room`, returns `None`, and the tenant
    /// keeps its turn.
    pub(super) fn next(&mut self, room: usize, size: impl Fn(&T) -> usize) -> Option<T> {
        loop {
            let line = self.lines.get_mut(self.order.front()?)?;
            let mut item = None;
            if line.debt == 0 {
                let taken = line.items.pop_front_if(|item| size(item) <= room)?;
                line.debt = size(&taken);
                item = Some(taken);
            }
            line.debt = line.debt.saturating_sub(TURN);
            self.end_turn();
            if item.is_some() {
                return item;
            }
        }
    }

    /// Calls `pick` with each line until a result is not `None`. Moves the tenants of these lines to the end of the order.
    pub(super) fn next_by<R>(&mut self, mut pick: impl FnMut(&TenantId, &mut VecDeque<T>) -> Option<R>) -> Option<R> {
        for _ in 0..self.order.len() {
            let tenant = self.order.front()?;
            let picked = pick(tenant, &mut self.lines.get_mut(tenant)?.items);
            self.end_turn();
            if picked.is_some() {
                return picked;
            }
        }
        None
    }

    /// Moves the first tenant to the end of the order. Removes the tenant if its line is empty.
    fn end_turn(&mut self) {
        let Some(tenant) = self.order.pop_front() else { return };
        if self.lines.get(&tenant).is_some_and(|line| !line.items.is_empty()) {
            self.order.push_back(tenant);
        } else {
            self.lines.remove(&tenant);
        }
    }

    fn line(&mut self, tenant: &TenantId) -> &mut VecDeque<T> {
        if !self.lines.contains_key(tenant) {
            self.order.push_back(tenant.clone());
        }
        let new = || Line { items: VecDeque::new(), debt: 0 };
        &mut self.lines.entry(tenant.clone()).or_insert_with(new).items
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
            // For each waiting tenant, the number of other tenants' turns since its last turn.
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
                let Some((of, item)) = turns.next(1, |_| 1) else {
                    prop_assert!(lines.values().all(VecDeque::is_empty), "an item is lost");
                    continue;
                };
                prop_assert_eq!(lines.entry(of).or_default().pop_front(), Some(item), "a line is not in order");
                for (other, line) in &lines {
                    passed[*other] = if *other == of || line.is_empty() { 0 } else { passed[*other] + 1 };
                    prop_assert!(passed[*other] < 5, "tenant {other} gets no turn");
                }
            }
            let left = std::iter::from_fn(|| turns.next(1, |_| 1)).count();
            prop_assert_eq!(left, lines.values().map(VecDeque::len).sum::<usize>());
            prop_assert!(turns.is_empty() && turns.lines.is_empty());
        }
    }

    proptest! {
        #[test]
        fn large_items_of_one_tenant_delay_small_items_of_another_tenant_only_briefly(
            sizes in prop::collection::vec((1..4_usize, 1..=500_usize), 1..200), small in 1..100_usize,
        ) {
            let mut turns = RoundRobin::default();
            for (number, size) in sizes {
                turns.push(&tenant(number), (number, size));
            }
            for _ in 0..small {
                turns.push(&tenant(0), (0, 1));
            }
            let mut taken = [0; 4];
            while taken[0] < small {
                let (number, size) = turns.next(usize::MAX, |(_, size)| *size).unwrap();
                taken[number] += size;
                for other in 1..4 {
                    prop_assert!(taken[other] < 500 + TURN * (taken[0] + 1), "{taken:?}");
                }
            }
        }
    }

    #[test]
    fn a_tenant_whose_item_is_too_large_keeps_its_turn() {
        let mut turns = RoundRobin::default();
        turns.push(&tenant(0), 3);
        turns.push(&tenant(1), 1);
        assert_eq!((turns.next(2, |size| *size), turns.next(3, |size| *size)), (None, Some(3)));
        assert_eq!(turns.next(2, |size| *size), Some(1));
    }

    #[test]
    fn a_tenant_keeps_its_line_if_no_item_is_picked() {
        let mut turns = RoundRobin::default();
        turns.push(&tenant(0), 1);
        turns.push(&tenant(1), 2);
        assert_eq!(turns.next_by(|_, line| line.pop_front_if(|item| *item == 2)), Some(2));
        assert_eq!((turns.next(1, |_| 1), turns.next(1, |_| 1)), (Some(1), None));
    }
}
