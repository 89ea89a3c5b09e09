//! The SQL caller: each minute it accepts an event in a transaction that stays open for 20 s.

use std::sync::Arc;
use std::time::Duration;

use flametree_notify::store::Db;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::book::Book;
use super::traffic::Event;
use crate::prepare::TENANT;
use crate::receiver::now_us;

/// The transaction starts this long after the start of each minute, so that it is open when a fault occurs.
const BEGINS_AT: Duration = Duration::from_secs(20);
/// How long the transaction is open. During this time, vacuum cannot remove new dead tuples.
const OPEN_FOR: Duration = Duration::from_secs(20);
/// The pause before a transaction is repeated after a crash of the server.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);

/// Accepts an event in each of `minutes` minutes. The first event has the number `first`.
pub(crate) async fn run(db: Db, book: Arc<Book>, first: u32, minutes: u32) {
    let started = Instant::now();
    for minute in 0..minutes {
        sleep_until(started + Duration::from_mins(u64::from(minute)) + BEGINS_AT).await;
        let event = Event::by_sql(first + minute);
        // If the response to a commit was lost, the repeated call finds the event by its idempotency key, as an HTTP call does.
        while let Err(error) = enqueue(&db, event).await {
            eprintln!("the SQL caller repeats its transaction: {error}");
            sleep(REPEAT_PAUSE).await;
        }
        let now = now_us();
        book.accept(event, now, now);
    }
}

async fn enqueue(db: &Db, event: Event) -> Result<(), sqlx::Error> {
    let mut body: Value = event.body();
    body["tenant_id"] = TENANT.into();
    let mut transaction = db.begin().await?;
    sqlx::query("SELECT * FROM flametree.enqueue_event($1::text::jsonb)")
        .bind(body.to_string())
        .execute(&mut *transaction)
        .await?;
    sleep(OPEN_FOR).await;
    transaction.commit().await
}
