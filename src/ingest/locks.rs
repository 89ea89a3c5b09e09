//! Remembers which sessions and idempotency keys were found locked recently. Pure state, no I/O.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use super::job::runs;
use crate::domain::event::NewEvent;
use crate::domain::names::TenantId;

/// How long a lock is remembered. This time is longer than `Retry-After`, so that the lock is still remembered when the caller
/// retries.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// The maximum number of locks that are remembered per tenant. If a tenant has more locks, all of its sessions and idempotency
/// keys count as locked.
const KEYS_OF_TENANT: usize = 8;
/// The maximum number of tenants whose locks are remembered. The limit bounds memory. Locks of further tenants are not
/// remembered.
const TENANTS: usize = 1_000;

/// Hash of a session or an idempotency key of a tenant. A collision costs only a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LockKey(u64);

/// Creates lock keys. Each process seeds the hash randomly, so that callers cannot choose keys that collide.
#[derive(Debug, Default)]
pub(super) struct LockKeys(RandomState);

impl LockKeys {
    /// The keys of all sessions and idempotency keys that the database locks when it accepts these events.
    pub(super) fn of(&self, events: &[NewEvent]) -> Vec<LockKey> {
        let mut keys = Vec::new();
        for event in events {
            let key = |kind: &str, text: &str| LockKey(self.0.hash_one((kind, event.tenant_id.as_str(), text)));
            if event.event_type.moves_session() {
                keys.push(key("session", event.session_id.as_str()));
            }
            keys.extend(event.idempotency_key.as_deref().map(|text| key("key", text)));
        }
        keys
    }
}

/// The sessions and idempotency keys that were found locked in the last `REMEMBERED_FOR`.
#[derive(Debug, Default)]
pub(super) struct FoundLocked {
    by_tenant: HashMap<TenantId, OfTenant>,
    /// The time by which all entries expire. `None` if there are no entries.
    until: Option<Instant>,
}

/// The locks of one tenant. Each key counts as locked until the time that is stored for it.
#[derive(Debug, Default)]
struct OfTenant {
    keys: HashMap<LockKey, Instant>,
    /// The time until which all keys count as locked, because more than `KEYS_OF_TENANT` keys were locked.
    others: Option<Instant>,
}

impl FoundLocked {
    /// True if no lock is remembered.
    pub(super) fn is_empty(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| until <= now) {
            *self = Self::default();
        }
        self.until.is_none()
    }

    /// True if one of these keys counts as locked.
    pub(super) fn has(&self, tenant: &TenantId, keys: &[LockKey], now: Instant) -> bool {
        self.by_tenant.get(tenant).is_some_and(|of| of.has(keys, now))
    }

    /// True if one of these keys counts as locked, or the tenant has too many locks to remember each of them.
    pub(super) fn may_have(&self, tenant: &TenantId, keys: &[LockKey], now: Instant) -> bool {
        let of = self.by_tenant.get(tenant);
        of.is_some_and(|of| of.others.is_some_and(|until| until > now) || of.has(keys, now))
    }

    /// Remembers that a statement with these events timed out on a lock. Remembers nothing if the events have several tenants,
    /// because the lock could belong to any of them.
    pub(super) fn note(&mut self, keys: &LockKeys, events: &[NewEvent], now: Instant) {
        let mut runs = runs(events);
        let (Some(run), None) = (runs.next(), runs.next()) else { return };
        let (tenant, until) = (&run[0].tenant_id, now + REMEMBERED_FOR);
        if !self.by_tenant.contains_key(tenant) {
            self.by_tenant.retain(|_, of| of.is_locked(now));
            if self.by_tenant.len() >= TENANTS {
                return;
            }
        }
        self.by_tenant.entry(tenant.clone()).or_default().note(&keys.of(run), until, now);
        self.until = Some(until);
    }

    /// Forgets the locks of these events, because the events were accepted.
    pub(super) fn forget(&mut self, keys: &LockKeys, events: &[NewEvent]) {
        for run in runs(events) {
            if let Some(of) = self.by_tenant.get_mut(&run[0].tenant_id) {
                for key in keys.of(run) {
                    of.keys.remove(&key);
                }
            }
        }
    }
}

impl OfTenant {
    fn has(&self, keys: &[LockKey], now: Instant) -> bool {
        keys.iter().any(|key| self.keys.get(key).is_some_and(|until| *until > now))
    }

    fn is_locked(&self, now: Instant) -> bool {
        self.others.iter().chain(self.keys.values()).any(|until| *until > now)
    }

    fn note(&mut self, keys: &[LockKey], until: Instant, now: Instant) {
        self.keys.retain(|_, until| *until > now);
        for key in keys {
            if self.keys.len() < KEYS_OF_TENANT || self.keys.contains_key(key) {
                self.keys.insert(*key, until);
            } else {
                self.others = Some(until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::EventType;
    use crate::domain::names::{AgentId, SessionId, UserId};

    fn assignment(tenant: &str, session: usize) -> NewEvent {
        let session = SessionId::from_stored(format!("s-{session}"));
        let (tenant, agent) = (TenantId::from_stored(tenant.to_owned()), AgentId::from_stored("agent-1".to_owned()));
        let event = NewEvent::new(tenant, EventType::SessionAssigned, agent, session);
        NewEvent { assignee_id: Some(UserId::from_stored("u-1".to_owned())), ..event }
    }

    #[test]
    fn a_lock_is_remembered_for_five_seconds_and_for_one_tenant_only() {
        let (keys, mut found, now) = (LockKeys::default(), FoundLocked::default(), Instant::now());
        let (event, other) = (assignment("a", 1), assignment("b", 1));
        found.note(&keys, std::slice::from_ref(&event), now);
        let has = |found: &FoundLocked, event: &NewEvent, now| {
            found.may_have(&event.tenant_id, &keys.of(std::slice::from_ref(event)), now)
        };
        assert!(has(&found, &event, now) && !has(&found, &assignment("a", 2), now) && !has(&found, &other, now));
        assert!(!has(&found, &event, now + REMEMBERED_FOR));
        assert!(!found.is_empty(now) && found.is_empty(now + REMEMBERED_FOR));
    }

    #[test]
    fn every_session_of_a_tenant_with_many_locks_counts_as_locked() {
        let (keys, mut found, now) = (LockKeys::default(), FoundLocked::default(), Instant::now());
        let many: Vec<NewEvent> = (0..=KEYS_OF_TENANT).map(|session| assignment("a", session)).collect();
        found.note(&keys, &many, now);
        let (another, other) = (assignment("a", 1_000), assignment("b", 1_000));
        assert!(found.may_have(&another.tenant_id, &keys.of(std::slice::from_ref(&another)), now));
        assert!(!found.may_have(&other.tenant_id, &keys.of(std::slice::from_ref(&other)), now));
        assert_eq!(found.by_tenant[&another.tenant_id].keys.len(), KEYS_OF_TENANT);
    }

    #[test]
    fn a_lock_timeout_of_events_from_several_tenants_marks_no_session_as_locked() {
        let (keys, mut found, now) = (LockKeys::default(), FoundLocked::default(), Instant::now());
        let mut mixed: Vec<NewEvent> = (0..=KEYS_OF_TENANT).map(|session| assignment("b", session)).collect();
        mixed.push(assignment("a", 1));
        found.note(&keys, &mixed, now);
        for event in &mixed {
            assert!(!found.may_have(&event.tenant_id, &keys.of(std::slice::from_ref(event)), now), "{event:?}");
        }
    }

    #[test]
    fn a_message_without_an_idempotency_key_locks_nothing() {
        let mut event = NewEvent { event_type: EventType::UserMessage, assignee_id: None, ..assignment("a", 1) };
        assert!(LockKeys::default().of(std::slice::from_ref(&event)).is_empty());
        event.idempotency_key = Some("k-1".to_owned());
        assert_eq!(LockKeys::default().of(std::slice::from_ref(&event)).len(), 1);
    }
}
