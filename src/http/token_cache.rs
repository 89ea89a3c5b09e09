//! Remembers tokens for a moment, so that a busy caller does not cost a statement per request.
//!
//! A revoked token is refused everywhere within `FRESH_FOR`. Strangers who guess tokens can neither fill the memory
//! nor hold more than a few of the pool's connections; those of addresses that guess too often hold one at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;

use super::problem::Problem;
use crate::domain::ids::TokenId;
use crate::domain::random_secret::SecretHash;
use crate::domain::token::Token;
use crate::store::{Db, tokens, with_timeout};

/// How long an answer of the database is believed.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// How often the use of a token is noted.
const NOTE_USE_EVERY: Duration = Duration::from_mins(1);
/// How many tokens are remembered; unknown ones are not.
const CAPACITY: usize = 4_096;
/// How many look-ups may be in the database at once.
const CONCURRENT_LOOKUPS: usize = 4;
/// How many look-ups may wait behind those; beyond it the answer is 503 before the pool runs out.
const WAITING_LOOKUPS: usize = 1_024;
/// How many look-ups of unknown tokens may wait that come from addresses with too many wrong credentials; one of them is in
/// the database at once. At a millisecond each, a valid one among them waits for a quarter of a second at most.
const WAITING_DOUBTFUL_LOOKUPS: usize = 256;

#[derive(Debug)]
pub(super) struct TokenCache {
    entries: Mutex<HashMap<SecretHash, Entry>>,
    lookups: Lookups,
    doubtful_lookups: Lookups,
}

/// Turns at the database, with limits on those under way and on those that wait.
#[derive(Debug)]
struct Lookups {
    at_once: Semaphore,
    waiting: Semaphore,
}

#[derive(Debug, Clone)]
struct Entry {
    token: Arc<Token>,
    seen_at: Instant,
    /// When this process last noted the token's use.
    use_noted_at: Option<Instant>,
}

impl TokenCache {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::new(HashMap::new()),
            lookups: Lookups::new(CONCURRENT_LOOKUPS, WAITING_LOOKUPS),
            doubtful_lookups: Lookups::new(1, WAITING_DOUBTFUL_LOOKUPS),
        }
    }

    /// The token of a hash, valid or not; `None`: unknown. `doubt` is the refusal of an address with too many wrong
    /// credentials: an unknown token from there is looked up after the others, and refused so if too many wait.
    pub(super) async fn find(
        &self,
        db: &Db,
        tasks: &TaskTracker,
        hash: SecretHash,
        doubt: Option<Problem>,
    ) -> Result<Option<Arc<Token>>, Problem> {
        if let Some(token) = self.fresh(&hash) {
            return Ok(Some(token));
        }
        let is_known = self.entries().contains_key(&hash);
        let _doubtful_turn = match doubt.filter(|_| !is_known) {
            Some(refused) => Some(self.doubtful_lookups.turn().await.map_err(|_full| refused)?),
            None => None,
        };
        let _turn = self.turn().await?;
        // Whoever waited for a permit may find what the one before it has fetched.
        if let Some(token) = self.fresh(&hash) {
            return Ok(Some(token));
        }
        let Some(token) = tokens::find(db, &hash).await? else {
            self.entries().remove(&hash);
            return Ok(None);
        };
        let token = Arc::new(token);
        if self.remember(hash, &token) {
            note_use(db.clone(), tasks, &token);
        }
        Ok(Some(token))
    }

    /// A turn at the database for a look-up that anybody can ask for.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.lookups.turn().await
    }

    /// Forgets a token, so that this process refuses it at once.
    pub(super) fn forget(&self, id: TokenId) {
        self.entries().retain(|_, entry| entry.token.id != id);
    }

    fn fresh(&self, hash: &SecretHash) -> Option<Arc<Token>> {
        let entries = self.entries();
        let entry = entries.get(hash).filter(|entry| entry.seen_at.elapsed() < FRESH_FOR)?;
        Some(Arc::clone(&entry.token))
    }

    /// Keeps the token; returns whether its use is to be noted now.
    fn remember(&self, hash: SecretHash, token: &Arc<Token>) -> bool {
        let now = Instant::now();
        let mut entries = self.entries();
        let noted_before = entries.get(&hash).and_then(|entry| entry.use_noted_at);
        let note_use = noted_before.is_none_or(|at| now.duration_since(at) >= NOTE_USE_EVERY);
        if entries.len() >= CAPACITY && !entries.contains_key(&hash) {
            entries.retain(|_, entry| now.duration_since(entry.seen_at) < FRESH_FOR);
        }
        if entries.len() < CAPACITY || entries.contains_key(&hash) {
            let use_noted_at = if note_use { Some(now) } else { noted_before };
            entries.insert(hash, Entry { token: Arc::clone(token), seen_at: now, use_noted_at });
        }
        note_use
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<SecretHash, Entry>> {
        // Nothing that can panic happens under the lock; the map is whole even if it did.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookups {
    fn new(at_once: usize, waiting: usize) -> Self {
        Self { at_once: Semaphore::new(at_once), waiting: Semaphore::new(waiting) }
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let _waiting = self.waiting.try_acquire().map_err(|_full_or_closed| Problem::unavailable())?;
        self.at_once.acquire().await.map_err(|_closed| Problem::unavailable())
    }
}

/// Notes the use aside: no request waits for it, and none fails with it, not even by its panic.
fn note_use(db: Db, tasks: &TaskTracker, token: &Token) {
    let id = token.id;
    tasks.spawn(async move {
        if let Err(error) = with_timeout(tokens::record_use(&db, id)).await {
            tracing::warn!(%error, token.id = %id, "the use of a token was not noted");
        }
    });
}
