//! Inserts events and deliveries as the service does, with times set by the test.

use flametree_notify::domain::ids::{DeliveryId, EventId};
use flametree_notify::store::Db;
use uuid::Uuid;

/// An event that happened at a given time.
#[derive(Debug, Clone)]
pub struct SeededEvent {
    pub tenant: &'static str,
    pub event_type: &'static str,
    pub agent: &'static str,
    pub session: &'static str,
    /// The number of the event's deliveries.
    pub deliveries: u16,
}

impl Default for SeededEvent {
    fn default() -> Self {
        Self { tenant: "acme", event_type: "user_message", agent: "agent-1", session: "s-1", deliveries: 1 }
    }
}

/// A delivery with an outcome.
#[derive(Debug, Clone)]
pub struct SeededDelivery {
    pub channel: &'static str,
    pub outcome: &'static str,
    pub http_status: Option<u16>,
    pub detail: Option<&'static str>,
    pub endpoint: Uuid,
}

impl Default for SeededDelivery {
    fn default() -> Self {
        Self {
            channel: "webhook",
            outcome: "delivered",
            http_status: Some(200),
            detail: None,
            endpoint: Uuid::from_u128(7),
        }
    }
}

/// Noon (UTC) yesterday in milliseconds since 1970. Yesterday has a partition, and no other events.
pub async fn yesterday_noon(db: &Db) -> i64 {
    let query = "SELECT (extract(epoch FROM (now() AT TIME ZONE 'UTC')::date - interval '12 hours') * 1000)::bigint";
    sqlx::Row::get(&sqlx::raw_sql(query).fetch_one(db).await.unwrap(), 0)
}

/// The id of the only event accepted at this millisecond.
pub fn event_id(milliseconds: i64) -> EventId {
    let time = u128::try_from(milliseconds).unwrap() << 80;
    EventId::from_uuid(Uuid::from_u128(time | 0x7000_8000_0000_0000_0000))
}

pub async fn event(db: &Db, milliseconds: i64, event: &SeededEvent) -> EventId {
    let id = event_id(milliseconds);
    let SeededEvent { tenant, event_type, agent, session, deliveries } = event;
    let uuid = id.uuid();
    run(
        db,
        format!(
            "INSERT INTO flametree.events
                 (tenant_id, id, type, deliveries, occurred_at, agent_id, session_id, text, metadata)
             VALUES ('{tenant}', '{uuid}', '{event_type}', {deliveries}, to_timestamp({milliseconds} / 1000.0),
                 '{agent}', '{session}', 'a secret text', '{{\"order\":7}}')"
        ),
    )
    .await;
    id
}

/// Inserts the record of a seeded event's `ordinal`-th delivery.
pub async fn delivery(db: &Db, tenant: &str, event: EventId, ordinal: u16, delivery: &SeededDelivery) -> DeliveryId {
    let id = event.delivery(ordinal);
    let SeededDelivery { channel, outcome, http_status, detail, endpoint } = delivery;
    let http_status = http_status.map_or("NULL".to_owned(), |status| status.to_string());
    let detail = detail.map_or("NULL".to_owned(), |detail| format!("'{detail}'"));
    let (uuid, event) = (id.uuid(), event.uuid());
    run(
        db,
        format!(
            "WITH recorded AS (
                 INSERT INTO flametree.deliveries (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel,
                     outcome, endpoint_version, duration_us, http_status, batch, detail)
                 VALUES ('{tenant}', '{uuid}', '{endpoint}', '{event}', now(), now(), '{channel}', '{outcome}', 3, 12345,
                     {http_status}, nextval('flametree.delivery_batches'), {detail})
                 RETURNING batch, id)
             SELECT flametree.note_batch(batch, ARRAY[id]) FROM recorded"
        ),
    )
    .await;
    id
}

/// Inserts a push config that has version 3 and this endpoint id.
pub async fn push_config(db: &Db, tenant: &str, agent: &str, endpoint: Uuid, url: &str) {
    run(
        db,
        format!(
            "INSERT INTO flametree.push_configs (tenant_id, agent_id, endpoint_id, version, enabled, url, signing, events,
                 header_names, header_values, header_secrets, created_at, updated_at)
             VALUES ('{tenant}', '{agent}', '{endpoint}', 3, true, '{url}', false, '{{user_message}}',
                 '{{X-Env}}', '{{\"\\\\x00\"}}', '{{true}}', now(), now())"
        ),
    )
    .await;
}

/// Inserts a user's browser whose subscription no key can decrypt.
pub async fn push_subscription(db: &Db, tenant: &str, user: &str, id: Uuid) {
    run(
        db,
        format!(
            "INSERT INTO flametree.push_subscriptions (tenant_id, id, user_id, version, active, ciphertext, created_at,
                 last_seen_at, endpoint_hash, host, vapid_key_id, label)
             VALUES ('{tenant}', '{id}', '{user}', 1, true, '\\x00', now(), now(), sha256('{id}'::bytea),
                 'push.acme.example', 'k', 'a browser of acme')"
        ),
    )
    .await;
}

pub async fn run(db: &Db, statement: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(db).await.unwrap();
}

/// Adds an interval to the clock that the schema's functions and the service's statements read.
pub async fn move_clock(db: &Db, by: &str) {
    let function = format!(
        "CREATE OR REPLACE FUNCTION flametree.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS
         $$ SELECT pg_catalog.clock_timestamp() + interval '{by}' $$"
    );
    run(db, function).await;
}
