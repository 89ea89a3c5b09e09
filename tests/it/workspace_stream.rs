//! Tests the stream of the operator workspace: the snapshot and the badges that it sends on every node, and when the stream ends.

use std::time::Duration;

use ::http::Method;
use flametree_notify::domain::role::Role;
use flametree_notify::http::Settings;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::app::{ACME, Options, TestApp};
use crate::support::seed;
use crate::support::sse::{EventStream, Piece, try_open};
use crate::support::waiting::eventually;

pub(crate) fn assigned(session: &str, assignee: &str) -> Value {
    json!({"type": "session_assigned", "agent_id": "agent-1", "session_id": session, "assignee_id": assignee})
}

pub(crate) fn enqueue(tenant: &str, mut event: Value) -> String {
    event["tenant_id"] = tenant.into();
    format!("SELECT flametree.enqueue_event($event${event}$event$)")
}

fn with_settings(change: impl FnOnce(&mut Settings)) -> Options {
    let mut options = Options::default();
    change(&mut options.http);
    options
}

async fn posted(api: &TestApp, event: &Value) {
    let service = api.token(Role::Service, Some(ACME)).await;
    api.post("/v1/events", &service, event).await.expect(202);
}

fn clients(api: &TestApp) -> String {
    let text = api.metrics.render();
    text.lines().find_map(|line| line.strip_prefix("flametree_workspace_stream_clients ")).unwrap().to_owned()
}

#[tokio::test]
async fn a_stream_starts_with_a_snapshot_and_sends_every_change_on_every_node() {
    let near = TestApp::start().await;
    let far = near.beside(Options::default()).await;
    let token = near.token(Role::Operator, Some(ACME)).await;
    posted(&near, &assigned("s-1", "user-7")).await;

    let mut streams =
        [EventStream::open(near.address, &token, None).await, EventStream::open(far.address, &token, None).await];
    for stream in &mut streams {
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        assert_eq!(stream.headers["cache-control"], "no-store");
        assert!(matches!(stream.piece().await, Some(Piece::Retry(1_000..4_000))));
        let (name, _, data) = stream.event().await;
        assert_eq!((name.as_str(), &data["count"]), ("snapshot", &json!(1)));
        let document = near.get("/v1/workspace/active-conversations", &token).await.expect(200);
        assert_eq!(data["conversations"], document["conversations"]);
        assert_eq!(data["conversations"][0]["assignee_id"], "user-7");
        assert!(data["as_of"].is_string());
    }
    // Another tenant's events do not appear here.
    seed::run(&near.db, enqueue("other", assigned("s-1", "user-7"))).await;
    posted(&near, &assigned("s-2", "user-7")).await;
    for stream in &mut streams {
        assert_eq!(stream.expect("badge").await.1, 2);
    }
    seed::run(&near.db, enqueue(ACME, json!({"type": "session_resolved", "agent_id": "a", "session_id": "s-1"}))).await;
    for stream in &mut streams {
        assert_eq!(stream.expect("badge").await.1, 1);
    }
    // A new assignee is a change, although the count is the same.
    posted(&far, &assigned("s-2", "user-8")).await;
    for stream in &mut streams {
        assert_eq!(stream.expect("badge").await.1, 1);
    }
    eventually("the metrics of both nodes count one stream", || [&near, &far].map(clients) == ["1", "1"]).await;
    drop(streams);
    eventually("the metrics of both nodes count no stream", || [&near, &far].map(clients) == ["0", "0"]).await;
}

#[tokio::test]
async fn sends_a_change_that_commits_long_after_later_changes() {
    let api = TestApp::start().await;
    let token = api.token(Role::Operator, Some(ACME)).await;
    let mut stream = EventStream::open(api.address, &token, None).await;
    assert_eq!(stream.expect("snapshot").await.1, 0);

    let mut late = api.db.pool.begin().await.unwrap();
    let statement = sqlx::AssertSqlSafe(enqueue(ACME, assigned("late", "user-7")));
    sqlx::raw_sql(statement).execute(&mut *late).await.unwrap();
    for number in 1..=5 {
        seed::run(&api.db, enqueue(ACME, assigned(&format!("s-{number}"), "user-7"))).await;
        stream.badge_of(number).await;
    }
    late.commit().await.unwrap();
    assert_eq!(stream.expect("badge").await.1, 6);

    let mut never = api.db.pool.begin().await.unwrap();
    let statement = sqlx::AssertSqlSafe(enqueue(ACME, assigned("never", "user-7")));
    sqlx::raw_sql(statement).execute(&mut *never).await.unwrap();
    never.rollback().await.unwrap();
    seed::run(&api.db, enqueue(ACME, assigned("s-6", "user-7"))).await;
    assert_eq!(stream.expect("badge").await.1, 7);
}

#[tokio::test]
async fn a_tenant_whose_sessions_cannot_be_read_delays_no_other_tenant() {
    const DAMAGE: &str = "
        ALTER FUNCTION flametree.active_conversations RENAME TO test_active_conversations;
        CREATE FUNCTION flametree.active_conversations(p_tenants text[], p_most bigint) RETURNS TABLE (
            tenant text, as_of timestamptz, total bigint, sessions text[], agents text[], assignees text[],
            since timestamptz[]) LANGUAGE plpgsql STABLE AS $$
        BEGIN
            IF 'damaged' = ANY (p_tenants) THEN
                RAISE EXCEPTION 'the test cannot read this page' USING ERRCODE = 'data_corrupted';
            END IF;
            RETURN QUERY SELECT * FROM flametree.test_active_conversations(p_tenants, p_most);
        END $$";
    const REPAIR: &str = "
        DROP FUNCTION flametree.active_conversations;
        ALTER FUNCTION flametree.test_active_conversations RENAME TO active_conversations";
    let api = TestApp::start().await;
    let healthy = api.token(Role::Operator, Some(ACME)).await;
    let damaged = api.token(Role::Operator, Some("damaged")).await;
    let mut healthy = EventStream::open(api.address, &healthy, None).await;
    let mut damaged = EventStream::open(api.address, &damaged, None).await;
    assert_eq!((healthy.expect("snapshot").await.1, damaged.expect("snapshot").await.1), (0, 0));
    seed::run(&api.db, DAMAGE.to_owned()).await;
    seed::run(&api.db, enqueue("damaged", assigned("s-1", "user-7"))).await;
    seed::run(&api.db, enqueue(ACME, assigned("s-1", "user-7"))).await;
    let healthy_badge = tokio::time::timeout(Duration::from_secs(20), healthy.expect("badge")).await;
    assert_eq!(healthy_badge.expect("the healthy tenant's stream shows the change").1, 1);
    seed::run(&api.db, REPAIR.to_owned()).await;
    seed::run(&api.db, enqueue("damaged", assigned("s-2", "user-7"))).await;
    assert_eq!(damaged.expect("badge").await.1, 2);
}

#[tokio::test]
async fn a_last_event_id_from_any_node_resumes_or_restarts_the_stream() {
    let near = TestApp::start().await;
    let far = near.beside(Options::default()).await;
    let token = near.token(Role::Operator, Some(ACME)).await;
    posted(&near, &assigned("s-1", "user-7")).await;
    let (snapshot, _) = EventStream::open(near.address, &token, None).await.expect("snapshot").await;

    // Nothing has changed since the snapshot, so the stream sends no new snapshot on either node.
    let mut resumed = EventStream::open(far.address, &token, Some(&snapshot)).await;
    assert!(matches!(resumed.piece().await, Some(Piece::Retry(_))));
    assert_eq!(resumed.piece().await, Some(Piece::Comment("nothing has changed".into())));
    posted(&near, &assigned("s-2", "user-7")).await;
    let (badge, count) = resumed.expect("badge").await;
    assert_eq!(count, 2);

    // An id that is too old, of another workspace, or invalid makes the stream start with a snapshot.
    for id in [snapshot.as_str(), "0000000000000000", "x", ""] {
        let mut reset = EventStream::open(near.address, &token, Some(id)).await;
        assert_eq!(reset.expect("snapshot").await, (badge.clone(), 2), "{id}");
    }
    let authorization = format!("Bearer {token}");
    let path = format!("/v1/workspace/stream?last_event_id={badge}");
    let mut resumed = try_open(near.address, &path, &[("authorization", &authorization)]).await.unwrap();
    assert!(matches!(resumed.piece().await, Some(Piece::Retry(_))));
    assert!(matches!(resumed.piece().await, Some(Piece::Comment(_))));
}

#[tokio::test]
async fn comments_keep_an_idle_stream_open_and_no_request_timeout_ends_it() {
    let settings = with_settings(|http| {
        http.workspace.heartbeat = Duration::from_millis(50);
        http.request_timeout = Duration::from_secs(1);
        http.head_timeout = Duration::from_millis(200);
        http.body_timeout = Duration::from_millis(200);
        http.write_timeout = Duration::from_millis(200);
    });
    let api = TestApp::with(settings).await;
    let token = api.token(Role::Operator, Some(ACME)).await;
    let mut stream = EventStream::open(api.address, &token, None).await;
    assert_eq!(stream.expect("snapshot").await.1, 0);
    // The 40 comments take twice as long as the longest timeout.
    for _ in 0..40 {
        assert_eq!(stream.piece().await, Some(Piece::Comment(String::new())));
    }
    posted(&api, &assigned("s-1", "user-7")).await;
    assert_eq!(stream.expect("badge").await.1, 1);
}

#[tokio::test]
async fn closes_the_stream_of_a_client_that_does_not_read() {
    let api = TestApp::with(with_settings(|http| http.write_timeout = Duration::from_millis(500))).await;
    let token = api.token(Role::Operator, Some(ACME)).await;
    let long = "x".repeat(120);
    let many: Vec<Value> = (0..100).map(|number| assigned(&format!("{number}{long}"), &long)).collect();
    let service = api.token(Role::Service, Some(ACME)).await;
    api.post("/v1/events/batch", &service, &json!({ "events": many })).await.expect(200);

    // The client's buffer is smaller than the snapshot, so the server cannot send the rest.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stalled = socket.connect(api.address).await.unwrap();
    ask(&mut stalled, &token).await;
    let mut reading = EventStream::open(api.address, &token, None).await;
    assert_eq!(reading.expect("snapshot").await.1, 100);
    eventually("both streams are open", || clients(&api) == "2").await;
    eventually("the server closes the stream of the client that does not read", || clients(&api) == "1").await;
    posted(&api, &json!({"type": "session_resolved", "agent_id": "a", "session_id": format!("0{long}")})).await;
    assert_eq!(reading.expect("badge").await.1, 99);
}

async fn ask(stream: &mut TcpStream, token: &str) {
    let head = format!("GET /v1/workspace/stream HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn limits_streams_for_each_caller_and_for_the_node() {
    let api = TestApp::with(with_settings(|http| {
        http.workspace.max_streams = 3;
        http.workspace.max_streams_per_caller = 2;
    }))
    .await;
    let one = api.token(Role::Operator, Some(ACME)).await;
    let other = api.token(Role::Admin, Some("other")).await;
    let first = EventStream::open(api.address, &one, None).await;
    let _second = EventStream::open(api.address, &one, None).await;
    let refused = async |token: &str| {
        let answer = api.get("/v1/workspace/stream", token).await;
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        answer
    };
    refused(&one).await.problem(429, "rate_limited");
    let _third = EventStream::open(api.address, &other, None).await;
    refused(&other).await.problem(503, "overloaded");
    drop(first);
    eventually("the slot is free", || clients(&api) == "2").await;
    // One tenant may use all free streams of the node.
    refused(&one).await.problem(429, "rate_limited");
    let third = api.token(Role::Operator, Some("third")).await;
    EventStream::open(api.address, &third, None).await;
}

#[tokio::test]
async fn a_stop_ends_every_stream_without_waiting() {
    // If the stop waited for the streams, it would not end during this test.
    let api = TestApp::with(with_settings(|http| http.drain_timeout = Duration::from_hours(1))).await;
    let token = api.token(Role::Operator, Some(ACME)).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = EventStream::open(api.address, &token, None).await;
        stream.expect("snapshot").await;
        streams.push(stream);
    }
    api.draining.cancel();
    api.shutdown.cancel();
    for stream in streams {
        stream.ended().await;
    }
    eventually("no stream is left", || clients(&api) == "0").await;
    assert!(TcpStream::connect(api.address).await.is_err());
}

#[tokio::test]
async fn a_stream_ends_when_the_token_that_opened_it_is_revoked() {
    let api = TestApp::start().await;
    let admin = api.token(Role::Admin, Some(ACME)).await;
    let (id, token) = api.token_with_id(Role::Operator, Some(ACME)).await;
    let mut stays = EventStream::open(api.address, &admin, None).await;
    let mut ends = EventStream::open(api.address, &token, None).await;
    assert_eq!((stays.expect("snapshot").await.1, ends.expect("snapshot").await.1), (0, 0));
    api.request(Method::DELETE, &format!("/v1/tokens/{id}"), &admin, None).await.expect(204);
    ends.ended().await;
    posted(&api, &assigned("s-1", "user-7")).await;
    assert_eq!(stays.expect("badge").await.1, 1);
}

#[tokio::test]
async fn a_metric_counts_the_conversations_of_all_tenants() {
    let api = TestApp::start().await;
    for tenant in ["one", "other"] {
        seed::run(&api.db, enqueue(tenant, assigned("s-1", "user-7"))).await;
    }
    let counted = || api.metrics.render().contains("flametree_workspace_active_conversations 2\n");
    eventually("the conversations are counted", counted).await;
}
