//! Decides how long a claim waits for more ready deliveries. Waiting saves work, because one large claim costs
//! less than many small claims. Pure state, no I/O.

use std::time::{Duration, Instant};

/// If at least this many deliveries are ready, a claim does not wait for more deliveries.
pub(super) const ENOUGH: u32 = 64;
/// If at least this many lanes wait, a claim does not wait for more deliveries either.
pub(super) const MANY: usize = 32;
/// If this many deliveries become ready within `SHORT_WINDOW`, or one claim returns this many, more will probably follow.
const BUSY_DELIVERIES: u32 = 8;
/// The maximum time that ready deliveries wait for permits, or for more deliveries while another claim is in progress.
const SHORT_WINDOW: Duration = Duration::from_millis(4);
/// The maximum time that ready deliveries wait for permits while many attempts of their tenants are running. Without this
/// wait, the claimers of many processes on one machine would each run many small claims.
const SERVED_WINDOW: Duration = Duration::from_millis(50);
/// The usual time that ready deliveries wait for more deliveries under load.
const BUSY_WINDOW: Duration = Duration::from_millis(8);
/// The maximum wait under load. It applies if the batch is still small after `BUSY_WINDOW`.
const LONGEST_WINDOW: Duration = Duration::from_millis(12);

#[derive(Debug, Default)]
pub(super) struct BatchWindow {
    /// Planned claims that have no result yet.
    claims: u32,
    /// Deliveries that became ready since the last plan.
    seen: u32,
    /// The start of the current `SHORT_WINDOW`, and the number of deliveries that became ready in it.
    window: Option<(Instant, u32)>,
    /// Until this time, more deliveries are expected.
    busy_until: Option<Instant>,
    /// When the ready deliveries began to wait.
    waits_since: Option<Instant>,
}

impl BatchWindow {
    /// Notes that a delivery became ready. Many deliveries in two consecutive windows mean load.
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

    /// Notes that a plan was made for the ready deliveries. `is_claim` is true if the plan contains a claim.
    pub(super) fn planned(&mut self, is_claim: bool) {
        self.seen = 0;
        self.waits_since = None;
        self.claims += u32::from(is_claim);
    }

    /// Notes that a planned claim ended and returned this number of deliveries.
    pub(super) fn claim_ended(&mut self, deliveries: u32, now: Instant) {
        self.claims = self.claims.saturating_sub(1);
        if deliveries >= BUSY_DELIVERIES {
            self.expect(now + BUSY_WINDOW);
        }
    }

    fn expect(&mut self, until: Instant) {
        self.busy_until = self.busy_until.max(Some(until));
    }

    /// True if more deliveries are likely: a claim is in progress, or many deliveries became ready lately.
    pub(super) fn is_expected(&self, now: Instant) -> bool {
        self.claims > 0 || self.is_busy(now)
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// Returns the time until which ready deliveries wait for permits, or `None` if they have waited long enough. `are_served`
    /// is true if each waiting tenant holds enough permits for a claim.
    pub(super) fn waits_for_permits(&mut self, are_served: bool, now: Instant) -> Option<Instant> {
        let since = self.waits_since(now);
        let end = since + if are_served { SERVED_WINDOW } else { SHORT_WINDOW };
        // Check again soon: permits become free at any time.
        (now < end).then(|| end.min(now + SHORT_WINDOW))
    }

    /// Returns the time until which `is_there` ready deliveries wait for more deliveries, or `None` if they do not wait.
    pub(super) fn waits_for_work(&mut self, is_there: u32, now: Instant) -> Option<Instant> {
        let since = self.waits_since(now);
        let is_busy = self.is_busy(now);
        let end = since + if is_busy { BUSY_WINDOW } else { SHORT_WINDOW };
        if now < end {
            Some(end)
        } else if is_busy && is_there < BUSY_DELIVERIES && now < since + LONGEST_WINDOW {
            // Check again soon: the next deliveries may arrive at any time.
            Some(now + SHORT_WINDOW / 4)
        } else {
            None
        }
    }

    fn waits_since(&mut self, now: Instant) -> Instant {
        *self.waits_since.get_or_insert(now)
    }
}
