//! Caches tokens for one second, so that a busy caller does not cause a database statement per request.
//!
//! Every process rejects a revoked token within a second. Guessed tokens cannot fill the memory. Lookups use only a few pool
//! connections. Lookups of unknown tokens from addresses with too many wrong credentials use only one connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;

use crate::domain::ids::TokenId;
use crate::domain::random_secret::SecretHash;
use crate::domain::token::Token;
use crate::http::request::problem::Problem;
use crate::store::{Db, tokens, with_timeout};

/// How long a token from the database is reused.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// How often the last use of a token is stored.
const NOTE_USE_EVERY: Duration = Duration::from_mins(1);
/// Maximum number of cached tokens. Unknown tokens are not cached.
const CAPACITY: u64 = 4_096;
/// Maximum number of concurrent lookups in the database.
const CONCURRENT_LOOKUPS: usize = 4;
/// Maximum number of waiting lookups. Further lookups get 503, so that the pool is not exhausted.
const WAITING_LOOKUPS: usize = 1_024;
/// Maximum number of waiting lookups of unknown tokens from addresses with too many wrong credentials. These lookups run
/// one at a time. If each takes a millisecond, the lookup of a valid token waits at most a quarter of a second.
const WAITING_DOUBTFUL_LOOKUPS: usize = 256;

#[derive(Debug)]
pub(crate) struct TokenCache {
    entries: Cache<SecretHash, Entry>,
    lookups: Lookups,
    doubtful_lookups: Lookups,
}

/// Limits the running and the waiting database lookups.
#[derive(Debug)]
struct Lookups {
    at_once: Semaphore,
    waiting: Semaphore,
}

#[derive(Debug, Clone)]
struct Entry {
    token: Arc<Token>,
    seen_at: Instant,
    /// When this process last stored the token's use.
    use_noted_at: Option<Instant>,
}

impl TokenCache {
    pub(crate) fn new() -> Self {
        Self {
            entries: Cache::new(CAPACITY),
            lookups: Lookups::new(CONCURRENT_LOOKUPS, WAITING_LOOKUPS),
            doubtful_lookups: Lookups::new(1, WAITING_DOUBTFUL_LOOKUPS),
        }
    }

    /// The token with this hash, even if it is revoked or expired; `None` if the hash is unknown. The error `doubt` is set for an
    /// address with too many wrong credentials. Unknown tokens of such addresses are looked up one at a time. If too many of
    /// these lookups wait, the lookup fails with this error.
    pub(crate) async fn find(
        &self,
        db: &Db,
        tasks: &TaskTracker,
        hash: SecretHash,
        doubt: Option<Problem>,
    ) -> Result<Option<Arc<Token>>, Problem> {
        if let Some(token) = self.fresh(&hash) {
            return Ok(Some(token));
        }
        let is_known = self.entries.contains_key(&hash);
        let _doubtful_turn = match doubt.filter(|_| !is_known) {
            Some(refused) => Some(self.doubtful_lookups.turn().await.map_err(|_full| refused)?),
            None => None,
        };
        let _turn = self.turn().await?;
        // Another task may have fetched the token while this one waited.
        if let Some(token) = self.fresh(&hash) {
            return Ok(Some(token));
        }
        let Some(token) = tokens::find(db, &hash).await? else {
            self.entries.invalidate(&hash);
            return Ok(None);
        };
        let token = Arc::new(token);
        if self.remember(hash, &token) {
            note_use(db.clone(), tasks, &token);
        }
        Ok(Some(token))
    }

    /// Waits until a lookup may run. Lookups of tickets and of push subscriptions also call this function.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.lookups.turn().await
    }

    /// Removes a token from the cache, so that this process rejects the token at once.
    pub(crate) fn forget(&self, id: TokenId) {
        for (hash, _) in self.entries.iter().filter(|(_, entry)| entry.token.id == id) {
            self.entries.invalidate(&*hash);
        }
    }

    fn fresh(&self, hash: &SecretHash) -> Option<Arc<Token>> {
        let entry = self.entries.get(hash)?;
        (entry.seen_at.elapsed() < FRESH_FOR).then_some(entry.token)
    }

    /// Caches the token. Returns true if the time of its use should be stored now.
    fn remember(&self, hash: SecretHash, token: &Arc<Token>) -> bool {
        let now = Instant::now();
        let mut note_use = false;
        self.entries.entry(hash).and_upsert_with(|before| {
            let noted_before = before.and_then(|before| before.into_value().use_noted_at);
            note_use = noted_before.is_none_or(|at| now.duration_since(at) >= NOTE_USE_EVERY);
            let use_noted_at = if note_use { Some(now) } else { noted_before };
            Entry { token: Arc::clone(token), seen_at: now, use_noted_at }
        });
        note_use
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

/// Stores the token's use in the background, so requests neither wait for this statement nor fail if it fails.
fn note_use(db: Db, tasks: &TaskTracker, token: &Token) {
    let id = token.id;
    tasks.spawn(async move {
        if let Err(error) = with_timeout(tokens::record_use(&db, id)).await {
            tracing::warn!(%error, token.id = %id, "could not store the last use of a token");
        }
    });
}
