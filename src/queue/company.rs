//! Whether a claim waits for more work: one costs far more than a delivery of it. Pure state, no I/O.

use std::time::{Duration, Instant};

/// So much work in a moment, or from a claim, tells that more is coming.
const MUCH: u32 = 8;
/// How long work waits for permits, or for company beside another claim.
const MOMENT: Duration = Duration::from_millis(4);
/// How long work waits for permits if its tenants already hold a claim's worth each: they are served, and where many
/// processes share a machine, each would else claim the few permits that become free in a moment.
const SERVED: Duration = Duration::from_millis(50);
/// How long where much comes, and how long if there is little yet all the same.
const DENSE: Duration = Duration::from_millis(8);
const DENSE_BUT_LITTLE: Duration = Duration::from_millis(12);

/// What was seen lately of work and of claims.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Planned claims that are not answered.
    claims: u32,
    /// Deliveries that were seen since the last plan.
    seen: u32,
    /// When the present moment began, and the deliveries that were seen in it.
    moment: Option<(Instant, u32)>,
    /// Until when more is expected.
    busy_until: Option<Instant>,
    /// Since when the work that is there now waits.
    waits_since: Option<Instant>,
}

impl Company {
    /// A delivery was seen. One burst tells nothing of what comes after it; a moment of much right after another does.
    pub(super) fn work_seen(&mut self, now: Instant) {
        self.seen = self.seen.saturating_add(1);
        match &mut self.moment {
            Some((began, seen)) if now < *began + MOMENT => *seen += 1,
            last => {
                let goes_on = last.is_some_and(|(began, seen)| seen >= MUCH && now < began + 2 * MOMENT);
                *last = Some((now, 1));
                if goes_on {
                    self.expect(now + DENSE);
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
        if deliveries >= MUCH {
            self.expect(now + DENSE);
        }
    }

    fn expect(&mut self, until: Instant) {
        self.busy_until = self.busy_until.max(Some(until));
    }

    /// Whether more is coming: a claim is under way, or much came lately.
    pub(super) fn is_expected(&self, now: Instant) -> bool {
        self.claims > 0 || self.is_dense(now)
    }

    fn is_dense(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// Until when the work that is there waits for permits; `None`: it has waited long enough. `are_served`: its tenants hold
    /// a claim's worth of permits each.
    pub(super) fn waits_for_permits(&mut self, are_served: bool, now: Instant) -> Option<Instant> {
        let since = self.waits_since(now);
        let end = since + if are_served { SERVED } else { MOMENT };
        // Asked again soon: permits become free at any moment.
        (now < end).then(|| end.min(now.max(since) + MOMENT))
    }

    /// The same for more work, where so much `is_there`.
    pub(super) fn waits_for_work(&mut self, is_there: u32, now: Instant) -> Option<Instant> {
        let since = self.waits_since(now);
        let is_dense = self.is_dense(now);
        let end = since + if is_dense { DENSE } else { MOMENT };
        if now < end {
            Some(end)
        } else if is_dense && is_there < MUCH && now < since + DENSE_BUT_LITTLE {
            // Asked again soon: the next group may come at any moment.
            Some(now + MOMENT / 4)
        } else {
            None
        }
    }

    fn waits_since(&mut self, now: Instant) -> Instant {
        *self.waits_since.get_or_insert(now)
    }
}
