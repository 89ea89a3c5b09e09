//! Caches the keys that an identity provider publishes.
//!
//! One task fetches the keys when they are too old, and when a token names an unknown key, which indicates a rotation. The
//! task pauses between two fetches, even if many tokens name unknown keys. While the provider does not respond, the old
//! keys are used for a limited time.

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

/// How long a caller waits beyond the deadline of a fetch.
const MARGIN: Duration = Duration::from_secs(1);

/// How often keys are fetched, and how long they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How long keys are used before they are fetched again.
    pub fresh_for: Duration,
    /// The minimum time between two fetches, even if many tokens name unknown keys.
    pub pause: Duration,
    /// How long keys are used if they cannot be fetched again.
    pub keep_for: Duration,
    /// Deadline of a fetch, from DNS to the end of the response.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The provider does not publish the key.
    Unknown,
    /// The published keys cannot be fetched.
    Unavailable,
}

#[derive(Debug)]
pub(super) struct PublishedKeys {
    known: watch::Receiver<Known>,
    /// Requests a fetch. The capacity is 1: if the channel is full, a fetch is already requested.
    wanted: mpsc::Sender<()>,
    bounds: Bounds,
}

/// The published keys, the time of the last successful fetch, and the time of the last fetch of any result.
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
        // If the last fetch failed, the provider might have published the key after the last successful fetch.
        let missing = if self.fetched_at == self.tried_at { NoKey::Unknown } else { NoKey::Unavailable };
        keys.find(kid).cloned().ok_or(missing)
    }

    fn was_tried_within(&self, pause: Duration) -> bool {
        self.tried_at.is_some_and(|at| at.elapsed() < pause)
    }
}

impl PublishedKeys {
    /// Starts a task that fetches the keys repeatedly until the process stops.
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
            // Drop the sender `publish` before the wait below, so that callers learn at once that no fetch follows.
            let _stopped = stop.run_until_cancelled(keeper.keep()).await;
            stop.cancelled().await;
        });
        Ok(Self { known, wanted, bounds })
    }

    /// The key with this id. If the id is unknown, waits for one fetch, unless the last fetch is too recent.
    pub(super) async fn find(&self, kid: Option<&str>) -> Result<Key, NoKey> {
        let mut known = self.known.clone();
        let (found, just_tried) = {
            let known = known.borrow_and_update();
            (known.find(kid, &self.bounds), known.was_tried_within(self.bounds.pause))
        };
        if found.is_ok() || just_tried {
            return found;
        }
        // If the channel is full, another caller has already requested a fetch.
        self.wanted.try_send(()).ok();
        // After the wait, use the cached keys, even if the wait timed out.
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
            // The fetch that just ended also answers the requests that arrived during the fetch.
            while self.wishes.try_recv().is_ok() {}
            sleep(self.bounds.pause).await;
            if fetched {
                let fresh_for = self.bounds.fresh_for.saturating_sub(self.bounds.pause);
                match timeout(fresh_for, self.wishes.recv()).await {
                    Ok(Some(())) | Err(_) => {}
                    // No caller is left.
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
                tracing::debug!(keys = keys.len(), "fetched the keys of the identity provider");
                let known = Known { keys: Some(Arc::new(keys)), fetched_at: Some(now), tried_at: Some(now) };
                self.publish.send_replace(known);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the keys of the identity provider could not be fetched");
                self.publish.send_modify(|known| known.tried_at = Some(now));
                false
            }
        }
    }
}
