//! Push services that want, or need, a pause. In memory: each process learns for itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many refusals in a row, with no message accepted between them, are our fault and not a subscription's. One alone
/// must not keep everybody else's messages back: anybody can register a subscription that is refused.
const REFUSALS: u32 = 5;
/// How long a service is left alone that believes none of our tokens. The first message after it is the next probe.
const PAUSE_AFTER_REFUSALS: Duration = Duration::from_mins(1);
/// Origins that are remembered; only those that answered badly are.
const MAX_ORIGINS: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Origins(Mutex<HashMap<String, Origin>>);

#[derive(Debug, Default)]
struct Origin {
    paused_until: Option<Instant>,
    refusals: u32,
}

impl Origins {
    /// How long the origin is still to be left alone; `None`: it may be sent to.
    pub(super) fn pause_left(&self, origin: &str, now: Instant) -> Option<Duration> {
        let until = self.lock().get(origin)?.paused_until?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Leaves the origin alone. A pause never ends earlier by a later one.
    pub(super) fn pause(&self, origin: &str, now: Instant, pause: Duration) {
        self.with(origin, now, |known| known.pause(now + pause));
    }

    /// The origin took a message: it has nothing against us.
    pub(super) fn accepted(&self, origin: &str) {
        if let Some(known) = self.lock().get_mut(origin) {
            known.refusals = 0;
        }
    }

    /// The origin did not believe our token; true: it is paused, for that was not the first time.
    pub(super) fn refused(&self, origin: &str, now: Instant) -> bool {
        self.with(origin, now, |known| {
            known.refusals = known.refusals.saturating_add(1);
            let enough = known.refusals >= REFUSALS;
            if enough {
                known.pause(now + PAUSE_AFTER_REFUSALS);
            }
            enough
        })
    }

    fn with<T>(&self, origin: &str, now: Instant, change: impl FnOnce(&mut Origin) -> T) -> T {
        let mut origins = self.lock();
        if origins.len() >= MAX_ORIGINS {
            origins.retain(|_, known| known.paused_until.is_some_and(|until| until > now));
        }
        change(origins.entry(origin.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Origin>> {
        // Whoever panicked has left whole entries.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FCM: &str = "https://fcm.googleapis.com";
    const APPLE: &str = "https://web.push.apple.com";

    #[test]
    fn a_pause_is_of_one_origin_and_ends() {
        let (origins, now) = (Origins::default(), Instant::now());
        origins.pause(FCM, now, Duration::from_secs(7));
        origins.pause(FCM, now, Duration::from_secs(2));
        assert_eq!(origins.pause_left(FCM, now), Some(Duration::from_secs(7)));
        assert_eq!(origins.pause_left(APPLE, now), None);
        assert_eq!(origins.pause_left(FCM, now + Duration::from_secs(7)), None);
    }

    #[test]
    fn refusals_in_a_row_pause_and_an_accepted_message_ends_the_row() {
        let (origins, now) = (Origins::default(), Instant::now());
        for _ in 1..REFUSALS {
            assert!(!origins.refused(FCM, now));
        }
        origins.accepted(FCM);
        for _ in 1..REFUSALS {
            assert!(!origins.refused(FCM, now));
        }
        assert_eq!(origins.pause_left(FCM, now), None);
        assert!(origins.refused(FCM, now));
        assert_eq!(origins.pause_left(FCM, now), Some(PAUSE_AFTER_REFUSALS));
        // The next probe is refused too.
        assert!(origins.refused(FCM, now + PAUSE_AFTER_REFUSALS));
    }
}
