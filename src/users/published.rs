//! The keys that an identity provider publishes, kept at hand.
//!
//! One task fetches them: when they are no longer fresh, and when a token names a key that is not among them, which is
//! how a rotation shows. Whoever asks how often, there is a pause between two fetches. While the provider does not
//! answer, the old keys are used for a bounded time.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::fetch::{BuildError, Fetcher};
use super::key::Key;
use super::key_set::KeySet;
use crate::supervision::Stage;
use crate::telemetry::metrics::TaskName;

/// What a waiter grants beyond the deadline of the fetch that it waits for.
const MARGIN: Duration = Duration::from_secs(1);

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How long keys are good before they are fetched again.
    pub fresh_for: Duration,
    /// The least time between two fetches, however many tokens name unknown keys.
    pub pause: Duration,
    /// How long keys are used that cannot be renewed.
    pub keep_for: Duration,
    /// Longest time for a fetch, from the look-up of the name to the end of the answer.
    pub deadline: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            fresh_for: Duration::from_mins(10),
            pause: Duration::from_secs(10),
            keep_for: Duration::from_hours(1),
            deadline: Duration::from_secs(5),
        }
    }
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// It is not published.
    Unknown,
    /// What is published cannot be read.
    Unavailable,
}

#[derive(Debug)]
pub(super) struct PublishedKeys {
    known: watch::Receiver<Known>,
    /// Room for one: whoever comes while a fetch is wanted wants the same.
    wanted: mpsc::Sender<()>,
    bounds: Bounds,
}

/// What the last fetches brought.
#[derive(Debug, Clone, Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
}

impl Known {
    fn find(&self, kid: Option<&str>, bounds: &Bounds) -> Result<Key, NoKey> {
        let kept = self.fetched_at.is_some_and(|at| at.elapsed() < bounds.keep_for);
        let keys = self.keys.as_ref().filter(|_| kept).ok_or(NoKey::Unavailable)?;
        // An old set cannot tell that a key does not exist.
        let missing = if self.fetched_at == self.tried_at { NoKey::Unknown } else { NoKey::Unavailable };
        keys.find(kid).cloned().ok_or(missing)
    }

    fn was_tried_within(&self, pause: Duration) -> bool {
        self.tried_at.is_some_and(|at| at.elapsed() < pause)
    }
}

impl PublishedKeys {
    /// Fetches the keys now and again, until the stage ends.
    pub(super) fn start(
        url: Url,
        extra_roots: &[CertificateDer<'static>],
        bounds: Bounds,
        stage: &Stage,
    ) -> Result<Self, BuildError> {
        let fetcher = Fetcher::new(url, extra_roots, bounds.deadline)?;
        let (publish, known) = watch::channel(Known::default());
        let (wanted, wishes) = mpsc::channel(1);
        let keeper = Keeper { fetcher, publish, wishes, bounds };
        stage.spawn(TaskName::PublishedKeys, |stop| async move {
            // The sender is dropped before the wait: callers learn at once that no fetch comes any more.
            let _stopped = stop.run_until_cancelled(keeper.keep()).await;
            stop.cancelled().await;
        });
        Ok(Self { known, wanted, bounds })
    }

    /// The key of that name. Where it is not known, one fetch is waited for, if one may be made now.
    pub(super) async fn find(&self, kid: Option<&str>) -> Result<Key, NoKey> {
        let mut known = self.known.clone();
        let (found, just_tried) = {
            let known = known.borrow_and_update();
            (known.find(kid, &self.bounds), known.was_tried_within(self.bounds.pause))
        };
        if found.is_ok() || just_tried {
            return found;
        }
        // A full channel says that somebody has asked already.
        self.wanted.try_send(()).ok();
        // At the end of the wait, or of the keeper, what is known is known.
        drop(timeout(self.bounds.deadline + MARGIN, known.changed()).await);
        known.borrow().find(kid, &self.bounds)
    }
}

struct Keeper {
    fetcher: Fetcher,
    publish: watch::Sender<Known>,
    wishes: mpsc::Receiver<()>,
    bounds: Bounds,
}

impl Keeper {
    async fn keep(mut self) {
        loop {
            let fetched = self.fetch().await;
            // Whoever asked until now has the answer.
            while self.wishes.try_recv().is_ok() {}
            sleep(self.bounds.pause).await;
            if fetched {
                let fresh_for = self.bounds.fresh_for.saturating_sub(self.bounds.pause);
                match timeout(fresh_for, self.wishes.recv()).await {
                    Ok(Some(())) | Err(_) => {}
                    // Nobody is left to ask.
                    Ok(None) => return,
                }
            }
        }
    }

    async fn fetch(&self) -> bool {
        let fetched = self.fetcher.fetch().await;
        let now = Instant::now();
        match fetched {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "the keys of the identity provider were fetched");
                let known = Known { keys: Some(Arc::new(keys)), fetched_at: Some(now), tried_at: Some(now) };
                self.publish.send_replace(known);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the keys of the identity provider cannot be fetched");
                self.publish.send_modify(|known| known.tried_at = Some(now));
                false
            }
        }
    }
}
