//! State shared by callers, committers and retriers: the queue of waiting events, and the retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::IngestError;
use super::job::{Answer, Job, by_tenant};
use super::retries::{Retries, Retry, RetryGroup};
use super::round_robin::RoundRobin;
use super::shares::Shares;
use crate::domain::event::NewEvent;
use crate::store::accept::Acceptance;

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes a committer when a job was queued.
    pub(super) arrived: Notify,
    /// Wakes the committer that fills a group, when another committer's transaction has ended.
    pub(super) ended: Notify,
    /// Wakes retriers when a retry may be possible, or when the last committer has ended.
    pub(super) retry: Notify,
    /// The number of committers' transactions in progress.
    pub(super) under_way: AtomicUsize,
}

#[derive(Debug)]
struct State {
    shares: Shares,
    queue: RoundRobin<Job>,
    retries: Retries,
    committers: usize,
}

#[derive(Debug)]
pub(super) enum NextRetry {
    Work(RetryGroup),
    Nothing,
    /// No more retries will be added.
    Ended,
}

impl Shared {
    /// Creates the state for at most `events` waiting events.
    pub(super) fn new(events: usize, retriers: usize) -> Self {
        let state = State {
            shares: Shares::new(events),
            queue: RoundRobin::default(),
            retries: Retries::new(retriers),
            committers: 0,
        };
        Self {
            state: Mutex::new(state),
            arrived: Notify::new(),
            ended: Notify::new(),
            retry: Notify::new(),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Queues the events of a caller. `events` must not be empty.
    pub(super) fn offer(&self, events: Vec<NewEvent>, now: Instant) -> Result<oneshot::Receiver<Answer>, IngestError> {
        let mut state = self.state.lock();
        if state.committers == 0 || state.retries.would_wait_in_vain(&events, now) {
            return Err(IngestError::Unavailable);
        }
        if !state.shares.take(by_tenant(&events)) {
            return Err(IngestError::Overloaded);
        }
        let is_for_retry = state.retries.concern(&events, now);
        let (job, answered) = Job::new(events);
        if is_for_retry {
            state.retries.add(job, now);
        } else {
            let tenant = job.tenant().clone();
            state.queue.push(&tenant, job);
        }
        drop(state);
        let waiting = if is_for_retry { &self.retry } else { &self.arrived };
        waiting.notify_one();
        Ok(answered)
    }

    /// Returns the next job for a committer, unless the job has more than `room` events.
    pub(super) fn next(&self, room: usize) -> Option<Job> {
        self.state.lock().queue.next(room, |job| job.events().len())
    }

    /// True if a job waits for a committer.
    pub(super) fn has_waiting(&self) -> bool {
        !self.state.lock().queue.is_empty()
    }

    pub(super) fn next_retry(&self, now: Instant) -> NextRetry {
        let mut state = self.state.lock();
        let taken = state.retries.take(now);
        if taken.group.is_empty() && taken.given_up.is_empty() {
            let has_ended = state.committers == 0 && !state.retries.has_waiting();
            return if has_ended { NextRetry::Ended } else { NextRetry::Nothing };
        }
        if state.retries.has_waiting() {
            self.retry.notify_one();
        }
        NextRetry::Work(taken)
    }

    /// Passes jobs that a committer could not accept to the retriers. `is_locked` is true if the transaction timed out on a
    /// lock.
    pub(super) fn hand_over(&self, group: Vec<Job>, is_locked: bool) {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let is_about_one = is_locked && group.len() == 1;
        for job in group {
            if is_about_one {
                state.retries.add_locked(job, now);
            } else {
                state.retries.add(job, now);
            }
        }
        drop(state);
        self.retry.notify_one();
    }

    /// Sends each caller of a transaction the results of that caller's events.
    pub(super) fn answer(&self, group: Vec<Job>, accepted: Vec<Acceptance>) {
        self.release(&group);
        let mut accepted = accepted.into_iter();
        for job in group {
            let count = job.events().len();
            job.answer(Ok(accepted.by_ref().take(count).collect()));
        }
    }

    /// Sends the callers an error: it is unknown whether their events were accepted.
    pub(super) fn refuse(&self, group: Vec<Job>) {
        self.release(&group);
        for job in group {
            job.answer(Err(IngestError::Unavailable));
        }
    }

    pub(super) fn accepted_retry(&self, group: Vec<Retry>, accepted: Vec<Acceptance>) {
        let jobs = self.state.lock().retries.accepted(group);
        self.answer(jobs, accepted);
    }

    pub(super) fn refuse_retry(&self, group: Vec<Retry>, is_locked: bool) {
        let jobs = self.state.lock().retries.refused(group, is_locked, Instant::now());
        self.refuse(jobs);
    }

    pub(super) fn separate_retry(&self, group: Vec<Retry>) {
        self.state.lock().retries.separate(group);
    }

    fn release(&self, group: &[Job]) {
        let mut state = self.state.lock();
        for job in group {
            state.shares.release(by_tenant(job.events()));
        }
    }
}

/// Counts a running committer. After the last committer has ended, events are refused.
#[derive(Debug)]
pub(super) struct Running(Arc<Shared>);

impl Running {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.state.lock().committers += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.committers -= 1;
        if state.committers == 0 {
            // Dropping a job sends an error to its caller.
            state.queue = RoundRobin::default();
            drop(state);
            self.0.retry.notify_waiters();
        }
    }
}

/// Counts a committer's transaction in progress.
#[derive(Debug)]
pub(super) struct UnderWay<'a>(&'a Shared);

impl<'a> UnderWay<'a> {
    pub(super) fn begin(shared: &'a Shared) -> Self {
        shared.under_way.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_one();
    }
}
