//! Remembers tokens for a moment, so that a busy caller does not cost a statement per request.
//!
//! A revoked token is refused everywhere within `FRESH_FOR`. Strangers who guess tokens can neither fill the memory
//! nor hold more than a few of the pool's connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;

use super::problem::Problem;
use crate::domain::ids::TokenId;
use crate::domain::random_secret::SecretHash;
use crate::domain::token::Token;
use crate::store::{Db, answered, tokens};

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

#[derive(Debug)]
pub(super) struct TokenCache {
    entries: Mutex<HashMap<SecretHash, Entry>>,
    lookups: Semaphore,
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
            lookups: Semaphore::new(CONCURRENT_LOOKUPS),
            waiting: Semaphore::new(WAITING_LOOKUPS),
        }
    }

    /// The token of a hash, valid or not; `None` when there is none. A hash that was not seen before is looked up only
    /// if `may_look_up` agrees.
    pub(super) async fn find(
        &self,
        db: &Db,
        tasks: &TaskTracker,
        hash: SecretHash,
        may_look_up: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<Option<Arc<Token>>, Problem> {
        if let Some(token) = self.fresh(&hash) {
            return Ok(Some(token));
        }
        if !self.entries().contains_key(&hash) {
            may_look_up()?;
        }
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
        let _waiting = self.waiting.try_acquire().map_err(|_full_or_closed| Problem::unavailable())?;
        self.lookups.acquire().await.map_err(|_closed| Problem::unavailable())
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

    /// Keeps the token; answers whether its use is to be noted now.
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

/// Notes the use aside: no request waits for it, and none fails with it, not even by its panic.
fn note_use(db: Db, tasks: &TaskTracker, token: &Token) {
    let id = token.id;
    tasks.spawn(async move {
        if let Err(error) = answered(tokens::record_use(&db, id)).await {
            tracing::warn!(%error, token.id = %id, "the use of a token was not noted");
        }
    });
}
