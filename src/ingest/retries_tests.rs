//! Tests which events are retried, in which transactions, and which locks are remembered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::IngestError;
use super::job::Job;
use super::retries::{Retries, RetryGroup};
use super::shared::{NextRetry, Running, Shared};
use crate::domain::event::{EventType, NewEvent};
use crate::domain::names::{AgentId, SessionId, TenantId, UserId};
use crate::store::accept::LOCK_TIMEOUT;

/// A time that is longer than any wait in these tests.
const LONG: Duration = Duration::from_mins(1);

fn assignment(tenant: &str, session: usize) -> NewEvent {
    let session = SessionId::from_stored(format!("s-{session}"));
    let (tenant, agent) = (TenantId::from_stored(tenant.to_owned()), AgentId::from_stored("agent-1".to_owned()));
    let event = NewEvent::new(tenant, EventType::SessionAssigned, agent, session);
    NewEvent { assignee_id: Some(UserId::from_stored("u-1".to_owned())), ..event }
}

fn job(tenant: &str, session: usize) -> Job {
    Job::new(vec![assignment(tenant, session)]).0
}

/// Returns the tenant and the sessions of the group.
fn group(taken: &RetryGroup) -> (String, Vec<String>) {
    let events: Vec<&NewEvent> = taken.group.iter().flat_map(|retry| retry.job.events()).collect();
    let tenant = events.first().map(|event| event.tenant_id.as_str().to_owned()).unwrap_or_default();
    (tenant, events.iter().map(|event| event.session_id.as_str().to_owned()).collect())
}

fn of(tenant: &str, sessions: &[&str]) -> (String, Vec<String>) {
    (tenant.to_owned(), sessions.iter().map(|session| (*session).to_owned()).collect())
}

#[test]
fn a_failed_group_is_retried_by_tenant_and_then_by_caller() {
    let (mut retries, now) = (Retries::new(4), Instant::now());
    for (tenant, session) in [("a", 1), ("b", 1), ("a", 2), ("b", 2)] {
        retries.add(job(tenant, session), now);
    }
    let (a, b) = (retries.take(now), retries.take(now));
    assert_eq!(group(&a), of("a", &["s-1", "s-2"]));
    assert_eq!(group(&b), of("b", &["s-1", "s-2"]));
    assert!(retries.take(now).group.is_empty());
    assert_eq!(retries.accepted(b.group).len(), 2);
    assert!(!retries.concern(&[assignment("b", 1)], now));

    retries.separate(a.group);
    let (first, second) = (retries.take(now), retries.take(now));
    assert_eq!((group(&first), group(&second)), (of("a", &["s-1"]), of("a", &["s-2"])));
    assert_eq!(first.lock_timeout, LOCK_TIMEOUT);
    assert_eq!(retries.refused(first.group, true, now).len(), 1);
    assert_eq!(retries.accepted(second.group).len(), 1);
    assert!(retries.concern(&[assignment("a", 1)], now), "it was just found locked");
    assert!(!retries.concern(&[assignment("a", 2)], now) && !retries.concern(&[assignment("b", 1)], now));
    assert!(!retries.concern(&[assignment("a", 1)], now + LONG));
}

#[test]
fn one_transaction_at_a_time_uses_a_session_and_waiting_callers_time_out() {
    let (mut retries, now) = (Retries::new(4), Instant::now());
    retries.add_locked(job("a", 1), now);
    retries.add(job("a", 1), now);
    retries.add(job("a", 1), now + LOCK_TIMEOUT / 2);
    let first = retries.take(now);
    assert_eq!(group(&first), of("a", &["s-1"]), "a locked session is retried alone");
    assert!(retries.take(now).group.is_empty(), "two transactions use one session");

    let later = now + LOCK_TIMEOUT;
    assert_eq!(retries.refused(first.group, true, later).len(), 1);
    let next = retries.take(later);
    assert_eq!((next.given_up.len(), group(&next)), (1, of("a", &["s-1"])));
    assert_eq!(next.lock_timeout, LOCK_TIMEOUT / 2, "the caller has waited for half of its time");
    assert_eq!(retries.accepted(next.group).len(), 1);
    assert!(!retries.concern(&[assignment("a", 1)], later), "the lock is gone");
    assert!(!retries.has_waiting());
}

#[test]
fn a_tenant_uses_at_most_half_of_the_retriers() {
    let (mut retries, now) = (Retries::new(4), Instant::now());
    for session in 0..100 {
        retries.add_locked(job("a", session), now);
    }
    retries.add(job("b", 1), now);
    let tenants: Vec<String> = (0..4).map(|_| group(&retries.take(now)).0).collect();
    assert_eq!(tenants.iter().filter(|tenant| *tenant == "a").count(), 2, "{tenants:?}");
    assert_eq!(tenants.iter().filter(|tenant| *tenant == "b").count(), 1, "{tenants:?}");
}

#[test]
fn all_events_of_a_tenant_with_many_retries_go_to_the_retriers() {
    let (mut retries, now) = (Retries::new(4), Instant::now());
    for session in 0..10 {
        retries.add(job("a", session), now);
    }
    assert!(retries.concern(&[assignment("a", 1_000)], now));
    assert!(!retries.concern(&[assignment("b", 1_000)], now));
    assert!(retries.concern(&[assignment("b", 1_000), assignment("a", 1_000)], now), "a batch of both");
}

#[test]
fn only_one_caller_at_a_time_waits_for_a_lock_on_which_a_retry_timed_out() {
    let (shared, now) = (Arc::new(Shared::new(100, 4)), Instant::now());
    let _running = Running::new(&shared);
    let offer = |tenant: &str, session| shared.offer(vec![assignment(tenant, session)], now);
    let retry = || match shared.next_retry(now) {
        NextRetry::Work(taken) => taken.group,
        other => panic!("{other:?}"),
    };
    let _first = offer("a", 1).unwrap();
    shared.hand_over(shared.next(1).into_iter().collect(), true);
    let group = retry();
    let _second = offer("a", 1).expect("the first retry may soon get the lock");
    shared.refuse_retry(group, true);

    assert_eq!(offer("a", 1).unwrap_err(), IngestError::Unavailable, "the second caller waits already");
    let group = retry();
    assert_eq!(offer("a", 1).unwrap_err(), IngestError::Unavailable, "the second caller is retried");
    let _others = [offer("a", 2).unwrap(), offer("b", 1).unwrap()];
    shared.refuse_retry(group, true);

    let _third = offer("a", 1).expect("no other caller tries the lock");
    shared.accepted_retry(retry(), Vec::new());
    let _fourth = offer("a", 1).expect("the lock is gone");
    let _fifth = offer("a", 1).expect("the lock is gone");
}
