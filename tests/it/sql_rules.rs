//! The HTTP API and the function `flametree.enqueue_event` validate events by the same rules.

use std::borrow::Cow;

use flametree_notify::domain::event::NewEvent;
use flametree_notify::domain::names::{CustomerId, UserId};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, Row as _};

use crate::support::postgres::TestDatabase;

/// Pointer, code and message.
type Fault = (String, String, String);

fn faults_of_the_api(event: &Value) -> Result<NewEvent, Vec<Fault>> {
    flametree_notify::http::parse_event(event.clone(), None, "").map_err(|faults| {
        faults.into_iter().map(|fault| (fault.pointer, fault.code.as_str().to_owned(), fault.message)).collect()
    })
}

/// Returns `Err` without faults if PostgreSQL cannot parse the event because the event contains U+0000.
async fn faults_of_sql(connection: &mut PgConnection, event: &Value) -> Result<(), Vec<Fault>> {
    let statement = format!("SELECT flametree.event_faults($event${event}$event$::jsonb)::text");
    let row = match sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).fetch_one(connection).await {
        Ok(row) => row,
        Err(error) => {
            let code = error.as_database_error().and_then(|error| error.code().map(Cow::into_owned));
            assert_eq!(code.as_deref(), Some("22P05"), "{error} for {event}");
            return Err(Vec::new());
        }
    };
    let faults: Vec<Value> = serde_json::from_str(row.get(0)).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let faults: Vec<Fault> =
        faults.iter().map(|fault| (text(&fault["pointer"]), text(&fault["code"]), text(&fault["message"]))).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Describes any disagreement between the API and SQL about the event. Both must store the same event, or report the same faults.
async fn disagreement(connection: &mut PgConnection, event: &Value) -> Option<String> {
    let has_nul = event.to_string().contains("\\u0000");
    let (api, sql) = (faults_of_the_api(event), faults_of_sql(connection, event).await);
    let agree = match (&api, &sql) {
        (Ok(expected), Ok(())) => return stored_otherwise(connection, event, expected).await,
        (Err(_), Err(faults)) if has_nul => faults.is_empty(),
        (Err(api), Err(sql)) => api == sql,
        (Ok(_), Err(_)) | (Err(_), Ok(())) => false,
    };
    (!agree).then(|| format!("{event}\n  API: {api:?}\n  SQL: {sql:?}"))
}

async fn assert_agreement(events: impl Iterator<Item = Value>) {
    let database = TestDatabase::new().await;
    let partitions = "SELECT flametree.ensure_partitions(current_date - 1, current_date + 1)";
    sqlx::raw_sql(partitions).execute(&database.pool).await.unwrap();
    let mut connection = database.pool.acquire().await.unwrap();
    let mut disagreements = Vec::new();
    for event in events {
        disagreements.extend(disagreement(&mut connection, &event).await);
    }
    let count = disagreements.len();
    disagreements.truncate(20);
    assert!(disagreements.is_empty(), "{count} disagreements, such as\n{}", disagreements.join("\n"));
}

/// Describes any difference between the stored event and the event that the API parsed.
async fn stored_otherwise(connection: &mut PgConnection, event: &Value, expected: &NewEvent) -> Option<String> {
    let statement = format!(
        "BEGIN;
         SELECT flametree.enqueue_event($event${event}$event$);
         SELECT tenant_id, type::text, agent_id, session_id, customer_id, text, assignee_id,
                (extract(epoch FROM occurred_at) * 1000000)::bigint, metadata
         FROM flametree.events;
         ROLLBACK"
    );
    let rows = match sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).fetch_all(&mut *connection).await {
        Ok(rows) => rows,
        Err(error) => {
            sqlx::raw_sql("ROLLBACK").execute(connection).await.unwrap();
            return Some(format!("{event}\n  SQL: {error}"));
        }
    };
    let row = rows.last().unwrap();
    let texts: Vec<Option<String>> = (0..7).map(|column| row.get(column)).collect();
    let of_the_api = [
        Some(expected.tenant_id.as_str()),
        Some(expected.event_type.as_str()),
        Some(expected.agent_id.as_str()),
        Some(expected.session_id.as_str()),
        expected.customer_id.as_ref().map(CustomerId::as_str),
        expected.text.as_deref(),
        expected.assignee_id.as_ref().map(UserId::as_str),
    ];
    let at: i64 = row.get(7);
    let same_time = expected.occurred_at.is_none_or(|of_the_api| of_the_api.timestamp_micros() == at);
    let metadata: Option<Value> = row.get::<Option<String>, _>(8).map(|text| serde_json::from_str(&text).unwrap());
    let same_metadata = metadata == expected.metadata.as_ref().map(|text| serde_json::from_str(text).unwrap());
    let same = same_time && same_metadata && texts.iter().map(Option::as_deref).eq(of_the_api);
    (!same).then(|| format!("{event}\n  API: {expected:?}\n  SQL: {texts:?} {at} {metadata:?}"))
}

fn good() -> Map<String, Value> {
    let event =
        json!({"type": "user_message", "tenant_id": "acme", "agent_id": "a", "session_id": "s", "text": "Hello"});
    event.as_object().unwrap().clone()
}

fn with(field: &str, value: Value) -> Value {
    let mut event = good();
    event.insert(field.to_owned(), value);
    Value::Object(event)
}

fn without(field: &str) -> Value {
    let mut event = good();
    event.remove(field);
    Value::Object(event)
}

#[tokio::test]
async fn sql_and_the_api_report_the_same_faults_for_edge_cases() {
    let mut cases =
        vec![json!({}), json!([]), json!(null), json!("text"), json!(1), json!(true), Value::Object(good())];
    for field in FIELDS {
        cases.push(without(field));
        cases.extend(values().map(|value| with(field, value)));
    }
    cases.extend(times().map(|time| with("occurred_at", json!(time))));
    cases.extend(["", "~", "/", "a/b~c", "é", "Z", "tenant", "\u{1}"].map(|name| with(name, json!(0))));
    for count in [20, 21, 300] {
        let mut event = good();
        event.extend((0..count).map(|number| (format!("x{number}"), json!(0))));
        cases.push(Value::Object(event));
    }
    let types = ["new_session_started", "transferred_to_live_agent", "session_assigned", "session_resolved"];
    for event_type in types {
        for (field, value) in [("text", json!("")), ("text", json!(1)), ("assignee_id", json!("u"))] {
            let Value::Object(mut event) = with(field, value) else { panic!() };
            event.insert("type".to_owned(), json!(event_type));
            cases.push(Value::Object(event));
        }
    }
    // A literal backslash before the text `u0000` is not the escape sequence of U+0000.
    cases.push(with("metadata", json!({"\\u0000": "C:\\u0000"})));
    // Compact JSON of the maximum length, and of one byte more. The second value contains a list and objects, which jsonb prints
    // with spaces.
    for length in [16_384, 16_385] {
        cases.push(with("metadata", json!({"k": "x".repeat(length - 8)})));
        cases.push(with("metadata", json!({"k": "x".repeat(length - 37), "l": [1, 2, [3, {}], {"m": "n"}]})));
    }
    assert_agreement(cases.into_iter()).await;
}

#[tokio::test]
async fn sql_and_the_api_agree_on_random_events() {
    const CASES: usize = 2_000;
    let mut runner = TestRunner::default();
    let events = event();
    let cases: Vec<Value> = (0..CASES).map(|_| events.new_tree(&mut runner).unwrap().current()).collect();
    assert_agreement(cases.into_iter()).await;
}

const FIELDS: [&str; 11] = [
    "type",
    "tenant_id",
    "agent_id",
    "session_id",
    "customer_id",
    "occurred_at",
    "text",
    "assignee_id",
    "metadata",
    "idempotency_key",
    "expires_in_seconds",
];

/// Values that some fields accept and other fields reject.
fn values() -> impl Iterator<Item = Value> {
    let texts = ["", "a", " ", "\u{1}", "\u{7f}", "\u{80}", "\u{9f}", "\u{a0}", "\u{2028}", "\u{feff}", "\u{0}", "📦"];
    let names = ["x".repeat(127), "x".repeat(128), "x".repeat(129), "é".repeat(64), "é".repeat(65)];
    let keys = ["x".repeat(255), "x".repeat(256), "é".repeat(127), "é".repeat(128)];
    let types = ["user_message", "session_assigned", "session_resolved", "User_Message"];
    let others = json!([
        null, true, false, 0, 1, 604_800, 604_801, -1, 1.0, 100.0, 1.5, 604_800.0, 604_801.0, -1.0, 0.0, 1e15, 1e300,
        18_446_744_073_709_551_615_u64, [], ["a"], {}, {"a": null}, {"a": {"b": [1, "c"]}}, {"": "\u{0}"}, {"a": 0.5}
    ]);
    let texts = texts.map(str::to_owned).into_iter().chain(names).chain(keys).chain(types.map(str::to_owned));
    texts.map(Value::String).chain(others.as_array().unwrap().clone())
}

fn times() -> impl Iterator<Item = &'static str> {
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01t00:00:00z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00.1Z",
        "2026-01-01T00:00:00.123456789Z",
        "2026-01-01T00:00:00.9999999Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00-00:00",
        "2026-01-01T00:00:00+14:00",
        "2026-01-01T00:00:00+15:59",
        "2026-01-01T00:00:00+16:00",
        "2026-01-01T00:00:00-23:59",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-01-01T00:00:00+0100",
        "2026-01-01T24:00:00Z",
        "2026-01-01T23:60:00Z",
        "2026-01-01T23:59:60Z",
        "2026-01-01T23:59:60.5Z",
        "2026-01-01T12:30:60Z",
        "2026-01-01T23:59:61Z",
        "2026-02-29T00:00:00Z",
        "2028-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59.9999999Z",
        "10000-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        "2026-1-1T0:0:0Z",
        " 2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z ",
        "2026-01-01T00:00:00Z\n",
        "٢٠٢٦-01-01T00:00:00Z",
        "now",
        "infinity",
    ]
    .into_iter()
}

fn event() -> impl Strategy<Value = Value> {
    let known = proptest::collection::vec((proptest::sample::select(FIELDS.to_vec()), field_value()), 0..4);
    let unknown = proptest::option::weighted(0.2, (any::<String>(), field_value()));
    (known, unknown, proptest::collection::vec(proptest::sample::select(FIELDS.to_vec()), 0..2)).prop_map(
        |(known, unknown, removed)| {
            let mut event = good();
            event.extend(known.into_iter().map(|(name, value)| (name.to_owned(), value)));
            event.extend(unknown);
            event.retain(|name, _| !removed.contains(&name.as_str()));
            Value::Object(event)
        },
    )
}

fn field_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => proptest::sample::select(values().collect::<Vec<_>>()),
        1 => any::<String>().prop_map(Value::String),
        1 => any::<i64>().prop_map(Value::from),
        1 => (1_u64..700_000).prop_map(Value::from),
        1 => time().prop_map(Value::String),
        1 => any_json(),
    ]
}

fn time() -> impl Strategy<Value = String> {
    (
        0_u32..11_000,
        0_u32..14,
        0_u32..33,
        0_u32..26,
        0_u32..62,
        0_u32..62,
        "(\\.[0-9]{1,9})?",
        "Z|[+-][012][0-9]:[0-6][0-9]",
    )
        .prop_map(|(year, month, day, hour, minute, second, fraction, zone)| {
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}")
        })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}
