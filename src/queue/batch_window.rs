//! Decides whether a claim waits for more work: a claim costs far more than each of its deliveries. Pure state, no I/O.

use std::time::{Duration, Instant};

/// This many deliveries within a short window, or from one claim, mean that more will follow.
const BUSY_DELIVERIES: u32 = 8;
/// How long work waits for permits, or for more work while another claim is in progress.
const SHORT_WINDOW: Duration = Duration::from_millis(4);
/// How long work waits for permits if its tenants each hold enough permits for a claim. Those tenants are served already, and
/// without this wait many processes on one machine would each claim the few permits that become free at a time.
const SERVED_WINDOW: Duration = Duration::from_millis(50);
/// How long work waits under load, and the limit if the batch is still small then.
const BUSY_WINDOW: Duration = Duration::from_millis(8);
const LONGEST_WINDOW: Duration = Duration::from_millis(12);

#[derive(Debug, Default)]
pub(super) struct BatchWindow {
    /// Planned claims without a result.
    claims: u32,
    /// Deliveries seen since the last plan.
    seen: u32,
    /// The start of the current window, and the number of deliveries seen in it.
    window: Option<(Instant, u32)>,
    /// More work is expected until then.
    busy_until: Option<Instant>,
    /// When the work that is ready now was first seen.
    waits_since: Option<Instant>,
}

impl BatchWindow {
    /// A delivery was seen. One busy window may be a single burst; two in a row mean load.
    pub(super) fn work_seen(&mut self, now: Instant) {
        self.seen = self.seen.saturating_add(1);
        match &mut self.window {
            Some((began, seen)) if now < *began + SHORT_WINDOW => *seen += 1,
            last => {
                let is_busy =
                    last.is_some_and(|(began, seen)| seen >= BUSY_DELIVERIES && now < began + 2 * SHORT_WINDOW);
                *last = Some((now, 1));
                if is_busy {
                    self.expect(now + BUSY_WINDOW);
                }
            }
        }
    }

    pub(super) fn seen(&self) -> u32 {
        self.seen
    }

    /// The ready work was planned. `is_claim`: a claim follows.
    pub(super) fn planned(&mut self, is_claim: bool) {
        self.seen = 0;
        self.waits_since = None;
        self.claims += u32::from(is_claim);
    }

    /// A planned claim ended with this number of deliveries.
    pub(super) fn claim_ended(&mut self, deliveries: u32, now: Instant) {
        self.claims = self.claims.saturating_sub(1);
        if deliveries >= BUSY_DELIVERIES {
            self.expect(now + BUSY_WINDOW);
        }
    }

    fn expect(&mut self, until: Instant) {
        self.busy_until = self.busy_until.max(Some(until));
    }

    /// True if more work is likely: a claim is in progress, or many deliveries were seen lately.
    pub(super) fn is_expected(&self, now: Instant) -> bool {
        self.claims > 0 || self.is_busy(now)
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// Until when ready work waits for permits; `None`: it has waited long enough. `are_served`: its tenants each hold enough
    /// permits for a claim.
    pub(super) fn waits_for_permits(&mut self, are_served: bool, now: Instant) -> Option<Instant> {
        let since = self.waits_since(now);
        let end = since + if are_served { SERVED_WINDOW } else { SHORT_WINDOW };
        // Check again soon: permits become free at any time.
        (now < end).then(|| end.min(now + SHORT_WINDOW))
    }

    /// Until when `is_there` ready deliveries wait for more; `None`: not at all.
    pub(super) fn waits_for_work(&mut self, is_there: u32, now: Instant) -> Option<Instant> {
        let since = self.waits_since(now);
        let is_busy = self.is_busy(now);
        let end = since + if is_busy { BUSY_WINDOW } else { SHORT_WINDOW };
        if now < end {
            Some(end)
        } else if is_busy && is_there < BUSY_DELIVERIES && now < since + LONGEST_WINDOW {
            // Check again soon: the next group may arrive at any time.
            Some(now + SHORT_WINDOW / 4)
        } else {
            None
        }
    }

    fn waits_since(&mut self, now: Instant) -> Instant {
        *self.waits_since.get_or_insert(now)
    }
}
