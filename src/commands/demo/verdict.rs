//! The verdict: pure functions that check whether every expected delivery arrived once with a valid signature, and was recorded
//! with its outcome.

use std::collections::HashMap;
use std::fmt;

use flametree_notify::domain::delivery::Outcome;

use super::api::FinishedDelivery;
use super::receiver::Arrival;

/// A delivery expected for a posted event.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) event_id: String,
    pub(super) agent_id: String,
    pub(super) outcome: Outcome,
}

/// A difference from the expected deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The event's id. If the message is not genuine, the sender might have invented this id.
    pub(super) event_id: String,
    pub(super) kind: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    NotArrived,
    ArrivedAgain { times: usize },
    ArrivedElsewhere,
    NotGenuine,
    NotExpected,
    NotRecorded,
    RecordedAgain { times: usize },
    RecordedAs { recorded: Outcome, expected: Outcome },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.event_id)?;
        match self.kind {
            FaultKind::NotArrived => write!(f, "did not arrive"),
            FaultKind::ArrivedAgain { times } => write!(f, "arrived {times} times"),
            FaultKind::ArrivedElsewhere => write!(f, "arrived at the endpoint of another agent"),
            FaultKind::NotGenuine => write!(f, "arrived without a valid signature"),
            FaultKind::NotExpected => write!(f, "arrived or was recorded, although it was not expected"),
            FaultKind::NotRecorded => write!(f, "has no recorded outcome"),
            FaultKind::RecordedAgain { times } => write!(f, "is recorded {times} times"),
            FaultKind::RecordedAs { recorded, expected } => {
                write!(f, "is recorded as {}, expected was {}", recorded.as_str(), expected.as_str())
            }
        }
    }
}

/// Compares the expected deliveries with the receiver's arrivals and the service's records. Returns no faults if all agree.
pub(super) fn faults(expected: &[Expected], arrivals: &[Arrival], recorded: &[FinishedDelivery]) -> Vec<Fault> {
    let arrived = by_event(arrivals, |arrival| &arrival.event_id);
    let finished = by_event(recorded, |delivery| &delivery.event_id);
    let awaited = by_event(expected, |one| &one.event_id);
    let mut faults = Vec::new();
    for one in expected {
        let mut note = |kind| faults.push(Fault { event_id: one.event_id.clone(), kind });
        match arrived.get(one.event_id.as_str()).map_or(&[][..], Vec::as_slice) {
            [] => note(FaultKind::NotArrived),
            [arrival] if arrival.message.is_err() => note(FaultKind::NotGenuine),
            [arrival] if arrival.agent_id != one.agent_id => note(FaultKind::ArrivedElsewhere),
            [_] => {}
            several => note(FaultKind::ArrivedAgain { times: several.len() }),
        }
        match finished.get(one.event_id.as_str()).map_or(&[][..], Vec::as_slice) {
            [] => note(FaultKind::NotRecorded),
            [delivery] if delivery.outcome == one.outcome => {}
            [delivery] => note(FaultKind::RecordedAs { recorded: delivery.outcome, expected: one.outcome }),
            several => note(FaultKind::RecordedAgain { times: several.len() }),
        }
    }
    let mut strangers: Vec<&str> =
        arrived.keys().chain(finished.keys()).copied().filter(|id| !awaited.contains_key(id)).collect();
    strangers.sort_unstable();
    strangers.dedup();
    faults.extend(strangers.into_iter().map(|id| Fault { event_id: id.to_owned(), kind: FaultKind::NotExpected }));
    faults
}

fn by_event<T>(all: &[T], id: impl Fn(&T) -> &str) -> HashMap<&str, Vec<&T>> {
    let mut events: HashMap<&str, Vec<&T>> = HashMap::new();
    for one in all {
        events.entry(id(one)).or_default().push(one);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::super::receiver::tests::{forged, genuine};
    use super::*;

    fn expected(event_id: &str) -> Expected {
        Expected { event_id: event_id.to_owned(), agent_id: "agent-1".to_owned(), outcome: Outcome::Delivered }
    }

    fn recorded(event_id: &str, outcome: Outcome) -> FinishedDelivery {
        FinishedDelivery { event_id: event_id.to_owned(), outcome }
    }

    fn kinds(arrivals: &[Arrival], recorded: &[FinishedDelivery]) -> Vec<FaultKind> {
        faults(&[expected("evt_1")], arrivals, recorded).into_iter().map(|fault| fault.kind).collect()
    }

    #[test]
    fn accepts_a_signed_and_recorded_delivery_that_arrived_once() {
        assert_eq!(kinds(&[genuine("evt_1")], &[recorded("evt_1", Outcome::Delivered)]), []);
    }

    #[test]
    fn a_forged_request_fails() {
        assert_eq!(kinds(&[forged("evt_1")], &[recorded("evt_1", Outcome::Delivered)]), [FaultKind::NotGenuine]);
    }

    #[test]
    fn a_missing_delivery_fails() {
        assert_eq!(kinds(&[], &[]), [FaultKind::NotArrived, FaultKind::NotRecorded]);
    }

    #[test]
    fn a_repeated_delivery_fails() {
        let twice = [genuine("evt_1"), genuine("evt_1")];
        let recorded_twice = [recorded("evt_1", Outcome::Delivered), recorded("evt_1", Outcome::Delivered)];
        let expected = [FaultKind::ArrivedAgain { times: 2 }, FaultKind::RecordedAgain { times: 2 }];
        assert_eq!(kinds(&twice, &recorded_twice), expected);
    }

    #[test]
    fn reports_a_delivery_that_is_recorded_with_another_outcome() {
        let as_interrupted = FaultKind::RecordedAs { recorded: Outcome::Interrupted, expected: Outcome::Delivered };
        assert_eq!(kinds(&[genuine("evt_1")], &[recorded("evt_1", Outcome::Interrupted)]), [as_interrupted]);
    }

    #[test]
    fn reports_a_delivery_that_arrived_at_another_agent() {
        let arrival = Arrival { agent_id: "agent-2".to_owned(), ..genuine("evt_1") };
        assert_eq!(kinds(&[arrival], &[recorded("evt_1", Outcome::Delivered)]), [FaultKind::ArrivedElsewhere]);
    }

    #[test]
    fn reports_an_unexpected_message_once() {
        let found = faults(&[], &[genuine("evt_9"), genuine("evt_9")], &[recorded("evt_9", Outcome::Delivered)]);
        assert_eq!(found, [Fault { event_id: "evt_9".to_owned(), kind: FaultKind::NotExpected }]);
    }
}
