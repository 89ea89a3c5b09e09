//! Retention drops whole partitions, but never while an unfinished delivery needs them.

use std::time::Duration;

use chrono::{Days, NaiveDate, Utc};
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::store::Db;
use flametree_notify::store::partitions;
use flametree_notify::store::queue::finish;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use crate::support::postgres::TestDatabase;
use crate::support::queue::{agent_with_webhook, claim_of, finished, outcomes, prepared, worker};
use crate::support::seed::{self, SeededEvent};

/// The age of the old events in these tests.
const AGE_DAYS: u64 = 40;
const DAYS_KEPT: u32 = 30;

fn days_ago(days: u64) -> NaiveDate {
    Utc::now().date_naive() - Days::new(days)
}

/// Creates partitions for the days from 41 to 39 days ago, in addition to today's partitions.
async fn with_old_days() -> TestDatabase {
    let db = prepared().await;
    let ensure = "SELECT flametree.ensure_partitions(current_date - 41, current_date - 39, 1, '{events, deliveries}')";
    seed::run(&db, ensure.into()).await;
    db
}

/// The number of partitions for days before yesterday.
async fn old_partitions(db: &Db) -> i64 {
    let statement =
        "SELECT count(*) FROM flametree.partitions() WHERE state = 'attached' AND ends_at < now() - interval '3 days'";
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

/// Removes expired partitions. Returns the names of the dropped tables.
async fn remove_expired(db: &Db) -> Vec<String> {
    let mut removed = Vec::new();
    for expired in partitions::expired(db, DAYS_KEPT).await.unwrap() {
        if partitions::remove(db, &expired).await.unwrap() {
            removed.push(expired.name);
        }
    }
    for name in &removed {
        let exists = sqlx::query_scalar("SELECT to_regclass('flametree.' || $1) IS NOT NULL").bind(name);
        assert!(!exists.fetch_one(db).await.unwrap_or(true), "{name} is still there");
    }
    removed
}

#[tokio::test]
async fn a_partition_stays_until_each_of_its_deliveries_has_an_outcome() {
    let db = with_old_days().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    let accepted_at = days_ago(AGE_DAYS).and_hms_opt(12, 0, 0).unwrap().and_utc();
    let event = seed::event(&db, accepted_at.timestamp_millis(), &SeededEvent::default()).await;
    let ready = format!(
        "INSERT INTO flametree.ready_deliveries (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
         VALUES ('webhook', 'acme', '{}', 1, '{}', '{}', now() - interval '39 days')",
        endpoint.uuid(),
        event.delivery(1).uuid(),
        event.uuid(),
    );
    seed::run(&db, ready).await;

    // No worker ran during the whole retention period, so the delivery is still ready. Only the partitions of earlier
    // days may be dropped.
    let by = worker(&db).await;
    assert_eq!(remove_expired(&db).await.len(), 2);
    let (claim, taken) = claim_of(&db, by, endpoint, 1).await;
    assert_eq!(remove_expired(&db).await, [] as [&str; 0]);
    assert_eq!(old_partitions(&db).await, 4);
    let ended = [finished(&taken[0], Outcome::Expired)];
    finish::finish(&db, Channel::Webhook, &[claim], &ended).await.unwrap();
    assert_eq!(outcomes(&db).await, [("expired".to_owned(), 1)]);
    assert_eq!(remove_expired(&db).await.len(), 4);
    assert_eq!(old_partitions(&db).await, 0);
}

/// Before a fix, retention failed if the system catalogs had statistics, because the planner then parsed the names of all tables
/// as names of partitions.
#[tokio::test]
async fn retention_works_after_the_system_catalogs_were_analyzed() {
    let db = with_old_days().await;
    seed::run(
        &db,
        "CREATE TABLE flametree.events_composit (); CREATE TABLE public.of_others (day date) PARTITION BY RANGE (day)"
            .into(),
    )
    .await;
    seed::run(
        &db,
        "CREATE TABLE public.of_others_1 PARTITION OF of_others FOR VALUES FROM (MINVALUE) TO ('2020-01-01')".into(),
    )
    .await;
    let mut direct = PgConnection::connect_with(&db.direct_options()).await.unwrap();
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut direct).await.unwrap();
    assert_eq!(remove_expired(&db).await.len(), 6);
    assert_eq!(
        partitions::prepare(&db, DAYS_KEPT).await.unwrap(),
        4,
        "two partitions for the day after tomorrow, and two for idempotency keys"
    );
    assert!(partitions::span(&db, DAYS_KEPT).await.unwrap().ends_at.unwrap() > Utc::now() + Days::new(2));
}

#[tokio::test]
async fn a_table_that_retention_did_not_detach_is_never_dropped() {
    let db = with_old_days().await;
    let day = days_ago(AGE_DAYS).format("%Y%m%d");
    seed::run(&db, format!("ALTER TABLE flametree.events DETACH PARTITION flametree.events_{day}")).await;
    assert_eq!(remove_expired(&db).await.len(), 5);
    seed::run(&db, format!("SELECT FROM flametree.events_{day}")).await;
}

#[tokio::test]
async fn keeps_a_table_that_an_operator_detached_after_retention_failed_to_detach_it() {
    let db = with_old_days().await;
    let expired = partitions::expired(&db, DAYS_KEPT).await.unwrap();
    let oldest = |parent| expired.iter().find(|partition| partition.parent() == Some(parent)).unwrap();
    let (events, deliveries) = (oldest("events"), oldest("deliveries"));
    // The lock blocks the detach for a minute. PostgreSQL detaches no partition concurrently from a table with a default partition.
    let mut lock = db.begin().await.unwrap();
    let statement = format!("LOCK TABLE flametree.{} IN SHARE UPDATE EXCLUSIVE MODE", events.name);
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *lock).await.unwrap();
    seed::run(&db, "CREATE TABLE public.others PARTITION OF flametree.deliveries DEFAULT".into()).await;
    assert!(!partitions::remove(&db, events).await.unwrap());
    partitions::remove(&db, deliveries).await.unwrap_err();
    lock.rollback().await.unwrap();
    seed::run(&db, "DROP TABLE public.others".into()).await;

    for (parent, table) in [("events", &events.name), ("deliveries", &deliveries.name)] {
        seed::run(&db, format!("ALTER TABLE flametree.{parent} DETACH PARTITION flametree.{table}")).await;
    }
    assert_eq!(remove_expired(&db).await.len(), 4);
    assert_eq!(partitions::detached_by_hand(&db).await.unwrap(), [&*deliveries.name, &*events.name]);
}

#[tokio::test]
async fn a_removal_that_did_not_start_is_not_late_after_the_retention_period_was_extended() {
    let db = with_old_days().await;
    let partition = partitions::expired(&db, DAYS_KEPT).await.unwrap().swap_remove(0);
    // The process crashed before the detach.
    seed::run(&db, format!("INSERT INTO flametree.partitions_to_drop VALUES ('{}')", partition.name)).await;
    assert_eq!(partitions::expired(&db, 365).await.unwrap(), []);
    assert!(partitions::span(&db, 365).await.unwrap().removal_due.unwrap() > Utc::now());
}

#[tokio::test]
async fn retention_continues_if_a_partition_with_replays_was_detached_manually() {
    let db = with_old_days().await;
    let noon = days_ago(AGE_DAYS + 1).and_hms_opt(12, 0, 0).unwrap().and_utc();
    let event = seed::event(&db, noon.timestamp_millis(), &SeededEvent::default()).await;
    let replay = format!(
        "INSERT INTO flametree.replays (id, tenant_id, replay_of, channel, endpoint_id, requested_by, created_at)
         VALUES ('{}', 'acme', '{}', 'webhook', gen_random_uuid(), 'a test', now())",
        event.delivery(2).uuid(),
        event.delivery(1).uuid(),
    );
    seed::run(&db, replay).await;
    let table = format!("deliveries_{}", days_ago(AGE_DAYS + 1).format("%Y%m%d"));
    seed::run(&db, format!("ALTER TABLE flametree.deliveries DETACH PARTITION flametree.{table}")).await;
    assert_eq!(remove_expired(&db).await.len(), 5);
    seed::run(&db, format!("SELECT FROM flametree.{table}")).await;
    assert_eq!(partitions::detached_by_hand(&db).await.unwrap(), [table]);
}

#[tokio::test]
async fn reports_and_creates_a_missing_partition_although_a_detached_table_has_its_name() {
    let db = TestDatabase::new().await;
    partitions::prepare(&db, DAYS_KEPT).await.unwrap();
    let ends_at = async || partitions::span(&db, DAYS_KEPT).await.unwrap().ends_at.unwrap();
    let whole = ends_at().await;
    let tomorrow = Utc::now().date_naive() + Days::new(1);
    let detach =
        format!("ALTER TABLE flametree.events DETACH PARTITION flametree.events_{}", tomorrow.format("%Y%m%d"));
    seed::run(&db, detach).await;
    assert_eq!(ends_at().await, tomorrow.and_time(chrono::NaiveTime::MIN).and_utc());
    assert_eq!(partitions::prepare(&db, DAYS_KEPT).await.unwrap(), 1);
    assert_eq!(ends_at().await, whole);
}

#[tokio::test]
async fn a_removal_is_due_from_its_first_attempt_until_the_table_is_dropped() {
    let db = TestDatabase::new().await;
    let is_late = async || {
        partitions::span(&db, DAYS_KEPT)
            .await
            .unwrap()
            .removal_due
            .is_some_and(|due| due < flametree_notify::app::now())
    };
    assert!(!is_late().await);
    // A lock prevented the drop after the detach.
    seed::run(&db, "CREATE TABLE flametree.idempotency_keys_20200101 ()".into()).await;
    seed::run(&db, "INSERT INTO flametree.partitions_to_drop VALUES ('idempotency_keys_20200101')".into()).await;
    assert!(is_late().await);
    for partition in partitions::expired(&db, DAYS_KEPT).await.unwrap() {
        assert!(partitions::remove(&db, &partition).await.unwrap());
    }
    assert!(!is_late().await);
}

#[tokio::test]
async fn the_next_run_completes_the_interrupted_removal_of_a_partition() {
    let db = with_old_days().await;
    // The first partition is detached but not dropped. The detach of the second partition was canceled before it finished.
    let [first, second, ..] = &partitions::expired(&db, DAYS_KEPT).await.unwrap()[..] else { panic!("no old days") };
    let parent = |name: &str| name.split_once('_').unwrap().0.to_owned();
    for (name, how) in [(&first.name, "detached"), (&second.name, "canceled")] {
        seed::run(&db, format!("INSERT INTO flametree.partitions_to_drop VALUES ('{name}')")).await;
        let detach = format!("ALTER TABLE flametree.{} DETACH PARTITION flametree.{name} CONCURRENTLY", parent(name));
        if how == "detached" {
            seed::run(&db, detach).await;
            continue;
        }
        let mut reader = db.begin().await.unwrap();
        let read = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM flametree.{name}"));
        sqlx::raw_sql(read).execute(&mut *reader).await.unwrap();
        let mut canceled = PgConnection::connect_with(&db.direct_options()).await.unwrap();
        sqlx::raw_sql("SET statement_timeout = '500ms'").execute(&mut canceled).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(detach)).execute(&mut canceled).await.unwrap_err();
    }
    let states: Vec<String> =
        sqlx::query_scalar("SELECT state FROM flametree.partitions() WHERE state <> 'attached' ORDER BY state")
            .fetch_all(&*db)
            .await
            .unwrap();
    assert_eq!(states, ["detached", "detaching"]);
    assert_eq!(remove_expired(&db).await.len(), 6);
    assert_eq!(remove_expired(&db).await, [] as [&str; 0]);
}

/// The transactions of callers overlap, so the table is always locked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_succeeds_although_callers_always_hold_transactions_open() {
    let db = TestDatabase::with_connections(20).await;
    seed::run(&db, "SELECT flametree.prepare_partitions(30)".into()).await;
    seed::run(
        &db,
        "SELECT flametree.ensure_partitions(current_date - 41, current_date - 39, 1, '{events, deliveries}')".into(),
    )
    .await;
    let mut callers = JoinSet::new();
    for caller in 0..8_u64 {
        let pool = db.pool.clone();
        callers.spawn(async move {
            for call in 0_u64.. {
                let mut tx = pool.begin().await.unwrap();
                let event = format!(
                    r#"{{"tenant_id":"acme","type":"user_message","agent_id":"a","session_id":"s-{caller}","text":"{call}"}}"#
                );
                sqlx::query("SELECT FROM flametree.enqueue_event($1::text::jsonb)").bind(event).execute(&mut *tx).await.unwrap();
                tokio::time::sleep(Duration::from_millis(300 + (caller * 171 + call * 97) % 1_200)).await;
                tx.commit().await.unwrap();
            }
        });
    }
    let removed = tokio::time::timeout(Duration::from_mins(5), remove_expired(&db)).await.unwrap();
    assert_eq!(removed.len(), 6);
    assert!(callers.try_join_next().is_none(), "no caller has failed");
}

#[tokio::test]
async fn the_number_of_partitions_does_not_grow_with_the_retention_period() {
    let db = TestDatabase::new().await;
    for (days_kept, width) in [(8, 1), (30, 1), (31, 2), (365, 13), (3_650, 122)] {
        let ensure = format!(
            "SELECT flametree.ensure_partitions(current_date - {days_kept}, current_date + 2, {width}, '{{events, deliveries}}')"
        );
        seed::run(&db, ensure).await;
        assert_eq!(partitions::prepare(&db, days_kept).await.unwrap_or(u32::MAX) % 5, 0, "only keys were missing");
        let count = "SELECT count(*), max(ends_at - starts_at) = make_interval(days => $1)
                     FROM flametree.partitions() WHERE parent = 'events'";
        let (count, is_widest): (i64, bool) = sqlx::query_as(count).bind(width).fetch_one(&*db).await.unwrap();
        assert!(count <= 34 && is_widest, "{days_kept} days: {count} partitions");
        seed::run(&db, "DO $$ DECLARE v_name text; BEGIN FOR v_name IN SELECT name FROM flametree.partitions() WHERE parent <> 'idempotency_keys'
            LOOP EXECUTE 'DROP TABLE flametree.' || v_name; END LOOP; END $$".into()).await;
    }
}
