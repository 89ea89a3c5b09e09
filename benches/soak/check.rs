//! Checks the guarantees after all deliveries have ended: compares the records of callers and endpoints with the database.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flametree_notify::store::Db;
use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::time::{Instant, sleep};

use super::book::{Bits, Book};
use super::plan::Plan;
use super::processes::{Outcomes, Processes, log_path};
use super::traffic::{Endpoint, SESSIONS, number_of};

/// How long the last deliveries may take. Deliveries of a killed worker wait until the worker's lease expires, and deliveries to
/// hanging endpoints wait for permits.
const DRAINED_WITHIN: Duration = Duration::from_mins(5);
/// The maximum time, in microseconds, from the claim of a delivery to a kill that interrupts the delivery: 5 s until the
/// attempt's deadline, and 5 s until the outcome is recorded.
const IN_FLIGHT_FOR: i64 = 10_000_000;
/// The maximum number of outcomes that a worker records between the last scrape of its metrics and its kill.
const UNCOUNTED_PER_KILL: u64 = 1_024;

/// Waits until no delivery is ready or claimed.
pub(crate) async fn drain(db: &Db, book: &Book) {
    let deadline = Instant::now() + DRAINED_WITHIN;
    let text = "SELECT (SELECT count(*) FROM flametree.ready_deliveries)
                     + (SELECT count(*) FROM flametree.claims WHERE delivery_ids <> '{}')";
    loop {
        let left: i64 = sqlx::query_scalar(text).fetch_one(db).await.unwrap();
        if left == 0 {
            return;
        }
        if Instant::now() > deadline {
            return book.findings.add("deliveries and claims are left without an outcome", left);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Runs all checks; returns numbers for the report.
pub(crate) async fn check(db: &Db, plan: &Plan, book: &Book, processes: &Processes) -> Vec<String> {
    let stored = Bits::new(plan.events());
    events(db, book, &stored).await;
    for number in (0..plan.events()).filter(|number| book.accepted.get(*number) != stored.get(*number)) {
        let what = if stored.get(number) {
            "an event is stored, but no caller received the acceptance"
        } else {
            "an accepted event is lost"
        };
        book.findings.add(what, number);
    }
    let outcomes = outcomes(db).await;
    compare_outcomes(book, processes, &outcomes).await;
    compare_acceptances(book, processes, plan, &stored).await;
    interruptions(db, book, &processes.kills).await;
    bounds(db, book, processes.kills.len()).await;
    logs(book);
    let counts = &book.counts;
    vec![
        format!("{} events accepted", book.accepted.count()),
        format!("{} received", book.received.count()),
        format!(
            "outcomes: {}",
            outcomes.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
        ),
        format!("{} workers killed", processes.kills.len()),
        format!(
            "{} responses that required a repeat, {} requests without a response",
            counts.told_to_repeat.load(Ordering::Relaxed),
            counts.unanswered.load(Ordering::Relaxed)
        ),
    ]
}

/// Reads every event with the outcomes of its deliveries.
async fn events(db: &Db, book: &Book, stored: &Bits) {
    let text = "SELECT e.customer_id, e.deliveries, ARRAY(
                    SELECT d.outcome::text FROM flametree.deliveries AS d
                    WHERE d.tenant_id = e.tenant_id AND d.id > e.id AND d.id <= flametree.delivery_id(e.id, 65535)
                ) AS outcomes
                FROM flametree.events AS e";
    let mut rows = sqlx::query(text).fetch(db);
    while let Some(row) = rows.try_next().await.unwrap() {
        event(&row, book, stored);
    }
}

fn event(row: &PgRow, book: &Book, stored: &Bits) {
    let findings = &book.findings;
    let customer: Option<String> = row.get(0);
    let Some(number) = customer.as_deref().and_then(number_of) else {
        return findings.add("an event is stored, but was not posted", format!("{customer:?}"));
    };
    if !stored.set(number) {
        return findings.add("an event was accepted twice", number);
    }
    let event = book.event(number);
    let (deliveries, outcomes): (i16, Vec<String>) = (row.get(1), row.get(2));
    if usize::try_from(deliveries) != Ok(event.deliveries()) {
        findings.add("an event has a wrong number of deliveries", number);
    }
    let received = book.received.get(number);
    let [outcome] = outcomes.as_slice() else {
        if outcomes.len() != event.deliveries() {
            findings.add("a delivery does not have exactly one outcome", format!("{number}: {outcomes:?}"));
        }
        if received {
            findings.add("an event without a delivery was received", number);
        }
        return;
    };
    let endpoint = event.endpoint();
    if outcome != "interrupted" && !endpoint.outcomes().contains(&outcome.as_str()) {
        findings
            .add("a delivery has a wrong outcome", format!("{number}: {outcome} to a {} endpoint", endpoint.name()));
    }
    // An endpoint that refuses connections receives nothing, and expired deliveries are not sent. An interrupted delivery might
    // have been sent. At a hanging endpoint, the deadline can end an attempt before the request arrives.
    let must_be_received = match (endpoint, outcome.as_str()) {
        (_, "interrupted") | (Endpoint::Hanging | Endpoint::Backlogged, "timeout") => None,
        (Endpoint::Refusing, _) | (_, "expired") => Some(false),
        _ => Some(true),
    };
    if must_be_received.is_some_and(|expected| expected != received) {
        findings.add(
            "an outcome does not match the endpoint's requests",
            format!("{number}: {outcome}, received: {received}"),
        );
    }
}

async fn outcomes(db: &Db) -> Outcomes {
    let text = "SELECT outcome::text, count(*) FROM flametree.deliveries GROUP BY 1";
    let rows: Vec<(String, i64)> = sqlx::query_as(text).fetch_all(db).await.unwrap();
    rows.into_iter().map(|(name, count)| (name, count.unsigned_abs())).collect()
}

/// Compares the workers' metrics with the deliveries in the database.
async fn compare_outcomes(book: &Book, processes: &Processes, stored: &Outcomes) {
    let metrics = processes.outcomes().await;
    let names: BTreeSet<&String> = metrics.keys().chain(stored.keys()).collect();
    let uncounted = UNCOUNTED_PER_KILL * u64::try_from(processes.kills.len()).unwrap();
    for name in names {
        let [counted, stored] = [&metrics, stored].map(|all| all.get(name).copied().unwrap_or_default());
        if !(counted..=counted + uncounted).contains(&stored) {
            book.findings.add(
                "metrics and database differ in the number of outcomes",
                format!("{name}: {counted}, {stored} stored"),
            );
        }
    }
    let late = processes.late_outcomes().await;
    book.findings.expect_equal("an outcome arrived after the reaper's outcome", late, 0);
}

/// Compares the APIs' metrics and the callers' responses with the events in the database.
async fn compare_acceptances(book: &Book, processes: &Processes, plan: &Plan, stored: &Bits) {
    let counts = &book.counts;
    let [accepted, before, unanswered] =
        [&counts.accepted, &counts.accepted_before, &counts.unanswered].map(|count| count.load(Ordering::Relaxed));
    let by_sql = (plan.posted()..plan.events()).filter(|number| stored.get(*number)).count();
    let by_api = stored.count() - u64::try_from(by_sql).unwrap();
    book.findings.expect_equal("callers and database differ in the number of events", accepted + before, by_api);
    let counted = processes.accepted().await;
    // An API counts an event even if it sends the 202 to a closed connection.
    if !(accepted..=accepted + unanswered).contains(&counted) {
        book.findings.add(
            "metrics and callers differ in the number of accepted events",
            format!("{counted}, {accepted} answered 202"),
        );
    }
}

/// Checks that each interrupted delivery was claimed shortly before a worker was killed.
async fn interruptions(db: &Db, book: &Book, kills: &[i64]) {
    let text = "SELECT id::text, (extract(epoch FROM claimed_at) * 1000000)::bigint
                FROM flametree.deliveries WHERE outcome = 'interrupted'";
    let rows: Vec<(String, i64)> = sqlx::query_as(text).fetch_all(db).await.unwrap();
    for (id, claimed_at) in rows {
        if !kills.iter().any(|kill| (kill - IN_FLIGHT_FOR..=*kill).contains(&claimed_at)) {
            book.findings.add("a delivery was interrupted, but no worker was killed then", id);
        }
    }
}

/// Checks that tables have the expected number of rows, and that impossible states do not occur.
async fn bounds(db: &Db, book: &Book, kills: usize) {
    let kills = i64::try_from(kills).unwrap();
    for (what, text, expected) in [
        (
            "the numbers of fenced and killed workers differ",
            "SELECT count(*) FROM flametree.workers WHERE fenced_at IS NOT NULL",
            kills,
        ),
        ("the numbers of registered and started workers differ", "SELECT count(*) FROM flametree.workers", kills + 2),
        ("operations failed", "SELECT count(*) FROM flametree.operations WHERE state = 'failed'", 0),
        (
            "deliveries are stored without an event",
            "SELECT count(*) - (SELECT sum(deliveries) FROM flametree.events)::bigint FROM flametree.deliveries",
            0,
        ),
    ] {
        let found: i64 = sqlx::query_scalar(text).fetch_one(db).await.unwrap();
        book.findings.expect_equal(what, found, expected);
    }
    let sessions: i64 = sqlx::query_scalar("SELECT count(*) FROM flametree.sessions").fetch_one(db).await.unwrap();
    if sessions > i64::from(SESSIONS) {
        book.findings.add("more sessions are stored than were used", sessions);
    }
}

/// Checks that no process logged a fault.
fn logs(book: &Book) {
    let directory = log_path("postgres");
    for entry in std::fs::read_dir(directory.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read(&path).unwrap();
        for line in String::from_utf8_lossy(&text).lines() {
            if ["panicked at", "PANIC:", "was terminated by signal"].iter().any(|fault| line.contains(fault)) {
                book.findings.add("a process logged a fault", format!("{}: {line}", path.display()));
            }
        }
    }
}
