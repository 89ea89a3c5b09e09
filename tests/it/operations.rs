//! Tests the effect of each scheduled operation, who may see operations, and that each tick runs once.

use std::time::Duration;

use flametree_notify::store::Db;
use serde_json::Value;
use sqlx::Row as _;

use crate::support::deployment::{Deployment, TENANT};
use crate::support::refusals::{accept, refuse};
use crate::support::seed::{self, SeededDelivery, SeededEvent, yesterday_noon};
use crate::support::service::{EACH_SECOND, Part};
use crate::support::waiting::within;

const PATIENCE: Duration = Duration::from_mins(1);

async fn number(db: &Db, query: &'static str) -> i64 {
    sqlx::raw_sql(query).fetch_one(db).await.unwrap().get(0)
}

#[tokio::test]
async fn each_tick_of_a_schedule_runs_on_only_one_node() {
    const SUCCEEDED: &str = "flametree_operations_total{operation=\"retention\",result=\"succeeded\"}";
    let deployment = Deployment::new().await;
    let settings = deployment.settings.clone().with("FLAMETREE_RETENTION_SCHEDULE", EACH_SECOND);
    let workers =
        [settings.start(Part::Worker).await, settings.start(Part::Worker).await, settings.start(Part::Worker).await];
    let ended = "SELECT count(*) FROM flametree.operations WHERE kind = 'retention' AND state = 'succeeded'";
    let count = async || number(&deployment.pool, ended).await;
    within(PATIENCE, "ticks have ended", async || count().await >= 6).await;

    let before = count().await;
    let runs = async || {
        let mut runs = 0.0;
        for worker in &workers {
            runs += worker.metric(SUCCEEDED).await;
        }
        runs
    };
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    within(PATIENCE, "the runs are counted", async || runs().await >= before as f64).await;
    let counted = runs().await;
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let ended = count().await as f64;
    assert!(counted <= ended, "{counted} counted runs, but only {ended} ticks have ended");
    let again = "SELECT count(*) FROM flametree.operations WHERE attempts > 1";
    assert_eq!(number(&deployment.pool, again).await, 0);
}

#[tokio::test]
async fn only_the_operators_of_the_deployment_see_scheduled_operations() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    let api = deployment.client(&service);
    // At the first start, each schedule has a missed tick, which runs late.
    let kinds = ["retention", "workspace_repair", "subscription_pruning", "rollup", "reencryption"];
    let mut page = Value::Null;
    within(PATIENCE, "every schedule has run", async || {
        page = api.get("/v1/operations?limit=250").await.json();
        let rows = page["data"].as_array().unwrap();
        let has_run = |kind: &&str| rows.iter().any(|row| row["kind"] == **kind && row["state"] == "succeeded");
        kinds.iter().all(has_run)
    })
    .await;
    let row = &page["data"][0];
    assert!(row["scheduled_for"].is_string() && row["replay"].is_null(), "{row}");
    let one = api.get(&format!("/v1/operations/{}", row["id"].as_str().unwrap())).await;
    assert_eq!(one.status, 200, "{}", one.text());
    let of_tenant = api.get(&format!("/v1/operations?tenant_id={TENANT}")).await.json();
    assert_eq!(of_tenant["data"].as_array().unwrap().len(), 0, "a tenant does not see them");
    let cancel = format!("/v1/operations/{}/cancel?tenant_id={TENANT}", row["id"].as_str().unwrap());
    assert_eq!(api.post(&cancel, &Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_schedule_whose_ticks_the_database_rejects_delays_no_other_schedule() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    refuse(db, "operations", "NEW.kind = 'retention'").await;
    let settings = deployment.settings.clone().with("FLAMETREE_RETENTION_SCHEDULE", EACH_SECOND);
    let worker = settings.with("FLAMETREE_ROLLUP_SCHEDULE", EACH_SECOND).start(Part::Worker).await;
    let ended = "SELECT count(*) FROM flametree.operations WHERE kind = 'rollup' AND state = 'succeeded'";
    within(PATIENCE, "rollups go on", async || number(db, ended).await >= 3).await;
    assert!(worker.has_logged("refused a tick"), "no tick was refused, so nothing was tested");
    accept(db).await;
    let retained = "SELECT count(*) FROM flametree.operations WHERE kind = 'retention' AND state = 'succeeded'";
    within(PATIENCE, "retention runs again", async || number(db, retained).await >= 1).await;
}

#[tokio::test]
async fn schedules_continue_after_the_database_has_set_its_clock_back() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let settings = deployment.settings.clone().with("FLAMETREE_ROLLUP_SCHEDULE", EACH_SECOND);
    let _worker = settings.start(Part::Worker).await;
    let recent = "SELECT count(*) FROM flametree.operations
        WHERE kind = 'rollup' AND state = 'succeeded' AND tick > flametree.clock() - interval '1 hour'
          AND tick <= flametree.clock()";
    for by in ["0 days", "-7 days"] {
        seed::move_clock(db, by).await;
        within(PATIENCE, "the rollup runs at the database's time", async || number(db, recent).await >= 2).await;
    }
}

#[tokio::test]
async fn retention_drops_old_partitions_except_while_an_unfinished_replay_needs_them() {
    const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'flametree.deliveries'::regclass AND c.relname ~ '_2[0-9]{7}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - 30";
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    seed::run(db, "SELECT flametree.ensure_partitions(current_date - 41, current_date - 36)".into()).await;
    let event = seed::event(db, yesterday_noon(db).await - 37 * 86_400_000, &SeededEvent::default()).await;
    let (first, replay) = (event.delivery(1).uuid(), event.delivery(2).uuid());
    seed::delivery(db, TENANT, event, 1, &SeededDelivery::default()).await;
    for statement in [
        format!(
            "INSERT INTO flametree.replays (id, tenant_id, replay_of, channel, endpoint_id, requested_by, created_at)
             VALUES ('{replay}', '{TENANT}', '{first}', 'webhook', gen_random_uuid(), 'tok', now())"
        ),
        "SELECT flametree.ensure_partitions(current_date - 5, current_date, 1, '{idempotency_keys}')".to_owned(),
        "INSERT INTO flametree.idempotency_keys (tenant_id, key, day, event_id, body_hash)
         SELECT 'acme', n::text, (now() AT TIME ZONE 'UTC')::date - n, gen_random_uuid(), '' FROM generate_series(0, 4) AS n"
            .to_owned(),
    ] {
        seed::run(db, statement).await;
    }

    let settings = deployment.settings.clone().with("FLAMETREE_RETENTION_SCHEDULE", EACH_SECOND);
    let _worker = settings.start(Part::Worker).await;
    within(PATIENCE, "partitions of earlier days are dropped", async || number(db, PARTITIONS).await == 3).await;
    let keys = async || number(db, "SELECT count(*) FROM flametree.idempotency_keys").await;
    within(PATIENCE, "keys older than two days are dropped", async || (2..=3).contains(&keys().await)).await;

    let ended = SeededDelivery { outcome: "expired", http_status: None, ..SeededDelivery::default() };
    seed::delivery(db, TENANT, event, 2, &ended).await;
    within(PATIENCE, "the partition of the replayed day is dropped", async || number(db, PARTITIONS).await == 0).await;
    assert_eq!(number(db, "SELECT count(*) FROM flametree.replays").await, 0);
}

#[tokio::test]
async fn deletes_only_sessions_and_subscriptions_that_have_not_been_used_for_a_long_time() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    for statement in [
        "INSERT INTO flametree.sessions (tenant_id, id, agent_id, handler_id, handler_changed_at, in_workspace,
             workspace_changed_at)
         VALUES ('acme', 'forgotten', 'agent-1', 'user-1', now() - interval '31 days', true, now() - interval '40 days'),
                ('acme', 'handled', 'agent-1', 'user-1', now() - interval '1 day', true, now() - interval '40 days'),
                ('acme', 'resolved', 'agent-1', NULL, now() - interval '31 days', false, now() - interval '31 days'),
                ('acme', 'just-resolved', 'agent-1', NULL, now(), false, now())",
        "INSERT INTO flametree.push_subscriptions (tenant_id, id, user_id, version, active, ciphertext, created_at,
             last_seen_at, endpoint_hash, host, vapid_key_id)
         VALUES ('acme', gen_random_uuid(), 'unseen', 1, true, '', now(), now() - interval '181 days',
                 sha256('unseen'), 'push.test', 'k'),
                ('acme', gen_random_uuid(), 'seen', 1, true, '', now(), now() - interval '179 days',
                 sha256('seen'), 'push.test', 'k')",
    ] {
        seed::run(db, statement.to_owned()).await;
    }
    // The process starts only if the subscriptions look encrypted.
    let settings = deployment
        .settings
        .clone()
        .with("FLAMETREE_WORKSPACE_REPAIR_SCHEDULE", EACH_SECOND)
        .with("FLAMETREE_SUBSCRIPTION_PRUNING_SCHEDULE", EACH_SECOND)
        .with("FLAMETREE_REENCRYPTION_SCHEDULE", "0 0 29 2 *");
    seed::run(db, format!("UPDATE flametree.push_subscriptions SET ciphertext = '\\x01026b31{}'", "00".repeat(60)))
        .await;
    let worker = settings.start(Part::Worker).await;
    let sessions = "SELECT count(*) FROM flametree.sessions WHERE id IN ('handled', 'just-resolved')";
    within(PATIENCE, "two sessions are left", async || {
        number(db, "SELECT count(*) FROM flametree.sessions").await == 2
    })
    .await;
    assert_eq!(number(db, sessions).await, 2);
    assert_eq!(number(db, "SELECT count(*) FROM flametree.sessions WHERE in_workspace").await, 1);
    let seen = "SELECT count(*) FROM flametree.push_subscriptions WHERE user_id = 'seen'";
    within(PATIENCE, "one subscription is left", async || {
        number(db, "SELECT count(*) FROM flametree.push_subscriptions").await == 1
    })
    .await;
    assert_eq!(number(db, seen).await, 1);
    let removed = "flametree_push_subscriptions_removed_total{reason=\"unseen\"}";
    within(PATIENCE, "the removal is counted", async || worker.metric(removed).await >= 1.0).await;
}

/// Makes a table reject all statements of one type, even if they affect no row.
async fn refuse_all(db: &Db, action: &str, table: &str) {
    let statement = format!(
        "CREATE OR REPLACE FUNCTION flametree.refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'refused by a test'; END $$;
         CREATE TRIGGER refuse BEFORE {action} ON flametree.{table} EXECUTE FUNCTION flametree.refuse()"
    );
    seed::run(db, statement).await;
}

#[tokio::test]
async fn a_failing_step_of_retention_does_not_stop_the_other_steps() {
    const OLD: &str = "SELECT (SELECT count(*) FROM flametree.endpoint_tests)
        + (SELECT count(*) FROM flametree.operations WHERE created_at < now() - interval '8 days')
        + (SELECT count(*) FROM flametree.delivery_rollups)";
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let seed_old_rows = async || {
        for statement in [
            "INSERT INTO flametree.endpoint_tests (tenant_id, agent_id, tested_at)
             VALUES ('acme', 'agent-1', ARRAY[now() - interval '1 hour'])",
            "INSERT INTO flametree.operations (id, kind, tenant_id, state, due_at, created_at, finished_at)
             VALUES (gen_random_uuid(), 'replay', 'acme', 'succeeded', now(), now() - interval '9 days',
                     now() - interval '9 days')",
            "INSERT INTO flametree.delivery_rollups (tenant_id, agent_id, span_minutes, starts_at, channel, outcome,
                 bucket, deliveries)
             VALUES ('acme', 'agent-1', 60, now() - interval '40 days', 'webhook', 'delivered', 80, 1)",
        ] {
            seed::run(db, statement.to_owned()).await;
        }
        assert_eq!(number(db, OLD).await, 3);
    };
    seed_old_rows().await;
    refuse_all(db, "DELETE", "push_config_changes").await;
    let settings = deployment.settings.clone().with("FLAMETREE_RETENTION_SCHEDULE", EACH_SECOND);
    let worker = settings.start(Part::Worker).await;
    within(PATIENCE, "the later steps have run", async || number(db, OLD).await == 0).await;

    seed::run(db, "ALTER FUNCTION flametree.prepare_partitions RENAME TO prepare_partitions_away".into()).await;
    seed_old_rows().await;
    within(PATIENCE, "the later steps run although the first step fails too", async || number(db, OLD).await == 0)
        .await;
    for step in ["push_config_history", "partitions_in_advance"] {
        let logged = format!("step=\"{step}\"");
        within(PATIENCE, "the log names each failed step", async || worker.has_logged(&logged)).await;
    }
    let succeeded = "SELECT count(*) FROM flametree.operations WHERE kind = 'retention' AND state = 'succeeded'";
    assert_eq!(number(db, succeeded).await, 0, "retention succeeds only if every step succeeds");

    seed::run(db, "ALTER FUNCTION flametree.prepare_partitions_away RENAME TO prepare_partitions".into()).await;
    seed::run(db, "DROP TRIGGER refuse ON flametree.push_config_changes".into()).await;
    within(PATIENCE, "retention succeeds", async || number(db, succeeded).await > 0).await;
}

#[tokio::test]
async fn a_failing_first_step_of_a_repair_or_a_rollup_does_not_stop_the_second_step() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    for statement in [
        "INSERT INTO flametree.sessions (tenant_id, id, agent_id, handler_changed_at, in_workspace, workspace_changed_at)
         VALUES ('acme', 'resolved', 'agent-1', now() - interval '31 days', false, now() - interval '31 days')",
        "ALTER FUNCTION flametree.summarize_batches RENAME TO summarize_batches_away",
        "SELECT flametree.prepare_partitions(30)",
    ] {
        seed::run(db, statement.to_owned()).await;
    }
    let event = seed::event(db, yesterday_noon(db).await, &SeededEvent::default()).await;
    seed::delivery(db, TENANT, event, 1, &SeededDelivery::default()).await;
    refuse_all(db, "UPDATE", "sessions").await;
    let settings = deployment
        .settings
        .clone()
        .with("FLAMETREE_WORKSPACE_REPAIR_SCHEDULE", EACH_SECOND)
        .with("FLAMETREE_ROLLUP_SCHEDULE", EACH_SECOND);
    let worker = settings.start(Part::Worker).await;
    let sessions = "SELECT count(*) FROM flametree.sessions";
    within(PATIENCE, "old sessions are deleted", async || number(db, sessions).await == 0).await;
    let behind = "SELECT count(*) FROM flametree.uncounted_batches";
    within(PATIENCE, "deliveries are rolled up", async || number(db, behind).await == 0).await;
    for kind in ["workspace_repair", "rollup"] {
        let retried = format!("flametree_operations_total{{operation=\"{kind}\",result=\"retried\"}}");
        within(PATIENCE, "the failure is counted", async || worker.metric(&retried).await >= 1.0).await;
    }
}
