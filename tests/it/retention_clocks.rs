//! Operations that remove old data remove nothing if the clock of the database or of the process is wrong.

use chrono::{DateTime, Days, TimeDelta, Utc};
use flametree_notify::app;
use flametree_notify::domain::operation::OperationKind;
use flametree_notify::store::{Db, operations};
use flametree_notify::worker::Operations;
use tokio_util::sync::CancellationToken;

use crate::longevity::operations_of;
use crate::support::queue::prepared;
use crate::support::seed::{self, SeededEvent, yesterday_noon};
use crate::support::service::ENCRYPTION_KEYS;

const REMOVING: [OperationKind; 3] =
    [OperationKind::Retention, OperationKind::WorkspaceRepair, OperationKind::SubscriptionPruning];

/// Runs each operation once, and returns its state and its note.
async fn run(db: &Db, now: fn() -> DateTime<Utc>) -> Vec<(String, Option<String>)> {
    sqlx::query("DELETE FROM flametree.operations").execute(db).await.unwrap();
    for kind in REMOVING {
        operations::enter_tick(db, kind, app::now()).await.unwrap();
    }
    let operations = Operations { now, ..operations_of(db, ENCRYPTION_KEYS, 30) };
    assert_eq!(operations.run_due(&CancellationToken::new()).await.unwrap(), 3);
    sqlx::query_as("SELECT state, note FROM flametree.operations").fetch_all(db).await.unwrap()
}

/// The numbers of events, rollups, sessions and subscriptions.
async fn kept(db: &Db) -> (i64, i64, i64, i64) {
    let counts = "SELECT (SELECT count(*) FROM flametree.events), (SELECT count(*) FROM flametree.delivery_rollups),
                         (SELECT count(*) FROM flametree.sessions), (SELECT count(*) FROM flametree.push_subscriptions)";
    sqlx::query_as(counts).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn nothing_is_removed_while_the_clocks_of_the_database_and_the_process_differ() {
    let db = prepared().await;
    seed::event(&db, yesterday_noon(&db).await, &SeededEvent::default()).await;
    let rows =
        "INSERT INTO flametree.delivery_rollups VALUES ('acme', 'agent-1', 60, now(), 'webhook', 'delivered', 1, 1);
        INSERT INTO flametree.sessions (tenant_id, id, agent_id, handler_changed_at, in_workspace, workspace_changed_at)
        VALUES ('acme', 's', 'agent-1', now(), true, now());
        INSERT INTO flametree.push_subscriptions (tenant_id, id, user_id, version, active, ciphertext, created_at,
            last_seen_at, endpoint_hash, host, vapid_key_id)
        VALUES ('acme', gen_random_uuid(), 'user', 1, true, '', now(), now(), sha256('x'), 'push.test', 'k')";
    sqlx::raw_sql(rows).execute(&*db).await.unwrap();
    seed::move_clock(&db, "400 days").await;
    let clocks: [fn() -> DateTime<Utc>; 3] = [
        || app::now() - Days::new(400),
        || app::now() - TimeDelta::minutes(61),
        || app::now() + TimeDelta::minutes(61),
    ];
    for now in clocks {
        for (state, note) in run(&db, now).await {
            let note = note.unwrap();
            assert!(state == "waiting" && note.contains("clocks"), "{state}: {note}");
        }
        assert_eq!(kept(&db).await, (1, 1, 1, 1));
    }
    // A small difference is tolerated. The database's functions still use the moved clock, so all rows have expired.
    let states = run(&db, || app::now() - TimeDelta::minutes(59)).await;
    assert!(states.iter().all(|(state, _)| state == "succeeded"), "{states:?}");
    assert_eq!(kept(&db).await, (0, 0, 0, 0));
}
