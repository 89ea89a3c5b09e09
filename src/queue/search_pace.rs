//! Schedules searches: often while they find new deliveries, rarely otherwise. Walks become rare while they are slow. Pure state,
//! no I/O.

use std::time::{Duration, Instant};

const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const MIDDLE_PAUSE: Duration = Duration::from_millis(50);
/// The maximum pause between searches that find nothing new, and the pause after an error.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// After a quick walk or a step of a tail scan, discovery pauses ten times as long as the walk or step took. So searches use at
/// most a tenth of the time. The pause does not grow with the number of steps.
const REST_FACTOR: u32 = 10;
/// The maximum of this pause. A short network outage can make a single step slow.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(5);
/// A walk that takes longer than this is slow.
const SLOW_WALK: Duration = Duration::from_millis(5);
/// After a slow walk, no walk starts for a hundred times the duration of that walk, but for at most a minute. Meanwhile, only
/// tail scans run.
const SLOW_REST_FACTOR: u32 = 100;
const LONGEST_SLOW_REST: Duration = Duration::from_mins(1);
/// Minimum pause between two scans that hints cause. Each process that accepts events sends up to a hundred hints per second to
/// every worker, but one scan finds the deliveries of all earlier hints.
pub(super) const HINTED_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A walk reads all endpoints with ready deliveries, and scans all dead rows of their lanes.
    Walk,
    /// A tail scan reads the known lanes after their claimed positions, and the gaps between the known lanes.
    Tails,
}

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

    /// Notes that a search ended and found this number of endpoints. `cost` is the time of the walk, or of the last step of the
    /// tail scan. Returns how long to pause.
    pub(super) fn ended(&mut self, kind: Kind, cost: Duration, found: usize, now: Instant) -> Duration {
        let has_news = found > 0 && found != self.last_found;
        self.pause = next_pause(self.pause, has_news);
        self.last_found = found;
        if kind == Kind::Walk && cost > SLOW_WALK {
            self.rest_walks(cost, now);
            self.pause
        } else {
            self.pause.max(rest_after(cost))
        }
    }

    /// Notes that a search failed, perhaps because it took too long. After a failed walk, tail scans follow, so that new
    /// deliveries do not wait for a walk that cannot succeed. After a failed tail scan, a walk soon finds what the scan missed.
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

/// How long to pause after a walk, or a step of a tail scan, that took `cost`.
pub(super) fn rest_after(cost: Duration) -> Duration {
    (cost * REST_FACTOR).min(LONGEST_REST)
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
    fn only_tail_scans_run_for_up_to_a_minute_after_a_slow_walk() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.next(now), Kind::Walk);
        let rest = pace.ended(Kind::Walk, Duration::from_secs(3), 1, now);
        assert_eq!(rest, SHORTEST_PAUSE, "tail scans come next");
        assert_eq!(pace.next(now + LONGEST_SLOW_REST / 2), Kind::Tails);
        assert_eq!(pace.ended(Kind::Tails, Duration::from_secs(3), 1, now), LONGEST_REST);
        assert_eq!(pace.next(now + LONGEST_SLOW_REST), Kind::Walk);
    }

    #[test]
    fn repeated_failures_of_walks_do_not_prevent_tail_scans() {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.failed(Kind::Walk, TIMEOUT, now);
        assert_eq!(pace.next(now + LONGEST_REST), Kind::Tails);
        assert_eq!(pace.next(now + LONGEST_SLOW_REST), Kind::Walk);
        // A failed tail scan makes the next walk come sooner.
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
