//! Discovery finds ready deliveries for which this node got no hint. These are deliveries from other processes and SQL callers,
//! late commits, and deliveries that were ready before this process started.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Error;
use tokio_util::sync::CancellationToken;

use super::late_commits::LateCommits;
use super::pool::ChannelQueue;
use super::search_pace::{HINTED_PAUSE, Kind, LONGEST_PAUSE, LONGEST_REST, Pace, rest_after};
use super::tail_scan::TailScan;
use super::walk::Walk;
use crate::store::queue::lanes;
use crate::store::{Db, FailureKind, failure_kind, with_timeout};
use crate::telemetry::metrics::Metrics;

/// The number of lanes per step of a tail scan. Scanning a lane takes some microseconds.
const TAILS: usize = 2_048;
/// How often discovery reads the estimated number of ready deliveries from PostgreSQL's statistics.
const ESTIMATE_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Discovery {
    pub(super) db: Db,
    pub(super) queue: Arc<ChannelQueue>,
    pub(super) metrics: Metrics,
}

/// One search of all endpoints, in steps.
#[derive(Debug)]
struct Search {
    kind: Kind,
    walk: Walk,
    tails: TailScan,
    /// The total time of the walk's statements, or the time of the tail scan's last statement. The statement that lists writing
    /// transactions does not count.
    cost: Duration,
    found: usize,
    longest_wait: Duration,
}

impl Discovery {
    /// Searches until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut pace = Pace::new(Instant::now());
        let mut late = LateCommits::default();
        let mut under_way: Option<Search> = None;
        let mut estimated_at: Option<Instant> = None;
        while !stop.is_cancelled() {
            let started = Instant::now();
            let is_first_step = under_way.is_none();
            let mut search = under_way.take().unwrap_or_else(|| Search::new(pace.next(started)));
            let ended = async {
                if is_first_step {
                    self.check(&mut late).await?;
                }
                self.step(&mut search, late.search_after()).await
            };
            let ended = ended.await;
            let cost = started.elapsed();
            let rest = match ended {
                Ok(false) => {
                    let rest = search.rest(cost);
                    under_way = Some(search);
                    rest
                }
                Ok(true) => {
                    late.searched();
                    self.report(&search);
                    pace.ended(search.kind, search.cost, search.found, Instant::now())
                }
                Err(error) => {
                    if failure_kind(&error) == FailureKind::Refusal {
                        tracing::warn!(%error, "the database refused a search for ready deliveries");
                    } else {
                        tracing::debug!(%error, "the search for ready deliveries failed");
                    }
                    if search.kind == Kind::Tails {
                        // The tail scan may have started too far back to finish in time. So the next tail scan must not start
                        // there again. A later walk finds what this scan missed.
                        late.searched();
                    }
                    pace.failed(search.kind, cost, Instant::now());
                    LONGEST_PAUSE
                }
            };
            if estimated_at.is_none_or(|at| at.elapsed() >= ESTIMATE_EVERY) {
                estimated_at = Some(Instant::now());
                self.report_ready().await;
            }
            stop.run_until_cancelled(pause(&self.queue, rest, cost)).await;
        }
    }

    /// Lists the transactions that can still commit deliveries. Called before each search.
    async fn check(&self, late: &mut LateCommits) -> Result<(), Error> {
        let taken = self.queue.furthest_taken();
        late.check(&with_timeout(lanes::writing_transactions(&self.db)).await?, taken);
        Ok(())
    }

    /// Searches the next endpoints. Returns true at the end of the search.
    async fn step(&self, search: &mut Search, late_after: i64) -> Result<bool, Error> {
        let (channel, started) = (self.queue.channel(), Instant::now());
        let (waiting, is_end) = match search.kind {
            Kind::Walk => {
                let (from, limit) = (search.walk.next(), i32::try_from(search.walk.limit()).unwrap_or(i32::MAX));
                let waiting = with_timeout(lanes::waiting(&self.db, channel, &from, limit)).await?;
                search.walk.found(&waiting);
                (waiting, search.walk.is_end())
            }
            Kind::Tails => {
                let places =
                    search.tails.next_places(|from, of_each| self.queue.places(from, TAILS, of_each, late_after));
                let waiting = with_timeout(lanes::tail_scan(&self.db, channel, &places)).await?;
                search.tails.scanned(&places, &waiting);
                (waiting, search.tails.is_end())
            }
        };
        let cost = started.elapsed();
        search.cost = if search.kind == Kind::Walk { search.cost + cost } else { cost };
        search.found += waiting.len();
        search.longest_wait = waiting.iter().map(|lane| lane.waited).fold(search.longest_wait, Duration::max);
        if !waiting.is_empty() {
            self.queue.found(&waiting);
        }
        Ok(is_end)
    }

    fn report(&self, search: &Search) {
        self.metrics.set_oldest_ready(self.queue.channel(), search.longest_wait);
        let (held, slow) = self.queue.load();
        self.metrics.set_in_flight(self.queue.channel(), i64::from(held));
        self.metrics.set_slow_endpoints(self.queue.channel(), i64::try_from(slow).unwrap_or(i64::MAX));
    }

    async fn report_ready(&self) {
        if let Ok(ready) = with_timeout(lanes::ready_estimate(&self.db, self.queue.channel())).await {
            self.metrics.set_ready(self.queue.channel(), ready);
        }
    }
}

impl Search {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            walk: Walk::default(),
            tails: TailScan::default(),
            cost: Duration::ZERO,
            found: 0,
            longest_wait: Duration::ZERO,
        }
    }

    /// How long to pause after a step that took `cost`. The pause is shorter in walks and in gaps, because their steps find more.
    fn rest(&self, cost: Duration) -> Duration {
        if self.kind == Kind::Walk || self.tails.has_gaps() { cost.min(LONGEST_REST) } else { rest_after(cost) }
    }
}

/// Pauses for `rest` after a step that took `cost`. A hint ends the pause, but only after a minimum time. The minimum bounds how
/// often hints cause a scan and how much time the scans take. A hint that arrives earlier, even during the step, is not lost.
async fn pause(queue: &ChannelQueue, rest: Duration, cost: Duration) {
    let least = rest.min(cost.max(HINTED_PAUSE));
    tokio::time::sleep(least).await;
    tokio::select! {
        () = queue.search.notified() => {}
        () = tokio::time::sleep(rest.saturating_sub(least)) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::domain::endpoint::Channel;
    use crate::queue::Settings;

    #[tokio::test]
    async fn hints_cause_one_scan_per_pause_and_the_last_hint_is_never_lost() {
        const HINTS: u32 = 1_000;
        let settings = Settings {
            max_in_flight: 1,
            endpoint_max_in_flight: None,
            lease: Duration::from_mins(1),
            description: String::new(),
        };
        let queue = ChannelQueue::new(Channel::Webhook, &settings, Vec::new());
        let scans = Cell::new(0_u32);
        let scanning = async {
            loop {
                scans.set(scans.get() + 1);
                pause(&queue, Duration::from_hours(1), Duration::ZERO).await;
            }
        };
        let hinting = async {
            let started = Instant::now();
            for number in 0..HINTS {
                queue.search();
                if number % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            let caused = u128::from(scans.get());
            let most = started.elapsed().as_millis() / HINTED_PAUSE.as_millis() + 2;
            assert!(caused <= most, "{HINTS} hints caused {caused} scans, more than {most}");
            // A hint that arrives right after a scan has started, or later, causes another scan.
            for wait in [Duration::ZERO, HINTED_PAUSE / 2, HINTED_PAUSE * 2] {
                tokio::time::sleep(wait).await;
                let before = scans.get();
                queue.search();
                let scanned = async {
                    while scans.get() == before {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                assert!(tokio::time::timeout(Duration::from_secs(10), scanned).await.is_ok(), "a hint was lost");
            }
        };
        tokio::select! {
            () = scanning => {}
            () = hinting => {}
        }
    }
}
