//! The at-most-once delivery queue. It claims deliveries, records their outcomes, releases deliveries when the process stops, and
//! reaps the claims of dead workers.
//!
//! The queue knows the ids of endpoints, but not how to send to them. A claimed delivery counts as started. The owner of a
//! [`Claimed`] ends it with [`Claimed::record`] or [`Claimed::release`]. Dropping a `Claimed` records the outcome
//! `interrupted`.

mod backend;
mod batch_window;
mod claimed;
mod claimer;
mod completer;
mod completion;
mod discovery;
mod hint;
mod known_lanes;
mod lane;
mod lanes;
#[cfg(test)]
mod lanes_bounds_tests;
#[cfg(test)]
mod lanes_forged_tests;
#[cfg(test)]
mod lanes_properties;
#[cfg(test)]
mod lanes_tests;
#[cfg(test)]
mod lanes_waiting_tests;
mod late_commits;
#[cfg(test)]
mod late_commits_properties;
mod pool;
mod reaper;
mod registration;
mod search_pace;
mod set_aside;
mod set_aside_outcomes;
mod tail_scan;
mod tenants;
mod unrecorded;
mod wakeup;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

pub use backend::ClaimedDeliveries;
pub use claimed::Claimed;
pub use wakeup::Wakeup;

use crate::domain::endpoint::Channel;
use crate::store::Db;
use crate::supervision::{Stage, Supervisor};
use crate::telemetry::metrics::{Metrics, TaskName};
use claimer::{CLAIMERS, Claimer};
use completer::{COMPLETERS, Completer};
use discovery::Discovery;
use pool::ChannelQueue;
use reaper::Reaper;
use registration::WorkerRegistration;
use set_aside::SetAsideClaims;

/// Settings of the queue on one node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The maximum number of deliveries of one channel that are claimed and not yet recorded.
    pub max_in_flight: u32,
    /// The maximum number of claimed deliveries of one endpoint. `None` means a third of `max_in_flight`.
    pub endpoint_max_in_flight: Option<u32>,
    /// A worker without a heartbeat for this long is dead.
    pub lease: Duration,
    /// A text that shows operators the host and the process of this worker.
    pub description: String,
}

/// The queue's database connections. The pools are separate, so that claims that wait for a lock do not delay outcomes or
/// heartbeats.
#[derive(Debug, Clone)]
pub struct QueuePools {
    /// The pool for claims and for the search for ready deliveries.
    pub claims: Db,
    /// The pool for outcomes and for the claims of dead workers.
    pub outcomes: Db,
    /// The pool for heartbeats.
    pub heartbeat: Db,
}

impl From<Db> for QueuePools {
    fn from(db: Db) -> Self {
        Self { claims: db.clone(), outcomes: db.clone(), heartbeat: db }
    }
}

/// The queue of this node: one pool of claimed deliveries per channel.
#[derive(Debug)]
pub struct Queue {
    pools: Vec<(Arc<ChannelQueue>, ClaimedDeliveries)>,
    /// Keeps the streams of claimed deliveries open after the last claimer has ended.
    dispatched: Vec<mpsc::UnboundedSender<Vec<Claimed>>>,
    registration: Arc<WorkerRegistration>,
    claiming: Stage,
    recording: Stage,
}

impl Queue {
    /// Registers this process as a worker and starts to claim.
    pub async fn start(
        pools: &QueuePools,
        settings: &Settings,
        metrics: &Metrics,
        supervisor: &Supervisor,
    ) -> Result<Self, sqlx::Error> {
        let registration = Arc::new(WorkerRegistration::register(pools.heartbeat.clone(), settings).await?);
        let mut queue = Self {
            pools: Vec::new(),
            dispatched: Vec::new(),
            registration: Arc::clone(&registration),
            claiming: supervisor.stage(),
            recording: supervisor.stage(),
        };
        for channel in Channel::ALL {
            queue.start_channel(channel, pools, settings, metrics);
        }
        let heartbeat = Arc::clone(&registration);
        queue.recording.spawn(TaskName::Heartbeat, |stop| async move { heartbeat.run(stop).await });
        let reaper = Reaper::new(pools.outcomes.clone(), registration, settings.lease, metrics.clone());
        queue.claiming.spawn(TaskName::Reaper, |stop| reaper.run(stop));
        Ok(queue)
    }

    fn start_channel(&mut self, channel: Channel, pools: &QueuePools, settings: &Settings, metrics: &Metrics) {
        let (dispatched, dispatched_receiver) = mpsc::unbounded_channel();
        let (completions, completion_receivers): (Vec<_>, Vec<_>) =
            (0..COMPLETERS).map(|_| mpsc::unbounded_channel()).unzip();
        let queue = Arc::new(ChannelQueue::new(channel, settings, completions));
        metrics.set_permits(channel, i64::from(queue.permits()));
        for receiver in completion_receivers {
            let completer = Completer::new(pools.outcomes.clone(), Arc::clone(&queue), metrics.clone(), receiver);
            self.recording.spawn(TaskName::Completer, |stop| completer.run(stop));
        }
        let (set_aside, received) = mpsc::unbounded_channel();
        let claimer = Claimer {
            db: pools.claims.clone(),
            queue: Arc::clone(&queue),
            registration: Arc::clone(&self.registration),
            metrics: metrics.clone(),
            set_aside,
            dispatched: dispatched.clone(),
        };
        for _ in 0..CLAIMERS {
            let claimer = claimer.clone();
            self.claiming.spawn(TaskName::Claimer, |stop| claimer.run(stop));
        }
        let set_aside = SetAsideClaims { claimer, received };
        self.claiming.spawn(TaskName::SetAsideClaims, |stop| set_aside.run(stop));
        let discovery = Discovery { db: pools.claims.clone(), queue: Arc::clone(&queue), metrics: metrics.clone() };
        self.claiming.spawn(TaskName::TailScan, |stop| discovery.run(stop));
        self.dispatched.push(dispatched);
        self.pools.push((queue, ClaimedDeliveries::new(dispatched_receiver)));
    }

    /// The claimed deliveries of each channel, for the workers.
    pub fn pools(&self) -> impl Iterator<Item = (Channel, ClaimedDeliveries)> {
        self.pools.iter().map(|(queue, claimed)| (queue.channel(), claimed.clone()))
    }

    /// Returns the notifier of this node's claimers.
    pub fn wakeup(&self) -> Wakeup {
        Wakeup::new(self.pools.iter().map(|(queue, _)| Arc::clone(queue)).collect())
    }

    /// Stops claiming. Running attempts continue, and workers release deliveries that they have not started. Returns when the
    /// last claim has its result.
    pub async fn stop_claiming(&self) {
        for (queue, _) in &self.pools {
            queue.drain();
        }
        self.claiming.end().await;
    }

    /// Waits until every claimed delivery is recorded or released.
    pub async fn drained(&self) {
        for (queue, _) in &self.pools {
            queue.wait_idle().await;
        }
    }

    /// Records the remaining outcomes, and deregisters the worker. Call it after `drained` has returned or timed out. The
    /// reaper handles claims that are still in the table `claims`.
    pub async fn close(&self) {
        self.recording.end().await;
        self.registration.end().await;
    }
}
