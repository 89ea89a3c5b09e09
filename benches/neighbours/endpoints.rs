//! Attacks through A's endpoints: hanging endpoints, many endpoints, and responses that resemble A's secrets.

use flametree_notify::domain::event::NewEvent;
use flametree_notify::domain::names::{AgentId, TenantId};
use flametree_notify::store::accept;
use serde_json::{Value, json};

use super::Bench;
use super::comparison::Comparison;
use super::scene::{AGENT_OF_B, B, Scene, config};
use crate::median;
use crate::prepare;
use crate::receiver::{self, REPEATED, Receiver};

/// How many endpoints a large tenant has.
const MANY: usize = 4_000;
const BACKLOG: usize = 20_000;
/// The number of rounds. Each round measures tenant B's deliveries without a backlog of tenant A, then with a backlog.
const BACKLOG_ROUNDS: usize = 3;
/// How many deliveries of B each measurement sends.
const OF_B: usize = 100;
const EXPIRY_SECONDS: u32 = 86_400;
const NEW_PER_ROUND: usize = 64;
/// How many events A posts in a round of five seconds.
const EVENTS_PER_ROUND: usize = 1_000;
/// The number of rounds of the longest attack. It starts before B is measured and lasts until B's late deliveries have arrived.
const ROUNDS: usize = 6;
/// The maximum number of headers in a push config. Each value has the maximum length.
const SECRETS: usize = 20;
const SECRET_BYTES: usize = 4 * 1024;

pub(crate) async fn many_hanging(bench: &Bench<'_>) -> Comparison {
    let mut scene = Scene::start(bench, "run", &[]).await;
    let agents = scene.agents("hanging", 2_000, &Receiver::url("/hang")).await;
    let quiet = scene.quiet().await;
    let attack = scene.stream(&agents, 500);
    let attacked = scene.attacked().await;
    let note = format!("{} hang at once", bench.receiver.hanging().await);
    drop(attack);
    scene.end(quiet, attacked, note).await
}

pub(crate) async fn new_hanging(bench: &Bench<'_>) -> Comparison {
    let mut scene = Scene::start(bench, "run", &[]).await;
    let agents = scene.agents("hanging", NEW_PER_ROUND * ROUNDS, &Receiver::url("/hang")).await;
    let quiet = scene.quiet().await;
    // `stream` posts one event for each entry of this list. The list repeats 64 agents for one round, then 64 new agents.
    let turns = (0..EVENTS_PER_ROUND * ROUNDS)
        .map(|number| agents[number / EVENTS_PER_ROUND * NEW_PER_ROUND + number % NEW_PER_ROUND].clone());
    let attack = scene.stream(&turns.collect(), EVENTS_PER_ROUND / 5);
    let attacked = scene.attacked().await;
    let note = format!("{} hang at once", bench.receiver.hanging().await);
    drop(attack);
    scene.end(quiet, attacked, note).await
}

/// The worker starts when all of A's deliveries are ready. B's measurement begins after the worker has started.
pub(crate) async fn hanging_restart(bench: &Bench<'_>) -> Comparison {
    let mut comparison = behind(bench, "/hang").await;
    comparison.longest_goal = Some(1_000.0);
    comparison
}

pub(crate) async fn backlog(bench: &Bench<'_>) -> Comparison {
    behind(bench, "/hook").await
}

/// Measures B while the worker also sends 20,000 deliveries of A, which were ready when the worker started.
async fn behind(bench: &Bench<'_>, path: &str) -> Comparison {
    let mut scene = Scene::start(bench, "api", &[]).await;
    let agents = scene.agents("agent", MANY, &Receiver::url(path)).await;
    scene.start_worker().await;
    let quiet = scene.quiet().await;
    scene.stop_worker();
    prepare::deliveries(&scene.db, &agents, BACKLOG).await;
    scene.start_worker().await;
    let attacked = scene.measure().await;
    let note = format!("{} hang at once", bench.receiver.hanging().await);
    scene.end(quiet, attacked, note).await
}

/// The time from the worker's first claim until the last of 100 deliveries of B has arrived, in milliseconds.
#[derive(Debug)]
pub(crate) struct Behind {
    pub(crate) alone: f64,
    pub(crate) behind: f64,
}

pub(crate) async fn behind_another_backlog(bench: &Bench<'_>) -> Behind {
    let mut scene = Scene::start(bench, "api", &[]).await;
    let agents = scene.agents("agent", MANY, &Receiver::url("/hook")).await;
    let (mut alone, mut behind) = (Vec::new(), Vec::new());
    for _ in 0..BACKLOG_ROUNDS {
        alone.push(deliveries_of_b(&mut scene).await);
        prepare::deliveries(&scene.db, &agents, BACKLOG).await;
        behind.push(deliveries_of_b(&mut scene).await);
    }
    scene.stop().await;
    Behind { alone: median(alone), behind: median(behind) }
}

/// Makes 100 more deliveries of tenant B ready, then starts a worker. Returns the time from the first claim to the last arrival,
/// in milliseconds.
async fn deliveries_of_b(scene: &mut Scene<'_>) -> f64 {
    let agent = AgentId::parse(AGENT_OF_B).unwrap();
    let tenant_id = TenantId::parse(B).unwrap();
    let events: Vec<NewEvent> =
        (0..OF_B).map(|number| NewEvent { tenant_id: tenant_id.clone(), ..prepare::event(&agent, number) }).collect();
    let events: Vec<&NewEvent> = events.iter().collect();
    accept::accept(&scene.db, &events, EXPIRY_SECONDS, accept::LOCK_TIMEOUT).await.unwrap();
    let started = receiver::now_us();
    scene.start_worker().await;
    scene.drained().await;
    scene.stop_worker();
    let arrivals = scene.bench.other_receiver.arrivals().await;
    assert_eq!(arrivals.len(), OF_B, "deliveries of B");
    let first = "SELECT (extract(epoch FROM min(claimed_at)) * 1e6)::bigint FROM flametree.deliveries
        WHERE claimed_at >= to_timestamp($1::float8 / 1e6)";
    let first: i64 = sqlx::query_scalar(first).bind(started as f64).fetch_one(&scene.db).await.unwrap();
    let after = |at: &i64| (at - first) as f64 / 1_000.0;
    let (began, ended) = (after(arrivals.values().min().unwrap()), after(arrivals.values().max().unwrap()));
    eprintln!("deliveries of B arrived {began:.0} to {ended:.0} ms after the first claim");
    ended
}

pub(crate) async fn secrets_in_answers(bench: &Bench<'_>) -> Comparison {
    let mut scene = Scene::start(bench, "run", &[]).await;
    let mut secretive = config(&Receiver::url("/echo"));
    let value = REPEATED.repeat(SECRET_BYTES - 2) + "\"/";
    let header = |number| json!({ "name": format!("x-secret-{number}"), "value": value, "secret": true });
    secretive["headers"] = (0..SECRETS).map(header).collect::<Vec<Value>>().into();
    scene.configure(scene.service.token(), "secretive", &secretive).await;
    let quiet = scene.quiet().await;
    let attack = scene.stream(&[prepare::agent("secretive")].into(), 500);
    let attacked = scene.attacked().await;
    drop(attack);
    let note = format!("{} were answered", bench.receiver.answered().await);
    scene.end(quiet, attacked, note).await
}
