//! The play: posts the recording event by event, shows each delivery as it arrives, and checks the result.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flametree_notify::domain::delivery::Outcome;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout_at};

use super::api::{Api, FinishedDelivery};
use super::conversations::RecordedEvent;
use super::live;
use super::receiver::{Arrival, Message};
use super::screen;
use super::verdict::{Expected, faults};
use crate::commands::print;

/// Pause between two events, so that users can follow.
const PACE: Duration = Duration::from_millis(40);
/// How long the play waits, after the last event, for the last delivery and its record.
const TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One run of the recording.
#[derive(Debug)]
pub(super) struct Play {
    /// A client that may only post events.
    service: Api,
    /// A client that may read the delivery records.
    admin: Api,
    incoming: mpsc::UnboundedReceiver<Arrival>,
    arrivals: Vec<Arrival>,
    /// When each event was posted, by event id.
    posted: HashMap<String, Instant>,
    latencies: Vec<Duration>,
    expected: Vec<Expected>,
}

impl Play {
    pub(super) fn new(service: Api, admin: Api, incoming: mpsc::UnboundedReceiver<Arrival>) -> Self {
        Self {
            service,
            admin,
            incoming,
            arrivals: Vec::new(),
            posted: HashMap::new(),
            latencies: Vec::new(),
            expected: Vec::new(),
        }
    }

    pub(super) fn service(&self) -> &Api {
        &self.service
    }

    pub(super) fn admin(&self) -> &Api {
        &self.admin
    }

    /// Plays the whole recording. The error lists every fault.
    pub(super) async fn run(&mut self, recording: &[RecordedEvent]) -> anyhow::Result<()> {
        print(&screen::heading());
        for event in recording {
            self.post(event).await?;
            self.show_until(Instant::now() + PACE, usize::MAX).await;
        }
        let deadline = Instant::now() + TIMEOUT;
        self.show_until(deadline, self.expected.len()).await;
        let recorded = self.recorded(deadline).await?;
        // By now, any unexpected deliveries have arrived, too.
        self.show_until(Instant::now(), usize::MAX).await;
        self.print_totals(recording.len(), &recorded);
        let faults = faults(&self.expected, &self.arrivals, &recorded);
        if faults.is_empty() {
            print("  every expected delivery arrived exactly once, with a valid signature, and is recorded");
            return Ok(());
        }
        let list: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
        anyhow::bail!("{} fault(s):\n{}", list.len(), list.join("\n"))
    }

    /// While this future is polled, shows deliveries of events that other clients post. Hides deliveries of live
    /// conversations, because they would fill the screen. The portal shows them.
    pub(super) async fn go_on(&mut self) {
        while let Some(arrival) = self.incoming.recv().await {
            let is_live = |message: &Message| live::is_live(&message.data.session_id);
            if !arrival.message.as_ref().is_ok_and(is_live) {
                self.show(arrival);
            }
        }
    }

    async fn post(&mut self, event: &RecordedEvent) -> anyhow::Result<()> {
        let at = Instant::now();
        let accepted =
            self.service.post_event(event.body).await.with_context(|| format!("an event of {}", event.session_id))?;
        let listener = event.listener();
        let wanted = usize::from(listener.is_some());
        anyhow::ensure!(
            accepted.deliveries == wanted,
            "{} was fanned out to {} deliveries instead of {wanted}",
            accepted.id,
            accepted.deliveries
        );
        if let Some(agent) = listener {
            let (event_id, agent_id) = (accepted.id.clone(), agent.id.to_owned());
            self.expected.push(Expected { event_id, agent_id, outcome: agent.outcome() });
        }
        self.posted.insert(accepted.id, at);
        Ok(())
    }

    /// Shows deliveries as they arrive, until the deadline or until `enough` deliveries have arrived.
    async fn show_until(&mut self, deadline: Instant, enough: usize) {
        while self.arrivals.len() < enough {
            match timeout_at(deadline.into(), self.incoming.recv()).await {
                Ok(Some(arrival)) => self.show(arrival),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn show(&mut self, arrival: Arrival) {
        let posted = self.posted.get(&arrival.event_id);
        let latency = posted.map(|posted| arrival.at.saturating_duration_since(*posted));
        self.latencies.extend(latency);
        print(&screen::delivery(self.arrivals.len() + 1, &arrival, latency));
        self.arrivals.push(arrival);
    }

    /// Returns the delivery records once they are complete or the deadline has passed.
    async fn recorded(&self, deadline: Instant) -> anyhow::Result<Vec<FinishedDelivery>> {
        loop {
            let recorded = self.admin.finished_deliveries().await?;
            if recorded.len() >= self.expected.len() || Instant::now() >= deadline {
                return Ok(recorded);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn print_totals(&mut self, events: usize, recorded: &[FinishedDelivery]) {
        print("\nTotals");
        print(&format!("  {events} events posted, {} deliveries expected", self.expected.len()));
        let genuine = self.arrivals.iter().filter(|arrival| arrival.message.is_ok()).count();
        print(&format!("  {} arrived, {genuine} of them with a valid signature", self.arrivals.len()));
        let outcomes = Outcome::ALL.into_iter().filter_map(|outcome| {
            let count = recorded.iter().filter(|delivery| delivery.outcome == outcome).count();
            (count > 0).then(|| format!("{count} {}", outcome.as_str()))
        });
        print(&format!("  {} recorded: {}", recorded.len(), outcomes.collect::<Vec<_>>().join(", ")));
        if let Some((median, slowest)) = screen::spread(&mut self.latencies) {
            let (median, slowest) = (screen::milliseconds(median), screen::milliseconds(slowest));
            print(&format!("  from the post to the receiver: median {median}, slowest {slowest}"));
        }
    }
}
