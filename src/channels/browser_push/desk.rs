//! Where messages for browsers are written: encrypted, and signed for.
//!
//! One takes about a tenth of a millisecond of computing, which must not hold up the threads that wait for sockets. So
//! messages are written by threads of their own, as many as there are cores, each taking what waits in batches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::vapid::VapidKeys;
use super::{Recipient, aes128gcm};

/// Messages that a thread takes at once.
const BATCH: usize = 32;

/// A message could not be written; only where a key of the subscription cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message could not be encrypted or signed")]
pub(super) struct WriteError;

/// A message to be written.
pub(super) struct Draft {
    pub(super) recipient: Arc<Recipient>,
    pub(super) json: Vec<u8>,
    pub(super) ttl_seconds: u32,
    pub(super) topic: Option<String>,
    pub(super) now: DateTime<Utc>,
}

/// A message as it is sent: encrypted, and signed for.
pub struct Written {
    pub(super) body: Bytes,
    /// The value of `Authorization`.
    pub(super) authorization: Arc<str>,
    pub(super) ttl_seconds: u32,
    pub(super) topic: Option<String>,
}

/// Writes one message, on the calling thread.
pub(super) fn write(keys: &VapidKeys, draft: Draft) -> Result<Written, WriteError> {
    let Draft { recipient, json, ttl_seconds, topic, now } = draft;
    let subscription = &recipient.subscription;
    let key = keys.find(&recipient.vapid_key_id).ok_or(WriteError)?;
    let authorization = keys.authorization(key, &subscription.endpoint, now).map_err(|_unsigned| WriteError)?;
    let body = aes128gcm::encrypt(&subscription.keys, &json).map_err(|_unencrypted| WriteError)?;
    Ok(Written { body: body.into(), authorization, ttl_seconds, topic })
}

/// Where drafts wait for the threads that write them. At most as many wait as there are attempts.
pub(super) struct Desk {
    keys: VapidKeys,
    most_writers: usize,
    waiting: Mutex<Waiting>,
}

/// A draft, and who waits for it.
type Order = (Draft, oneshot::Sender<Result<Written, WriteError>>);

#[derive(Default)]
struct Waiting {
    orders: VecDeque<Order>,
    writers: usize,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Desk {
    pub(super) fn new(keys: VapidKeys) -> Self {
        let most_writers = available_parallelism().map_or(1, std::num::NonZero::get);
        Self { keys, most_writers, waiting: Mutex::default() }
    }

    pub(super) fn keys(&self) -> &VapidKeys {
        &self.keys
    }

    /// The written message.
    pub(super) async fn write(self: &Arc<Self>, draft: Draft) -> Result<Written, WriteError> {
        let (written, answer) = oneshot::channel();
        let needs_writer = {
            let mut waiting = self.waiting();
            waiting.orders.push_back((draft, written));
            let has_room = waiting.writers < self.most_writers;
            waiting.writers += usize::from(has_room);
            has_room
        };
        if needs_writer {
            let desk = Arc::clone(self);
            // Ends by itself when nothing waits; whoever waits for an answer waits for it too.
            drop(tokio::task::spawn_blocking(move || desk.work()));
        }
        answer.await.unwrap_or(Err(WriteError))
    }

    fn work(&self) {
        let _writer = Writer(self);
        while let Some(batch) = self.take() {
            for (draft, written) in batch.into_iter().filter(|(_, written)| !written.is_closed()) {
                // Whoever has asked may be gone by now.
                drop(written.send(write(&self.keys, draft)));
            }
        }
    }

    /// `None`: nothing waits, and the writer counts as gone before anybody can add something and rely on it.
    fn take(&self) -> Option<Vec<Order>> {
        let mut waiting = self.waiting();
        let count = waiting.orders.len().min(BATCH);
        if count == 0 {
            waiting.writers -= 1;
            return None;
        }
        Some(waiting.orders.drain(..count).collect())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked has left whole drafts.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a writer out that a panic has ended.
struct Writer<'a>(&'a Desk);

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.waiting().writers -= 1;
        }
    }
}
