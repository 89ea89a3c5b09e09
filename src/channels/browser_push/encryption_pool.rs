//! Encrypts and signs messages for browsers.
//!
//! A pool with one thread per core encrypts messages in batches, because the encryption of a message takes about 0.1 ms of
//! CPU time and must not block the threads that wait for sockets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::available_parallelism;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::vapid::VapidKeys;
use super::{Recipient, aes128gcm};

const BATCH: usize = 32;

/// A message could not be encrypted, because a key of the subscription is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message could not be encrypted or signed")]
pub(super) struct EncryptError;

/// A message in plain text.
pub(super) struct PushMessage {
    pub(super) recipient: Arc<Recipient>,
    pub(super) json: Vec<u8>,
    pub(super) ttl_seconds: u32,
    pub(super) topic: Option<String>,
    pub(super) now: DateTime<Utc>,
}

/// An encrypted message with its VAPID token.
pub struct EncryptedMessage {
    pub(super) body: Bytes,
    /// The value of the header `Authorization`.
    pub(super) authorization: Arc<str>,
    pub(super) ttl_seconds: u32,
    pub(super) topic: Option<String>,
}

/// Encrypts one message on the calling thread.
pub(super) fn encrypt(keys: &VapidKeys, message: PushMessage) -> Result<EncryptedMessage, EncryptError> {
    let PushMessage { recipient, json, ttl_seconds, topic, now } = message;
    let subscription = &recipient.subscription;
    let key = keys.find(&recipient.vapid_key_id).ok_or(EncryptError)?;
    let authorization = keys.authorization(key, &subscription.endpoint, now).map_err(|_unsigned| EncryptError)?;
    let body = aes128gcm::encrypt(&subscription.keys, &json).map_err(|_unencrypted| EncryptError)?;
    Ok(EncryptedMessage { body: body.into(), authorization, ttl_seconds, topic })
}

/// The queue of messages and the threads that encrypt them. The queue contains at most one message per attempt.
pub(super) struct EncryptionPool {
    keys: VapidKeys,
    max_threads: usize,
    queued: Mutex<Queued>,
}

/// A message, and the channel to return the encrypted message.
type Job = (PushMessage, oneshot::Sender<Result<EncryptedMessage, EncryptError>>);

#[derive(Default)]
struct Queued {
    jobs: VecDeque<Job>,
    threads: usize,
}

impl std::fmt::Debug for EncryptionPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptionPool").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl EncryptionPool {
    pub(super) fn new(keys: VapidKeys) -> Self {
        let max_threads = available_parallelism().map_or(1, std::num::NonZero::get);
        Self { keys, max_threads, queued: Mutex::default() }
    }

    pub(super) fn keys(&self) -> &VapidKeys {
        &self.keys
    }

    /// Encrypts a message on a thread of the pool.
    pub(super) async fn encrypt(self: &Arc<Self>, message: PushMessage) -> Result<EncryptedMessage, EncryptError> {
        let (encrypted, answer) = oneshot::channel();
        let needs_thread = {
            let mut queued = self.queued.lock();
            queued.jobs.push_back((message, encrypted));
            let has_room = queued.threads < self.max_threads;
            queued.threads += usize::from(has_room);
            has_room
        };
        if needs_thread {
            let encryption_pool = Arc::clone(self);
            // The thread is not awaited, because it ends when the queue is empty and each caller waits only for its own
            // message.
            drop(tokio::task::spawn_blocking(move || encryption_pool.work()));
        }
        answer.await.unwrap_or(Err(EncryptError))
    }

    fn work(&self) {
        let _guard = ThreadGuard(self);
        while let Some(batch) = self.take() {
            for (message, encrypted) in batch.into_iter().filter(|(_, encrypted)| !encrypted.is_closed()) {
                // Sending fails only if the caller no longer waits.
                drop(encrypted.send(encrypt(&self.keys, message)));
            }
        }
    }

    /// Takes a batch from the queue. If the queue is empty, returns `None` and reduces the thread count under the same lock,
    /// so that the next caller starts a thread.
    fn take(&self) -> Option<Vec<Job>> {
        let mut queued = self.queued.lock();
        let count = queued.jobs.len().min(BATCH);
        if count == 0 {
            queued.threads -= 1;
            return None;
        }
        Some(queued.jobs.drain(..count).collect())
    }
}

/// Reduces the thread count when a thread panics.
struct ThreadGuard<'a>(&'a EncryptionPool);

impl Drop for ThreadGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.queued.lock().threads -= 1;
        }
    }
}
