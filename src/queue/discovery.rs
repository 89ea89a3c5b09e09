//! The search for work that nobody told this node of: events of other processes and of SQL callers, late commits, work
//! from before the start. Adaptive: often while it finds something new, seldom when all is quiet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Error;
use tokio_util::sync::CancellationToken;

use super::pool::ChannelQueue;
use crate::store::queue::lanes::{self, LaneCursor, WaitingLane};
use crate::store::{Db, answered};
use crate::telemetry::metrics::Metrics;

/// Endpoints of one search.
const LANES: i32 = 256;
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const MIDDLE_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A search takes at most this part of the time, but rests no longer than this: what took long may have been a network that
/// was cut and is whole again.
const REST_FACTOR: u32 = 10;
const LONGEST_REST: Duration = Duration::from_secs(5);
/// A walk that took longer than this is dear, and rests this many times as long. Until then the search looks only behind
/// what this node has taken already; what is missed are commits behind that.
const DEAR_WALK: Duration = Duration::from_millis(5);
const DEAR_REST_FACTOR: u32 = 100;
const LONGEST_DEAR_REST: Duration = Duration::from_mins(1);
/// Places of one such look; it takes some microseconds for each.
const MOST_PLACES: usize = 2_048;
/// How often the number of ready deliveries is read from the statistics.
const ESTIMATE_EVERY: Duration = Duration::from_secs(5);

/// What the search works with.
#[derive(Debug)]
pub(super) struct Discovery {
    pub(super) db: Db,
    pub(super) queue: Arc<ChannelQueue>,
    pub(super) metrics: Metrics,
}

/// One walk through all endpoints, in steps of `LANES`.
#[derive(Debug, Default)]
struct Walk {
    cursor: LaneCursor,
    cost: Duration,
    found: usize,
    longest_wait: Duration,
}

impl Discovery {
    /// Searches until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut pause = SHORTEST_PAUSE;
        let mut walk = Walk::default();
        let mut walk_due = Instant::now();
        let mut last_found = 0;
        let mut estimated_at: Option<Instant> = None;
        while !stop.is_cancelled() {
            let started = Instant::now();
            let walks = started >= walk_due;
            let ended = if walks { self.step(&mut walk).await } else { self.look_beside(&mut walk).await };
            let Ok(ended) =
                ended.inspect_err(|error| tracing::debug!(%error, "the search for ready deliveries failed"))
            else {
                walk = Walk::default();
                tokio::time::sleep(LONGEST_PAUSE).await;
                continue;
            };
            let cost = started.elapsed();
            walk.cost += cost;
            let mut rest = cost.min(LONGEST_REST);
            if ended {
                pause = next_pause(pause, walk.found > 0 && walk.found != last_found);
                rest = pause.max((cost * REST_FACTOR).min(LONGEST_REST));
                if walks && walk.cost > DEAR_WALK {
                    walk_due = Instant::now() + (walk.cost * DEAR_REST_FACTOR).min(LONGEST_DEAR_REST);
                    rest = pause;
                }
                last_found = walk.found;
                self.report_oldest(&walk);
                walk = Walk::default();
            }
            if estimated_at.is_none_or(|at| at.elapsed() >= ESTIMATE_EVERY) {
                estimated_at = Some(Instant::now());
                self.report_ready().await;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.queue.search_wanted() => pause = SHORTEST_PAUSE,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Looks at the next endpoints; true at the end of the walk.
    async fn step(&self, walk: &mut Walk) -> Result<bool, Error> {
        let waiting = answered(lanes::waiting(&self.db, self.queue.channel(), &walk.cursor, LANES)).await?;
        self.found(walk, &waiting);
        Ok(waiting.len() < LANES as usize)
    }

    /// Looks behind what this node has taken, and for endpoints that it does not know. Always true: that is all of it.
    async fn look_beside(&self, walk: &mut Walk) -> Result<bool, Error> {
        let known = self.queue.known(MOST_PLACES);
        self.found(walk, &answered(lanes::waiting_beside(&self.db, self.queue.channel(), &known)).await?);
        Ok(true)
    }

    fn found(&self, walk: &mut Walk, waiting: &[WaitingLane]) {
        walk.note(waiting);
        if !waiting.is_empty() {
            self.queue.found(waiting);
        }
    }

    fn report_oldest(&self, walk: &Walk) {
        self.metrics.set_oldest_ready(self.queue.channel(), walk.longest_wait);
        let (held, slow) = self.queue.load();
        self.metrics.set_in_flight(self.queue.channel(), i64::from(held));
        self.metrics.set_slow_endpoints(self.queue.channel(), i64::try_from(slow).unwrap_or(i64::MAX));
    }

    async fn report_ready(&self) {
        if let Ok(ready) = answered(lanes::ready_estimate(&self.db, self.queue.channel())).await {
            self.metrics.set_ready(self.queue.channel(), ready);
        }
    }
}

impl Walk {
    fn note(&mut self, waiting: &[WaitingLane]) {
        self.found += waiting.len();
        self.longest_wait = waiting.iter().map(|lane| lane.waited).fold(self.longest_wait, Duration::max);
        if let Some(last) = waiting.last() {
            self.cursor =
                LaneCursor { tenant_id: last.tenant_id.as_str().to_owned(), endpoint_id: last.endpoint_id.uuid() };
        }
    }
}

fn next_pause(pause: Duration, something_new: bool) -> Duration {
    if something_new {
        SHORTEST_PAUSE
    } else if pause < MIDDLE_PAUSE {
        (pause * 2).min(MIDDLE_PAUSE)
    } else {
        (pause + MIDDLE_PAUSE).min(LONGEST_PAUSE)
    }
}
