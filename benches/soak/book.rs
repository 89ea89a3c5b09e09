//! The harness's record of each event: whether the API accepted the event, and whether an endpoint received it. If only one of
//! these has happened, the record contains its time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::findings::Findings;
use super::plan::Plan;
use super::traffic::{Endpoint, Event};

#[derive(Debug)]
pub(crate) struct Book {
    plan: Plan,
    pub(crate) accepted: Bits,
    pub(crate) received: Bits,
    /// The time at which an event to a healthy endpoint was accepted or received, in microseconds since 1970. Once both times
    /// are known, the event is removed.
    one_sided: Mutex<HashMap<u32, i64>>,
    waits: Mutex<Waits>,
    pub(crate) counts: Counts,
    pub(crate) findings: Findings,
}

/// The durations that were recorded since the last call of [`Book::take_waits`], in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// The durations from the due time of an event until its caller received the acceptance.
    pub(crate) accept: Vec<i64>,
    /// The durations from when a caller received an acceptance until the event's request arrived at a healthy endpoint.
    pub(crate) receive: Vec<i64>,
}

/// The number of requests to the API, by result.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Responses with 202.
    pub(crate) accepted: AtomicU64,
    /// Responses with 200, for events whose first response was lost.
    pub(crate) accepted_before: AtomicU64,
    /// Responses after which the event was posted again.
    pub(crate) told_to_repeat: AtomicU64,
    /// Requests without a response.
    pub(crate) unanswered: AtomicU64,
}

impl Book {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            accepted: Bits::new(plan.events()),
            received: Bits::new(plan.events()),
            one_sided: Mutex::default(),
            waits: Mutex::default(),
            counts: Counts::default(),
            findings: Findings::default(),
        }
    }

    pub(crate) const fn event(&self, number: u32) -> Event {
        if number < self.plan.posted() { Event::posted(number) } else { Event::by_sql(number) }
    }

    /// Records that the caller of an event received the acceptance at `at`. The event was due at `due`.
    pub(crate) fn accept(&self, event: Event, due: i64, at: i64) {
        self.accepted.set(event.number);
        self.waits.lock().unwrap().accept.push(at - due);
        if event.endpoint() == Endpoint::Healthy && event.deliveries() > 0 {
            self.pair(event.number, |received| received - at, at);
        }
    }

    /// Records that the request of event `number` arrived at `endpoint` at `at`.
    pub(crate) fn receive(&self, number: u32, endpoint: Endpoint, at: i64) {
        if !self.received.set(number) {
            self.findings.add("a delivery was received twice", number);
        } else if endpoint == Endpoint::Healthy {
            self.pair(number, |accepted| at - accepted, at);
        }
    }

    /// Records when an event was accepted or received. Once both times are known, records the time between them. This time is 0
    /// if the request arrived before the caller's response.
    fn pair(&self, number: u32, wait: impl FnOnce(i64) -> i64, at: i64) {
        match self.one_sided.lock().unwrap().entry(number) {
            Entry::Occupied(other) => self.waits.lock().unwrap().receive.push(wait(other.remove()).max(0)),
            Entry::Vacant(entry) => {
                entry.insert(at);
            }
        }
    }

    /// Returns and clears the recorded durations.
    pub(crate) fn take_waits(&self) -> Waits {
        std::mem::take(&mut *self.waits.lock().unwrap())
    }
}

/// A bit for each event.
#[derive(Debug)]
pub(crate) struct Bits(Box<[AtomicU64]>);

impl Bits {
    pub(crate) fn new(count: u32) -> Self {
        Self((0..=count / u64::BITS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets the bit of an event. Returns false if the bit was already set, or if there is no such event.
    pub(crate) fn set(&self, number: u32) -> bool {
        let bit = 1 << (number % u64::BITS);
        self.word(number).is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    pub(crate) fn get(&self, number: u32) -> bool {
        self.word(number).is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (number % u64::BITS)) != 0)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    fn word(&self, number: u32) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(number / u64::BITS).unwrap())
    }
}
