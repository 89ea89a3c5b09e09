//! When the search looks at what: often while it finds something new, rarely while all is quiet, and full walks only as
//! often as they are cheap. Pure state, no I/O.

use std::time::{Duration, Instant};

const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const MIDDLE_PAUSE: Duration = Duration::from_millis(50);
/// Also between attempts after an error.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A search takes at most this part of the time, but rests no longer than this: what took long may have been a network that
/// was cut and is whole again.
const REST_FACTOR: u32 = 10;
pub(super) const LONGEST_REST: Duration = Duration::from_secs(5);
/// A walk that took longer than this is slow, and rests this many times as long. Until then only tails are scanned.
const SLOW_WALK: Duration = Duration::from_millis(5);
const SLOW_REST_FACTOR: u32 = 100;
const LONGEST_SLOW_REST: Duration = Duration::from_mins(1);
/// Between two scans that hints ask for. Each process that accepts events sends up to a hundred hints a second, and each
/// worker hears all of them; a scan finds the deliveries of all hints before it.
pub(super) const HINTED_PAUSE: Duration = Duration::from_millis(20);

/// What a search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All ready deliveries of all endpoints, over all dead rows of their lanes.
    Walk,
    /// The known lanes behind the positions that were taken, and the endpoints between them.
    Tails,
}

/// The pauses between searches.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    walk_due: Instant,
    last_found: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { pause: SHORTEST_PAUSE, walk_due: now, last_found: 0 }
    }

    pub(super) fn next(&self, now: Instant) -> Kind {
        if now >= self.walk_due { Kind::Walk } else { Kind::Tails }
    }

    /// A search has ended that cost this time and found this number of endpoints. Returns how long to rest.
    pub(super) fn ended(&mut self, kind: Kind, cost: Duration, found: usize, now: Instant) -> Duration {
        let has_news = found > 0 && found != self.last_found;
        self.pause = next_pause(self.pause, has_news);
        self.last_found = found;
        if kind == Kind::Walk && cost > SLOW_WALK {
            self.rest_walks(cost, now);
            self.pause
        } else {
            self.pause.max((cost * REST_FACTOR).min(LONGEST_REST))
        }
    }

    /// A search has failed, perhaps because it took too long. After a walk tails come first, so that new work does not
    /// wait for a walk that cannot succeed; after a scan of tails a walk follows soon, and finds what that has missed.
    pub(super) fn failed(&mut self, kind: Kind, cost: Duration, now: Instant) {
        match kind {
            Kind::Walk => self.rest_walks(cost, now),
            Kind::Tails => self.walk_due = self.walk_due.min(now + LONGEST_REST),
        }
    }

    fn rest_walks(&mut self, cost: Duration, now: Instant) {
        self.walk_due = now + (cost * SLOW_REST_FACTOR).min(LONGEST_SLOW_REST);
    }
}

fn next_pause(pause: Duration, has_news: bool) -> Duration {
    if has_news {
        SHORTEST_PAUSE
    } else if pause < MIDDLE_PAUSE {
        (pause * 2).min(MIDDLE_PAUSE)
    } else {
        (pause + MIDDLE_PAUSE).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_slow_walk_only_tails_are_scanned_for_a_minute_at_most() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.next(now), Kind::Walk);
        let rest = pace.ended(Kind::Walk, Duration::from_secs(3), 1, now);
        assert_eq!(rest, SHORTEST_PAUSE, "tails come next");
        assert_eq!(pace.next(now + LONGEST_SLOW_REST / 2), Kind::Tails);
        assert_eq!(pace.ended(Kind::Tails, Duration::from_secs(3), 1, now), LONGEST_REST);
        assert_eq!(pace.next(now + LONGEST_SLOW_REST), Kind::Walk);
    }

    #[test]
    fn a_walk_that_fails_again_and_again_does_not_keep_tails_from_being_scanned() {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.failed(Kind::Walk, TIMEOUT, now);
        assert_eq!(pace.next(now + LONGEST_REST), Kind::Tails);
        assert_eq!(pace.next(now + LONGEST_SLOW_REST), Kind::Walk);
        // A scan of tails that fails brings the next walk nearer.
        pace.failed(Kind::Tails, TIMEOUT, now);
        assert_eq!(pace.next(now + LONGEST_REST), Kind::Walk);
    }

    #[test]
    fn pauses_grow_while_nothing_new_is_found() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let pauses: Vec<Duration> = (0..20).map(|_| pace.ended(Kind::Walk, Duration::ZERO, 0, now)).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert_eq!(pace.ended(Kind::Walk, Duration::ZERO, 1, now), SHORTEST_PAUSE);
    }
}
