//! Limits how many events of each tenant wait. Pure state, no I/O.
//!
//! A tenant may use at most half of the space that other tenants leave. So the first tenant gets half of the queue, a second
//! tenant gets half of the rest, and a tenant without waiting events finds space even if another tenant posts continuously.

use std::collections::HashMap;

use crate::domain::names::TenantId;

#[derive(Debug)]
pub(super) struct Shares {
    free: usize,
    held: HashMap<TenantId, usize>,
}

impl Shares {
    pub(super) fn new(events: usize) -> Self {
        Self { free: events, held: HashMap::new() }
    }

    /// Reserves space for a caller's events, counted by tenant. If a tenant has too little space,
    /// reserves nothing and returns false.
    pub(super) fn take<'a>(&mut self, events: impl Iterator<Item = (&'a TenantId, usize)> + Clone) -> bool {
        // While no event waits, tenants are not limited, because otherwise a batch as large as the queue would never be accepted.
        let is_idle = self.held.is_empty();
        for (taken, (tenant, count)) in events.clone().enumerate() {
            let most = if is_idle { self.free } else { self.room_of(tenant) };
            if count > most {
                self.release(events.take(taken));
                return false;
            }
            self.hold(tenant, count);
        }
        true
    }

    pub(super) fn release<'a>(&mut self, events: impl Iterator<Item = (&'a TenantId, usize)>) {
        for (tenant, count) in events {
            self.free += count;
            if let Some(held) = self.held.get_mut(tenant) {
                *held = held.saturating_sub(count);
                if *held == 0 {
                    self.held.remove(tenant);
                }
            }
        }
    }

    /// How many more events of the tenant may wait. A tenant without waiting events may use all free space for one batch.
    fn room_of(&self, tenant: &TenantId) -> usize {
        self.held.get(tenant).map_or(self.free, |held| self.free.saturating_sub(*held) / 2)
    }

    fn hold(&mut self, tenant: &TenantId, count: usize) {
        self.free -= count;
        if let Some(held) = self.held.get_mut(tenant) {
            *held += count;
        } else {
            self.held.insert(tenant.clone(), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::once;

    use proptest::prelude::*;

    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::parse(format!("tenant-{number}")).unwrap()
    }

    impl Shares {
        fn take_of(&mut self, number: usize, count: usize) -> bool {
            self.take(once((&tenant(number), count)))
        }

        fn held_of(&self, number: usize) -> usize {
            self.held.get(&tenant(number)).copied().unwrap_or_default()
        }
    }

    #[test]
    fn a_lone_tenant_may_fill_half_of_the_queue_and_other_tenants_find_space() {
        let mut shares = Shares::new(100);
        let taken = (0..100).filter(|_| shares.take_of(0, 1)).count();
        assert_eq!((taken, shares.free), (50, 50));
        assert!(shares.take_of(1, 20) && !shares.take_of(1, 10) && shares.take_of(1, 5));
    }

    #[test]
    fn a_batch_as_large_as_the_queue_is_accepted_while_no_event_waits() {
        let (mut shares, mixed) = (Shares::new(5), [tenant(0), tenant(1)]);
        let batch = || mixed.iter().cycle().take(5).map(|tenant| (tenant, 1));
        assert!(shares.take(batch()));
        shares.release(batch());
        assert_eq!((shares.free, shares.held.len()), (5, 0));
        assert!(shares.take_of(2, 1) && !shares.take(batch()) && shares.free == 4);
    }

    proptest! {
        /// Each step is a tenant and the number of events that it posts. If the number is 0, all waiting events of the tenant
        /// are accepted.
        #[test]
        fn space_is_bounded_and_a_tenant_without_waiting_events_finds_space(
            size in 1..200_usize, steps in prop::collection::vec((0..4_usize, 0..20_usize), 1..200),
        ) {
            let mut shares = Shares::new(size);
            for (number, count) in steps {
                let (free, held) = (shares.free, shares.held_of(number));
                if count == 0 {
                    shares.release(once((&tenant(number), held)));
                    prop_assert_eq!(shares.held_of(number), 0);
                } else if shares.take_of(number, count) {
                    let is_first = held == 0;
                    prop_assert!(is_first || shares.held_of(number) <= shares.free, "a tenant holds more than it leaves free");
                } else {
                    prop_assert!(held > 0 || count > free, "a tenant without waiting events was refused");
                    prop_assert_eq!((shares.free, shares.held_of(number)), (free, held));
                }
                prop_assert_eq!(shares.free + shares.held.values().sum::<usize>(), size);
            }
        }
    }
}
