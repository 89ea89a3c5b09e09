//! Tests which browsers receive which events. A running service sends messages, and the test decrypts the messages as browsers
//! do.

use serde_json::json;

use crate::support::misbehaving::Receiver;
use crate::support::push::Browser;
use crate::support::push_deployment::{PATIENCE, Push, got, push_service};
use crate::support::waiting::within;

async fn start() -> (Push, Receiver) {
    let receiver = push_service("201 Created", "", "").await;
    (Push::start(&[&receiver], |settings| settings).await, receiver)
}

fn told(told: &[(&str, &str)]) -> Vec<(String, String)> {
    told.iter().map(|(kind, body)| ((*kind).to_owned(), (*body).to_owned())).collect()
}

const ASSIGNED: (&str, &str) = ("session_assigned", "You have new session assigned.");

#[tokio::test]
async fn session_messages_reach_every_browser_of_the_user_who_handles_the_session() {
    let (push, receiver) = start().await;
    let laptop = push.browser("user-1", "laptop", &receiver).await;
    let phone = push.browser("user-1", "phone", &receiver).await;
    let other = push.browser("user-2", "other", &receiver).await;
    // No user handles the session yet.
    assert_eq!(push.say("hello?").await, 0);
    assert_eq!(push.assign("user-1").await, 2);
    assert_eq!(push.say("hello").await, 2);
    // Only customers' messages notify the handler.
    for event_type in ["ai_assistant_message", "human_agent_message"] {
        assert_eq!(push.post(&json!({"type": event_type, "text": "x"})).await, 0, "{event_type}");
    }
    for event_type in ["new_session_started", "transferred_to_live_agent"] {
        assert_eq!(push.post(&json!({"type": event_type})).await, 0, "{event_type}");
    }
    assert_eq!(push.outcomes().await, ["delivered"; 4]);
    let expected = told(&[ASSIGNED, ("user_message", "New message: hello")]);
    for browser in [&laptop, &phone] {
        assert_eq!(got(browser, &receiver), expected);
    }
    assert_eq!(got(&other, &receiver), told(&[]));
}

#[tokio::test]
async fn messages_go_to_the_new_handler_after_a_reassignment_and_stop_after_a_resolution() {
    let (push, receiver) = start().await;
    let one = push.browser("user-1", "one", &receiver).await;
    let two = push.browser("user-2", "two", &receiver).await;
    assert_eq!(push.assign("user-1").await, 1);
    assert_eq!(push.assign("user-2").await, 1);
    assert_eq!(push.say("for the second").await, 1);
    assert_eq!(push.post(&json!({"type": "session_resolved"})).await, 0);
    assert_eq!(push.say("without a browser").await, 0);
    assert_eq!(push.outcomes().await, ["delivered"; 3]);
    assert_eq!(got(&one, &receiver), told(&[ASSIGNED]));
    assert_eq!(got(&two, &receiver), told(&[ASSIGNED, ("user_message", "New message: for the second")]));
}

#[tokio::test]
async fn a_browser_with_a_new_user_receives_no_messages_for_the_previous_user() {
    let (push, receiver) = start().await;
    let shared: Browser = push.browser("user-1", "shared", &receiver).await;
    assert_eq!(push.assign("user-1").await, 1);
    assert_eq!(push.outcomes().await, ["delivered"]);
    let moved = push.register("user-2", &shared, &receiver).await;
    assert_eq!(moved.status, 201, "{}", moved.text());
    assert_eq!(push.say("for the first").await, 0);
    assert_eq!(push.post(&json!({"type": "session_assigned", "assignee_id": "user-2", "session_id": "s-2"})).await, 1);
    assert_eq!(push.outcomes().await, ["delivered"; 2]);
    assert_eq!(got(&shared, &receiver), told(&[ASSIGNED, ASSIGNED]));
}

#[tokio::test]
async fn a_metric_counts_the_registered_browsers() {
    let (push, receiver) = start().await;
    push.browser("user-1", "one", &receiver).await;
    push.browser("user-2", "two", &receiver).await;
    let counted = async || push.service.metrics().await.contains("\nflametree_push_subscriptions 2\n");
    within(PATIENCE, "both browsers are counted", counted).await;
}
