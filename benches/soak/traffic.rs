//! Derives each event of the run from its number: its session, agent, type and expected outcome.
//!
//! A thousand sessions are open at a time. They get events round-robin, from the start of each conversation to its resolution.
//! Ten such groups of sessions alternate, so 10,000 sessions are opened, assigned and resolved repeatedly.

use serde_json::{Value, json};

use crate::prepare::TEXT;

/// How many sessions the events use, round-robin.
pub(crate) const SESSIONS: u32 = 10_000;
/// How many sessions are open at the same time.
const OPEN: u32 = 1_000;
/// How many events a session has, from its start to its resolution.
const LIFE: u32 = 20;
/// How many agents have a healthy endpoint. Each of these agents gets about 1 % of the events.
const HEALTHY: u32 = 100;
/// How many agents have a failing endpoint. The same number have an endpoint that refuses connections.
const FAILING: u32 = 10;
/// How many agents have a hanging endpoint. Each attempt times out after 5 s, which is fast enough that no backlog grows.
const HANGING: u32 = 100;
/// Deliveries to the endpoint with a backlog expire after this many seconds. The expiry limits the backlog.
const BACKLOG_EXPIRES: u32 = 60;
/// In each hundred events, the event with this number is posted again after it was accepted.
const REPEATED: u32 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Healthy,
    /// Responds with 500.
    Failing,
    /// Refuses connections.
    Refusing,
    /// Never responds. Each of the many hanging endpoints gets few events.
    Hanging,
    /// Never responds, and gets enough events that a backlog grows.
    Backlogged,
}

impl Endpoint {
    /// The name of this kind of endpoint, which is part of the agents' ids and the receiver's paths.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Refusing => "refusing",
            Self::Hanging => "hanging",
            Self::Backlogged => "backlogged",
        }
    }

    /// The possible outcomes of deliveries to the endpoint, other than `interrupted` after the kill of a worker.
    pub(crate) const fn outcomes(self) -> &'static [&'static str] {
        match self {
            Self::Healthy => &["delivered"],
            Self::Failing => &["http_error"],
            Self::Refusing => &["connect_error"],
            Self::Hanging => &["timeout"],
            Self::Backlogged => &["timeout", "expired"],
        }
    }

    const fn agents(self) -> u32 {
        match self {
            Self::Healthy => HEALTHY,
            Self::Failing | Self::Refusing => FAILING,
            Self::Hanging => HANGING,
            Self::Backlogged => 1,
        }
    }
}

/// Every agent, with the kind of its endpoint.
pub(crate) fn agents() -> impl Iterator<Item = (String, Endpoint)> {
    let kinds =
        [Endpoint::Healthy, Endpoint::Failing, Endpoint::Refusing, Endpoint::Hanging, Endpoint::Backlogged].into_iter();
    kinds.flat_map(|kind| (0..kind.agents()).map(move |number| (agent(kind, number), kind)))
}

fn agent(kind: Endpoint, number: u32) -> String {
    format!("{}-{number}", kind.name())
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) number: u32,
    session: u32,
    step: u32,
    by_sql: bool,
}

impl Event {
    /// The event with this number, which is posted to the API.
    pub(crate) const fn posted(number: u32) -> Self {
        let group = number / (OPEN * LIFE);
        let session = (group * OPEN + number % OPEN) % SESSIONS;
        Self { number, session, step: number / OPEN % LIFE, by_sql: false }
    }

    /// An event that is accepted from SQL: a message of a separate session, so that the open transaction delays no other event.
    pub(crate) const fn by_sql(number: u32) -> Self {
        Self { number, session: 0, step: 1, by_sql: true }
    }

    pub(crate) const fn endpoint(self) -> Endpoint {
        match self.session % 100 {
            0..93 => Endpoint::Healthy,
            93..96 => Endpoint::Failing,
            96..98 => Endpoint::Refusing,
            98 => Endpoint::Hanging,
            _ => Endpoint::Backlogged,
        }
    }

    const fn event_type(self) -> &'static str {
        match self.step {
            0 => "new_session_started",
            10 => "transferred_to_live_agent",
            11 => "session_assigned",
            19 => "session_resolved",
            step if step % 2 == 1 => "user_message",
            step if step < 10 => "ai_assistant_message",
            _ => "human_agent_message",
        }
    }

    /// The expected number of deliveries: 0 for assignments and resolutions, for which no webhooks are sent.
    pub(crate) const fn deliveries(self) -> usize {
        if matches!(self.step, 11 | 19) { 0 } else { 1 }
    }

    /// True if the event is posted again after it was accepted.
    pub(crate) const fn is_repeated(self) -> bool {
        self.number % 100 == REPEATED
    }

    /// The customer's id, which identifies the event at the receiver and in the database.
    pub(crate) fn customer(self) -> String {
        format!("{CUSTOMER}{}", self.number)
    }

    pub(crate) fn body(self) -> Value {
        let kind = self.endpoint();
        let of_kind = match kind {
            Endpoint::Healthy => self.session / 10,
            Endpoint::Failing | Endpoint::Refusing | Endpoint::Hanging | Endpoint::Backlogged => self.session / 100,
        };
        let session = if self.by_sql { format!("sql-{}", self.number) } else { format!("session-{}", self.session) };
        // The idempotency keys are not in ascending order, because real callers use random keys.
        let key = u64::from(self.number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut body = json!({
            "type": self.event_type(), "agent_id": agent(kind, of_kind % kind.agents()), "session_id": session,
            "customer_id": self.customer(), "text": TEXT, "idempotency_key": format!("soak-{key:016x}"),
        });
        if self.step == 11 {
            body["assignee_id"] = format!("operator-{}", self.session % 50).into();
        }
        if kind == Endpoint::Backlogged {
            body["expires_in_seconds"] = BACKLOG_EXPIRES.into();
        }
        body
    }
}

const CUSTOMER: &str = "event-";

/// The event's number, which the customer's id contains.
pub(crate) fn number_of(customer: &str) -> Option<u32> {
    customer.strip_prefix(CUSTOMER)?.parse().ok()
}
