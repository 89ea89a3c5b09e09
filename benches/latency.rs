//! Posts events at a steady rate, with and without a hanging endpoint. Measures the time from the API's response until the
//! event's request arrives at the receiver. Also measures claims while a transaction keeps its snapshot open.

use std::sync::Arc;
use std::time::Duration;

use crate::load::{self, Accepted};
use crate::median;
use crate::prepare::{self, Agent};
use crate::receiver::Receiver;
use crate::server::Server;
use crate::service::Service;

/// The time before a measurement in which connections open, caches fill and queries are planned.
const WARM_UP: Duration = Duration::from_secs(2);

/// The median and p99, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// The latency of deliveries at `per_second` events/s, if all endpoints respond.
pub(crate) async fn alone(server: &Server, receiver: &Receiver, per_second: u32, duration: Duration) -> Latency {
    let rig = Rig::start(server, "alone").await;
    let latency = rig.measure(receiver, &rig.agents(&["healthy"]), per_second, duration).await;
    rig.stop(server, "alone").await;
    latency
}

/// How many times each field of [`Isolation`] is measured. The fields alternate, so other load affects all fields.
const ROUNDS: usize = 5;

/// The p99 latency of deliveries to healthy endpoints, in milliseconds. Each value is the median of all rounds.
#[derive(Debug)]
pub(crate) struct Isolation {
    /// The p99 while half of the events go to a hanging endpoint.
    pub(crate) beside_dead: f64,
    /// The p99 while all endpoints respond.
    pub(crate) all_healthy: f64,
    /// The p99 while all endpoints respond and only half as many events are posted.
    pub(crate) half_traffic: f64,
}

/// Measures how much a hanging endpoint delays deliveries to healthy endpoints, at `per_second` events/s in total.
pub(crate) async fn isolation(server: &Server, receiver: &Receiver, per_second: u32, duration: Duration) -> Isolation {
    let (mut beside_dead, mut all_healthy, mut half_traffic) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        receiver.reset().await;
        let rig = Rig::start(server, "isolation").await;
        half_traffic.push(rig.measure(receiver, &rig.agents(&["healthy"]), per_second / 2, duration).await.p99);
        let both = rig.agents(&["healthy", "healthy-too"]);
        all_healthy.push(rig.measure(receiver, &both, per_second, duration).await.p99);
        receiver.hang().await;
        let both = rig.agents(&["healthy", "dead"]);
        beside_dead.push(rig.measure(receiver, &both, per_second, duration).await.p99);
        rig.kill(server, "isolation").await;
    }
    Isolation { beside_dead: median(beside_dead), all_healthy: median(all_healthy), half_traffic: median(half_traffic) }
}

/// Keeps a snapshot open in a transaction for `duration`. Returns the p99 duration of claims in this time, in milliseconds.
pub(crate) async fn claims_beside_a_snapshot(
    server: &Server,
    receiver: &Receiver,
    per_second: u32,
    duration: Duration,
) -> f64 {
    let rig = Rig::start(server, "snapshot").await;
    let agents = rig.agents(&["healthy"]);
    rig.measure(receiver, &agents, per_second, WARM_UP).await;
    let before = histogram(&rig.service.metrics().await);
    let db = server.open("snapshot").await;
    let mut holder = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    sqlx::query("SELECT count(*) FROM flametree.workers").execute(&mut *holder).await.unwrap();
    rig.measure(receiver, &agents, per_second, duration).await;
    let after = histogram(&rig.service.metrics().await);
    holder.rollback().await.unwrap();
    db.close().await;
    rig.stop(server, "snapshot").await;
    quantile(&before, &after, 0.99) * 1_000.0
}

/// A running service with two agents whose endpoints respond, and one agent whose endpoint hangs.
struct Rig {
    service: Arc<Service>,
}

impl Rig {
    async fn start(server: &Server, database: &str) -> Self {
        server.create_migrated(database).await.close().await;
        let service = Service::start("run", &server.url(database), &[]).await;
        service.set_push_config("healthy", &Receiver::url("/timed")).await;
        service.set_push_config("healthy-too", &Receiver::url("/timed")).await;
        service.set_push_config("dead", &Receiver::url("/hang")).await;
        Self { service: Arc::new(service) }
    }

    #[expect(clippy::unused_self, reason = "the agents exist only after `start`")]
    fn agents(&self, names: &[&str]) -> Arc<[Agent]> {
        names.iter().map(|name| prepare::agent(*name)).collect()
    }

    async fn measure(
        &self,
        receiver: &Receiver,
        agents: &Arc<[Agent]>,
        per_second: u32,
        duration: Duration,
    ) -> Latency {
        load::pace(&self.service, agents, per_second, WARM_UP).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        receiver.arrivals().await;
        let accepted = load::pace(&self.service, agents, per_second, duration).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        latency(&accepted, receiver).await
    }

    async fn stop(self, server: &Server, database: &str) {
        Arc::into_inner(self.service).unwrap().stop();
        server.drop(database).await;
    }

    /// Kills the service, because an orderly stop would wait for the hanging requests.
    async fn kill(self, server: &Server, database: &str) {
        drop(self.service);
        server.drop(database).await;
    }
}

/// The latency is 0 if the event's request arrived at the receiver before the API's response arrived at the client.
async fn latency(accepted: &Accepted, receiver: &Receiver) -> Latency {
    let arrivals = receiver.arrivals().await;
    let mut waits: Vec<i64> =
        arrivals.iter().filter_map(|(id, at)| accepted.get(id).map(|accepted| (at - accepted).max(0))).collect();
    assert!(!waits.is_empty(), "no event arrived");
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() - 1) * part / 100] as f64 / 1_000.0;
    Latency { p50: at(50), p99: at(99) }
}

/// The histogram of claim durations: the upper bound of each bucket in seconds, and its cumulative count.
fn histogram(metrics: &str) -> Vec<(f64, f64)> {
    let bucket = |line: &str| {
        let rest = line.strip_prefix("flametree_claim_duration_seconds_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((bound.replace("+Inf", "inf").parse().unwrap(), count.parse().unwrap()))
    };
    metrics.lines().filter_map(bucket).collect()
}

/// Estimates a quantile of the observations between two scrapes by interpolation within a bucket, as Prometheus does.
fn quantile(before: &[(f64, f64)], after: &[(f64, f64)], part: f64) -> f64 {
    let counts: Vec<(f64, f64)> = before.iter().zip(after).map(|((bound, b), (_, a))| (*bound, a - b)).collect();
    let wanted = counts.last().unwrap().1 * part;
    let mut below = (0.0, 0.0);
    for (bound, count) in counts {
        if count >= wanted {
            let share = (wanted - below.1) / (count - below.1).max(1.0);
            return if bound.is_finite() { below.0 + (bound - below.0) * share } else { below.0 };
        }
        below = (bound, count);
    }
    below.0
}
