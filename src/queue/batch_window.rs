//! Whether a claim waits for more work: one costs far more than a delivery of it. Pure state, no I/O.

use std::time::{Duration, Instant};

/// This many deliveries within a short window, or from one claim, mean that more will follow.
const BUSY_DELIVERIES: u32 = 8;
/// How long work waits for permits, or for more work while another claim is under way.
const SHORT_WINDOW: Duration = Duration::from_millis(4);
/// How long work waits for permits if its tenants already hold a claim's worth each: they are served, and where many
/// processes share a machine, each would else claim the few permits that become free in a moment.
const SERVED: Duration = Duration::from_millis(50);
/// How long it waits under load, and how long if the batch is still small then.
const BUSY_WINDOW: Duration = Duration::from_millis(8);
const LONGEST_WINDOW: Duration = Duration::from_millis(12);

/// Decides how long work waits for more work, by the rate of deliveries and the claims under way.
#[derive(Debug, Default)]
pub(super) struct BatchWindow {
    /// Planned claims that are not answered.
    claims: u32,
    /// Deliveries that were seen since the last plan.
    seen: u32,
    /// When the current window began, and the deliveries that were seen in it.
    window: Option<(Instant, u32)>,
    /// Until when more is expected.
    busy_until: Option<Instant>,
    /// Since when the work that is there now waits.
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

    /// Deliveries that were seen since the last plan.
    pub(super) fn seen(&self) -> u32 {
        self.seen
    }

    /// A plan was made of what was there; whether it is to be claimed.
    pub(super) fn planned(&mut self, is_claim: bool) {
        self.seen = 0;
        self.waits_since = None;
        self.claims += u32::from(is_claim);
    }

    /// All lanes of a planned claim are settled; it gave so many deliveries.
    pub(super) fn claim_ended(&mut self, deliveries: u32, now: Instant) {
        self.claims = self.claims.saturating_sub(1);
        if deliveries >= BUSY_DELIVERIES {
            self.expect(now + BUSY_WINDOW);
        }
    }

    fn expect(&mut self, until: Instant) {
        self.busy_until = self.busy_until.max(Some(until));
    }

    /// Whether more is coming: a claim is under way, or much came lately.
    pub(super) fn is_expected(&self, now: Instant) -> bool {
        self.claims > 0 || self.is_busy(now)
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// Until when the work that is there waits for permits; `None`: it has waited long enough. `are_served`: its tenants hold
    /// a claim's worth of permits each.
    pub(super) fn waits_for_permits(&mut self, are_served: bool, now: Instant) -> Option<Instant> {
        let since = self.waits_since(now);
        let end = since + if are_served { SERVED } else { SHORT_WINDOW };
        // Asked again soon: permits become free at any moment.
        (now < end).then(|| end.min(now.max(since) + SHORT_WINDOW))
    }

    /// The same for more work, where so much `is_there`.
    pub(super) fn waits_for_work(&mut self, is_there: u32, now: Instant) -> Option<Instant> {
        let since = self.waits_since(now);
        let is_busy = self.is_busy(now);
        let end = since + if is_busy { BUSY_WINDOW } else { SHORT_WINDOW };
        if now < end {
            Some(end)
        } else if is_busy && is_there < BUSY_DELIVERIES && now < since + LONGEST_WINDOW {
            // Asked again soon: the next group may come at any moment.
            Some(now + SHORT_WINDOW / 4)
        } else {
            None
        }
    }

    fn waits_since(&mut self, now: Instant) -> Instant {
        *self.waits_since.get_or_insert(now)
    }
}
