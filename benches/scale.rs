//! Measures how cost grows with worker processes (`FIGURES=workers`) and with ready deliveries (`FIGURES=scale`). These
//! measurements run only if named, because ten million ready deliveries take minutes to prepare and 8 GB of disk.

use crate::drain;
use crate::median;
use crate::receiver::Receiver;
use crate::report::{Goal, Report};
use crate::server::Server;

/// The number of worker processes, and the minimum ratio of their rate to the rate of one process. All processes share two
/// cores and the database.
const WORKERS: [(u16, f64); 2] = [(4, 0.9), (16, 0.8)];
/// How many worker processes send to one endpoint. Each process runs three claimers, so about fifty claimers compete.
const AT_ONE_ENDPOINT: u16 = 16;
/// How many times as many deliveries as other measurements the measurement of worker processes sends. 16 processes that start
/// at once spend more than a second of two cores on connections and query plans.
const LONGER: usize = 4;
const READY: [usize; 3] = [100_000, 1_000_000, 10_000_000];
const ENDPOINTS: u32 = 20;

/// Measures one worker process and several worker processes, alternately.
pub(crate) async fn workers(report: &mut Report, server: &Server, receiver: &Receiver, count: usize, rounds: usize) {
    let count = count * LONGER;
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); WORKERS.len() + 1];
    let mut at_one_endpoint = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (rates, workers) in rates.iter_mut().zip([1].into_iter().chain(WORKERS.map(|(workers, _)| workers))) {
            rates.push(drain::http(server, receiver, drain::ENDPOINTS, count, workers).await.warm_per_second);
        }
        for (rates, workers) in at_one_endpoint.iter_mut().zip([1, AT_ONE_ENDPOINT]) {
            rates.push(drain::http(server, receiver, 1, count, workers).await.warm_per_second);
        }
    }
    let mut rates = rates.into_iter().map(median);
    let one = rates.next().unwrap();
    report.add("drain by signed HTTP POST, one worker process", one, "deliveries/s", Goal::Shown);
    for (rate, (workers, least)) in rates.zip(WORKERS) {
        report.add(format!("drain by signed HTTP POST, {workers} worker processes"), rate, "deliveries/s", Goal::Shown);
        report.add(format!("drain by {workers} processes, relative to one"), rate / one, "x", Goal::AtLeast(least));
    }
    let [one, many] = at_one_endpoint.map(median);
    report.add("drain to one endpoint, one process", one, "deliveries/s", Goal::Shown);
    report.add(
        format!("drain to one endpoint, {AT_ONE_ENDPOINT} processes, relative to one"),
        many / one,
        "x",
        Goal::AtLeast(0.8),
    );
}

/// Drains `count` deliveries for each number in `READY`.
pub(crate) async fn figures(report: &mut Report, server: &Server, count: usize) {
    for ready in READY {
        let rate = drain::noop(server, ENDPOINTS, ready, count).await;
        report.add(format!("drain without sending, {ready} ready"), rate, "deliveries/s", Goal::Shown);
    }
}
