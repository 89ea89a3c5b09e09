//! The invariants that hold for every deployment after any faults.
//!
//! I1: a delivery never causes more than one request. I2: at the end, each accepted delivery has exactly one outcome and no
//! row in the queue. I3: `delivered` means that the receiver saw the request. I4: the receiver saw no request of a ready
//! delivery. The API lists the same `interrupted` deliveries as the database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::ids::{DeliveryId, EventId};
use flametree_notify::store::Db;
use sqlx::Row as _;
use uuid::Uuid;

use super::client::Client;
use super::deployment::{Deployment, TENANT};
use super::waiting::within;

/// The outcome of each delivery.
#[derive(Debug)]
pub struct Tally {
    pub outcomes: HashMap<DeliveryId, Outcome>,
    pub seen: HashSet<DeliveryId>,
}

impl Tally {
    pub fn count(&self, outcome: Outcome) -> usize {
        self.outcomes.values().filter(|one| **one == outcome).count()
    }

    pub fn of(&self, outcome: Outcome) -> impl Iterator<Item = DeliveryId> {
        self.outcomes.iter().filter(move |(_, one)| **one == outcome).map(|(id, _)| *id)
    }

    pub fn summary(&self) -> BTreeMap<&'static str, usize> {
        let mut summary = BTreeMap::new();
        for outcome in self.outcomes.values() {
            *summary.entry(outcome.as_str()).or_default() += 1;
        }
        summary
    }
}

impl Deployment {
    /// Waits until no delivery is ready or started.
    pub async fn drained(&self, deadline: Duration) {
        within(deadline, "all deliveries have an outcome", async || self.left().await == Some((0, 0))).await;
    }

    /// The number of ready deliveries, and of claims with deliveries. `None` while the database is unreachable.
    pub async fn left(&self) -> Option<(i64, i64)> {
        let query = "SELECT (SELECT count(*) FROM flametree.ready_deliveries),
                            (SELECT count(*) FROM flametree.claims WHERE delivery_ids <> '{}')";
        let row = sqlx::raw_sql(query).fetch_one(&self.pool).await.ok()?;
        Some((row.get(0), row.get(1)))
    }

    /// I4, at any time.
    pub async fn assert_ready_deliveries_were_never_seen(&self) {
        // Reads the deliveries that the receiver has seen before it reads the ready deliveries. A delivery in both lists was sent
        // while it was ready, or was released after it was sent. In the opposite order, a delivery sent between the two reads
        // would also be in both lists.
        let seen = self.receiver.seen_once();
        let ready = ids(&self.pool, "SELECT id FROM flametree.ready_deliveries").await;
        let both: Vec<_> = seen.intersection(&ready).collect();
        assert!(both.is_empty(), "seen and still ready: {both:?}");
    }

    /// Checks all invariants when the queue is empty. The list `accepted` contains the events that a response confirmed.
    pub async fn assert_drained(&self, api: &Client, accepted: &[EventId]) -> Tally {
        assert_eq!(self.left().await, Some((0, 0)), "the queue is not empty");
        let expected = self.expected(accepted).await;
        let tally = self.tally().await;
        let unfinished: Vec<_> = expected.iter().filter(|id| !tally.outcomes.contains_key(id)).collect();
        assert!(unfinished.is_empty(), "{} without an outcome: {unfinished:?}", unfinished.len());
        assert_eq!(tally.outcomes.len(), expected.len(), "outcomes of deliveries that were never accepted");
        let unseen: Vec<_> = tally.of(Outcome::Delivered).filter(|id| !tally.seen.contains(id)).collect();
        assert!(unseen.is_empty(), "delivered but never seen by the receiver: {unseen:?}");
        let strange: Vec<_> = tally.seen.iter().filter(|id| !expected.contains(id)).collect();
        assert!(strange.is_empty(), "seen and never accepted: {strange:?}");
        for unsent in [Outcome::Expired, Outcome::Canceled, Outcome::ConfigError] {
            let sent: Vec<_> = tally.of(unsent).filter(|id| tally.seen.contains(id)).collect();
            assert!(sent.is_empty(), "{} but sent: {sent:?}", unsent.as_str());
        }
        let interrupted: HashSet<_> = tally.of(Outcome::Interrupted).collect();
        assert_eq!(listed_as_interrupted(api).await, interrupted, "the API lists other deliveries than the database");
        tally
    }

    pub async fn tally(&self) -> Tally {
        let seen = self.receiver.seen_once();
        let rows = sqlx::raw_sql("SELECT id, outcome::text FROM flametree.deliveries").fetch_all(&self.pool).await;
        let rows = rows.unwrap();
        let count = rows.len();
        let outcomes: HashMap<_, _> = rows
            .into_iter()
            .map(|row| (DeliveryId::from_uuid(row.get(0)), Outcome::from_name(row.get(1)).unwrap()))
            .collect();
        assert_eq!(outcomes.len(), count, "two outcomes of one delivery");
        Tally { outcomes, seen }
    }

    /// All deliveries of the accepted events. Events in the database count as accepted even if the client got no response.
    async fn expected(&self, accepted: &[EventId]) -> HashSet<DeliveryId> {
        let rows = sqlx::raw_sql("SELECT id, (deliveries + replays)::smallint FROM flametree.events")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        let events: HashMap<EventId, i16> =
            rows.into_iter().map(|row| (EventId::from_uuid(row.get(0)), row.get(1))).collect();
        let lost: Vec<_> = accepted.iter().filter(|id| !events.contains_key(id)).collect();
        assert!(lost.is_empty(), "{} accepted events are lost: {lost:?}", lost.len());
        let deliveries =
            |(id, count): (EventId, i16)| (1..=count.unsigned_abs()).map(move |number| id.delivery(number));
        events.into_iter().flat_map(deliveries).collect()
    }
}

async fn ids(pool: &Db, query: &'static str) -> HashSet<DeliveryId> {
    let rows = sqlx::raw_sql(query).fetch_all(pool).await.unwrap();
    rows.into_iter().map(|row| DeliveryId::from_uuid(row.get::<Uuid, _>(0))).collect()
}

async fn listed_as_interrupted(api: &Client) -> HashSet<DeliveryId> {
    let first = format!("/v1/deliveries?outcome=interrupted&limit=250&tenant_id={TENANT}");
    let mut found = HashSet::new();
    let mut path = first.clone();
    loop {
        let answer = api.get_when_available(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        for delivery in page["data"].as_array().unwrap() {
            assert!(found.insert(delivery["id"].as_str().unwrap().parse().unwrap()), "listed twice: {delivery}");
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("{first}&cursor={cursor}"),
            None => return found,
        }
    }
}
