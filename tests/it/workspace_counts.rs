//! Tests that the operator workspace is exact for repeated events and for events in any order, by HTTP or SQL.

use std::collections::BTreeMap;

use flametree_notify::domain::names::TenantId;
use flametree_notify::domain::role::Role;
use flametree_notify::store::workspace;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::postgres::TestDatabase;
use crate::support::seed;

/// An event that changes a session, with its time in seconds after noon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Happened {
    at: u8,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Transferred,
    Assigned(u8),
    Resolved,
}
use What::{Assigned, Resolved, Transferred};

/// The interface that accepts an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Http,
    Sql,
}

/// The assignee and start time of each active session.
type Active = BTreeMap<String, (Option<String>, String)>;

fn time(at: u8) -> String {
    format!("2026-01-01T12:00:{at:02}Z")
}

/// The expected entry of a session after these events, in order of arrival. The latest event determines the assignee and the
/// start time. If two events have the same time, the event that arrived last counts.
fn in_workspace(arrived: &[Happened]) -> Option<(Option<String>, String)> {
    let latest = |wanted: fn(What) -> bool| {
        let words = arrived.iter().enumerate().filter(|(_, happened)| wanted(happened.what));
        words.max_by_key(|(place, happened)| (happened.at, *place)).map(|(_, happened)| *happened)
    };
    let last = latest(|_| true).filter(|last| last.what != Resolved)?;
    let assignee = match latest(|what| what != Transferred).map(|latest| latest.what) {
        Some(Assigned(user)) => Some(format!("user-{user}")),
        Some(Resolved | Transferred) | None => None,
    };
    Some((assignee, time(last.at)))
}

fn event(tenant: &str, session: &str, happened: Happened, key: Option<&str>) -> Value {
    let mut event = json!({
        "tenant_id": tenant, "agent_id": "agent-1", "session_id": session, "occurred_at": time(happened.at),
        "idempotency_key": key,
    });
    match happened.what {
        Transferred => event["type"] = "transferred_to_live_agent".into(),
        Resolved => event["type"] = "session_resolved".into(),
        Assigned(user) => {
            event["type"] = "session_assigned".into();
            event["assignee_id"] = format!("user-{user}").into();
        }
    }
    event
}

/// Posts events by HTTP or SQL: in one batch or transaction if `together` is true, and otherwise one by one.
async fn arrive(api: &TestApp, token: &str, way: Way, together: bool, events: Vec<Value>) {
    let transaction = |events: &[Value]| {
        let calls = events.iter().map(|event| format!("SELECT flametree.enqueue_event($event${event}$event$);"));
        format!("BEGIN; {} COMMIT", calls.collect::<String>())
    };
    match (way, together) {
        (Way::Http, true) => {
            let answer = api.post("/v1/events/batch", token, &json!({ "events": events })).await.expect(200);
            let results = answer["results"].as_array().unwrap();
            assert!(results.iter().all(|result| result["status"] == 202 || result["status"] == 200), "{answer}");
        }
        (Way::Http, false) => {
            for event in events {
                let answer = api.post("/v1/events", token, &event).await;
                assert!([200, 202].contains(&answer.status), "{answer:?}");
            }
        }
        (Way::Sql, true) => seed::run(&api.db, transaction(&events)).await,
        (Way::Sql, false) => {
            for event in events {
                seed::run(&api.db, transaction(&[event])).await;
            }
        }
    }
}

async fn active(api: &TestApp, token: &str, tenant: &str) -> Active {
    let document = api.get(&format!("/v1/workspace/active-conversations?tenant_id={tenant}"), token).await.expect(200);
    let conversations = document["conversations"].as_array().unwrap();
    assert_eq!(document["count"], conversations.len(), "{document}");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let found = conversations.iter().map(|found| {
        assert_eq!(found["agent_id"], "agent-1");
        (text(&found["session_id"]).unwrap(), (text(&found["assignee_id"]), text(&found["since"]).unwrap()))
    });
    found.collect()
}

fn permutations(of: &[Happened]) -> Vec<Vec<Happened>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in of.iter().enumerate() {
        let rest: Vec<Happened> = [&of[..place], &of[place + 1..]].concat();
        all.extend(permutations(&rest).into_iter().map(|rest| [vec![*first], rest].concat()));
    }
    all
}

/// Possible histories of a session, with their events in order of time.
fn stories() -> Vec<Vec<Happened>> {
    let story = |events: &[What]| (1..).zip(events).map(|(at, what)| Happened { at, what: *what }).collect();
    vec![
        story(&[Transferred, Assigned(1), Assigned(2), Resolved]),
        story(&[Assigned(1), Resolved, Transferred]),
        story(&[Transferred, Resolved, Assigned(1), Assigned(2)]),
        story(&[Assigned(1)]),
        story(&[Transferred]),
        story(&[Resolved]),
        story(&[Assigned(1), Resolved]),
        story(&[Assigned(1), Transferred, Assigned(2)]),
    ]
}

#[tokio::test]
async fn every_order_and_repetition_of_events_results_in_the_same_workspace() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, None).await;
    let ways = [(Way::Http, true), (Way::Http, false), (Way::Sql, true), (Way::Sql, false)];
    for (number, (way, together)) in ways.into_iter().enumerate() {
        let tenant = format!("tenant-{number}");
        let mut by_the_rules = Active::new();
        let mut sessions = Vec::new();
        for (story, happened) in stories().into_iter().enumerate() {
            for (order, arrived) in permutations(&happened).into_iter().enumerate() {
                let session = format!("s-{story}-{order}");
                // The times of the events decide, not their order of arrival.
                let facts = in_workspace(&happened);
                assert_eq!(in_workspace(&arrived), facts, "{arrived:?}");
                by_the_rules.extend(facts.map(|facts| (session.clone(), facts)));
                sessions.push((session, arrived, happened.clone()));
            }
        }
        assert!(by_the_rules.len() > 30);
        let keyed = |session: &str, arrived: &[Happened]| -> Vec<Value> {
            let keyed =
                |happened: &Happened| event(&tenant, session, *happened, Some(&format!("{session}-{}", happened.at)));
            arrived.iter().map(keyed).collect()
        };
        for (session, arrived, _) in &sessions {
            arrive(&api, &token, way, together, keyed(session, arrived)).await;
        }
        assert_eq!(active(&api, &token, &tenant).await, by_the_rules, "{way:?} {together}");
        // Sends the events again with their keys, as after a crash of the sender, and then without keys.
        for (session, arrived, happened) in &sessions {
            arrive(&api, &token, way, true, keyed(session, arrived)).await;
            let keyless = happened.iter().map(|happened| event(&tenant, session, *happened, None));
            arrive(&api, &token, way, true, keyless.collect()).await;
        }
        assert_eq!(active(&api, &token, &tenant).await, by_the_rules, "{way:?} {together} after the replay");
    }
}

/// The interface for the events, whether the events arrive together, and the events, each with the number of a session.
type Group = (Way, bool, Vec<(u8, Happened)>);

/// Groups of events of two sessions in order of arrival, some with equal times. Each group is accepted by HTTP or SQL.
fn arrivals() -> impl Strategy<Value = Vec<Group>> {
    let what = prop_oneof![Just(Transferred), (1_u8..4).prop_map(Assigned), Just(Resolved)];
    let happened = (0_u8..2, (0_u8..6, what).prop_map(|(at, what)| Happened { at, what }));
    let way = prop_oneof![Just(Way::Http), Just(Way::Sql)];
    vec((way, any::<bool>(), vec(happened, 1..4)), 1..6)
}

#[tokio::test]
async fn the_latest_time_determines_the_state_for_any_order_of_events_by_http_or_sql() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, None).await;
    let mut runner = TestRunner::deterministic();
    for case in 0..150 {
        let groups = arrivals().new_tree(&mut runner).unwrap().current();
        let tenant = format!("tenant-{case}");
        let mut arrived: BTreeMap<String, Vec<Happened>> = BTreeMap::new();
        for (group, (way, together, events)) in groups.iter().enumerate() {
            let mut posted = Vec::new();
            for (place, (session, happened)) in events.iter().enumerate() {
                let session = format!("s-{session}");
                posted.push(event(&tenant, &session, *happened, Some(&format!("{group}-{place}"))));
                arrived.entry(session).or_default().push(*happened);
            }
            arrive(&api, &token, *way, *together, posted.clone()).await;
            // The sender got no response, and sends the whole group again.
            if group % 2 == 0 {
                arrive(&api, &token, *way, !*together, posted).await;
            }
        }
        let facts = arrived.iter().filter_map(|(session, arrived)| Some((session.clone(), in_workspace(arrived)?)));
        assert_eq!(active(&api, &token, &tenant).await, facts.collect::<Active>(), "{groups:?}");
    }
}

/// Inserts resolved and waiting sessions of the tenant `acme`.
async fn fill(db: &TestDatabase, resolved: u32, waiting: u32) {
    let statement = format!(
        "INSERT INTO flametree.sessions (tenant_id, id, agent_id, handler_changed_at, in_workspace, workspace_changed_at)
         SELECT 'acme', 's-' || n, 'agent-1', now(), n > {resolved}, now() - interval '1 day' + n * interval '1 second'
         FROM generate_series(1, {resolved} + {waiting}) AS n"
    );
    seed::run(db, statement).await;
}

#[tokio::test]
async fn counts_all_conversations_and_lists_the_latest_hundred() {
    let api = TestApp::start().await;
    let token = api.token(Role::Operator, Some("acme")).await;
    fill(&api.db, 10, 250).await;
    let document = api.get("/v1/workspace/active-conversations", &token).await.expect(200);
    assert_eq!(document["count"], 250);
    let listed = document["conversations"].as_array().unwrap();
    let names: Vec<&str> = listed.iter().map(|listed| listed["session_id"].as_str().unwrap()).collect();
    assert_eq!(names, (161..=260).rev().map(|number| format!("s-{number}")).collect::<Vec<_>>());
    assert!(document["as_of"].is_string() && listed[0]["assignee_id"].is_null());

    let other = api.token(Role::Operator, Some("other")).await;
    let document = api.get("/v1/workspace/active-conversations", &other).await.expect(200);
    assert_eq!((&document["count"], &document["conversations"]), (&json!(0), &json!([])));
}

/// PostgreSQL caches a plan that was made on empty tables. This plan must not read a tenant's whole history after the tables have
/// grown.
#[tokio::test]
async fn counting_reads_only_the_sessions_in_the_workspace() {
    let db = TestDatabase::with_connections(1).await;
    let acme = TenantId::parse("acme").unwrap();
    sqlx::query("VACUUM ANALYZE").execute(&*db).await.unwrap();
    let mut until = workspace::changes(&db, None).await.unwrap().until;
    for _ in 0..8 {
        workspace::active_of(&db, &acme).await.unwrap();
        workspace::count_of_all(&db).await.unwrap();
        until = workspace::changes(&db, Some(&until)).await.unwrap().until;
    }
    fill(&db, 20_000, 20).await;
    assert_eq!(workspace::changes(&db, Some(&until)).await.unwrap().tenants, std::slice::from_ref(&acme));
    until = workspace::changes(&db, Some(&until)).await.unwrap().until;
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&*db).await.unwrap();
    sqlx::query("SELECT pg_stat_reset()").execute(&*db).await.unwrap();
    assert_eq!(workspace::active_of(&db, &acme).await.unwrap().count, 20);
    assert_eq!(workspace::count_of_all(&db).await.unwrap(), 20);
    assert_eq!(workspace::changes(&db, Some(&until)).await.unwrap().tenants, []);
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&*db).await.unwrap();
    let (scanned, walked): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'sessions'),
                (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'sessions')",
    )
    .fetch_one(&*db)
    .await
    .unwrap();
    assert_eq!(scanned, 0, "rows were read by scanning the whole table");
    assert!((60..100).contains(&walked), "three statements read {walked} index entries for 20 conversations");
}
