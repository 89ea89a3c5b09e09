//! How cost grows with worker processes and with what is ready. Measured when it is asked for by name (`FIGURES=scale`),
//! for ten million ready deliveries take minutes to prepare and 8 GB of disk.

use crate::drain;
use crate::receiver::Receiver;
use crate::report::{Goal, Report};
use crate::server::Server;

const WORKERS: [u16; 3] = [1, 2, 4];
const READY: [usize; 3] = [100_000, 1_000_000, 10_000_000];
const ENDPOINTS: u32 = 20;

/// `count` deliveries for each line.
pub(crate) async fn figures(report: &mut Report, server: &Server, receiver: &Receiver, count: usize) {
    for workers in WORKERS {
        let drained = drain::http(server, receiver, count, workers).await;
        report.add(
            format!("drain by signed HTTP POST, {workers} worker processes"),
            drained.per_second,
            "deliveries/s",
            Goal::Shown,
        );
    }
    for ready in READY {
        let rate = drain::noop(server, ENDPOINTS, ready, count).await;
        report.add(format!("drain without sending, {ready} ready"), rate, "deliveries/s", Goal::Shown);
    }
}
