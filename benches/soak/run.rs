//! The load phase: posts events, takes samples, prints rows of the report's table, and causes faults.

use std::sync::Arc;
use std::time::Duration;

use flametree_notify::store::Db;
use sqlx::ConnectOptions as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::book::Book;
use super::clients::Callers;
use super::plan::Plan;
use super::processes::{Processes, log_file};
use super::sample::{Counted, DatabaseUse, Sample};
use super::table::{Row, Table};
use super::{receiver, sql_caller};
use crate::server::Server;
use crate::service::Service;

const DATABASE: &str = "soak";
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Faults occur half a minute before a full minute, so that each fault and its recovery are in the same row of the table.
const FAULT_BEFORE_MINUTE: Duration = Duration::from_secs(30);
/// The maximum time for a crashed server to replay its log.
const BACK_WITHIN: Duration = Duration::from_mins(2);
/// The extra time that the load may take, because callers repeat events after faults.
const LATE: Duration = Duration::from_mins(5);

/// A run, with its server, its processes and its results.
#[derive(Debug)]
pub(crate) struct Run {
    plan: Plan,
    pub(crate) book: Arc<Book>,
    pub(crate) processes: Processes,
    pub(crate) db: Db,
    pub(crate) server: Server,
    pub(crate) table: Table,
    pub(crate) samples: Vec<Sample>,
    faults: u32,
}

impl Run {
    pub(crate) async fn start(plan: Plan) -> Self {
        let book = Arc::new(Book::new(plan));
        let server = Server::start_logging(Some(log_file("postgres")));
        server.create_migrated(DATABASE).await.close().await;
        let db = server.open(DATABASE).await;
        sqlx::query("CREATE EXTENSION pgstattuple").execute(&db).await.unwrap();
        let processes = Processes::start(server.url(DATABASE)).await;
        processes.configure(&receiver::start(&book).to_string()).await;
        Self { plan, book, processes, db, server, table: Table::start(), samples: Vec::new(), faults: 0 }
    }

    /// Posts all events; takes samples and causes faults at the same time. Returns false early if a process has exited.
    pub(crate) async fn load(&mut self) -> bool {
        let started = Instant::now();
        let mut callers = self.callers();
        let mut ticks = interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut row = Self::row(started, Counted::default(), self.plan.row_minutes());
        while !callers.is_empty() {
            ticks.tick().await;
            if started.elapsed() >= self.next_fault() && started.elapsed() < self.plan.duration() {
                row.faults.push(self.fault().await);
            }
            if !self.all_run() {
                return false;
            }
            let sample = self.sample().await;
            if started.elapsed() >= minutes(row.minute) {
                let next = Self::row(Instant::now(), sample.counted, row.minute + self.plan.row_minutes());
                self.close(std::mem::replace(&mut row, next), &sample);
            }
            self.samples.push(sample);
            while let Some(ended) = callers.try_join_next() {
                ended.unwrap();
            }
            if started.elapsed() > self.plan.duration() + LATE {
                self.book.findings.add("events were not accepted in time", self.book.accepted.count());
                break;
            }
        }
        self.all_run()
    }

    /// True if all processes and the server run. Adds a finding for each exited process.
    fn all_run(&mut self) -> bool {
        let server_runs = !self.server.has_ended();
        if !server_runs {
            self.book.findings.add("a process ended unexpectedly", "PostgreSQL");
        }
        self.processes.all_run(&self.book.findings) && server_runs
    }

    fn callers(&self) -> JoinSet<()> {
        let callers = Callers {
            book: Arc::clone(&self.book),
            apis: self.processes.apis.iter().map(Service::api).collect(),
            token: self.processes.token.clone(),
            events: self.plan.posted(),
            per_second: self.plan.per_second,
        };
        let mut all = JoinSet::new();
        all.spawn(callers.run());
        all.spawn(sql_caller::run(self.db.clone(), Arc::clone(&self.book), self.plan.posted(), self.plan.minutes));
        all
    }

    async fn sample(&mut self) -> Sample {
        let database = DatabaseUse::of(&self.db, self.server.process_id()).await;
        let finished = self.processes.outcomes().await.values().sum();
        let counted = Counted { accepted: self.book.accepted.count(), finished };
        Sample { processes: self.processes.usage(), database, counted }
    }

    fn next_fault(&self) -> Duration {
        minutes(self.plan.fault_minutes * (self.faults + 1)).saturating_sub(FAULT_BEFORE_MINUTE)
    }

    /// Kills a worker or crashes the server, alternately. Returns a description of the fault.
    async fn fault(&mut self) -> String {
        self.faults += 1;
        if self.faults % 2 == 1 {
            self.processes.kill_worker().await;
            return "worker killed".to_owned();
        }
        let started = Instant::now();
        self.server.crash_and_restart();
        while self.server.options(DATABASE).connect().await.is_err() {
            if started.elapsed() > BACK_WITHIN {
                self.book.findings.add("the database did not restart", self.faults);
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        format!("database crashed, back after {:.1} s", started.elapsed().as_secs_f64())
    }

    fn row(began: Instant, counted: Counted, minute: u32) -> OpenRow {
        OpenRow { minute, began, counted, faults: Vec::new() }
    }

    fn close(&mut self, row: OpenRow, sample: &Sample) {
        self.table.add(Row {
            minute: row.minute,
            faults: row.faults,
            seconds: row.began.elapsed().as_secs_f64(),
            accepted: sample.counted.accepted - row.counted.accepted,
            finished: sample.counted.finished - row.counted.finished,
            waits: self.book.take_waits(),
            sample: sample.clone(),
        });
    }
}

/// An unfinished row of the table.
#[derive(Debug)]
struct OpenRow {
    /// The last minute that the row covers.
    minute: u32,
    began: Instant,
    counted: Counted,
    faults: Vec<String>,
}

fn minutes(count: u32) -> Duration {
    Duration::from_mins(u64::from(count))
}
