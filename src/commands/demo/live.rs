//! Conversations that continue while the demonstration runs, slowly enough to watch how each event changes the badge, the dot,
//! the notifications and the delivery records.

use std::time::Duration;

use flametree_notify::domain::event::EventType;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::api::Api;

/// Pause between two events.
const PACE: Duration = Duration::from_millis(2_500);
/// The number of events that each concurrent conversation already has when the first visitor arrives.
const HEAD_START: [usize; 4] = [6, 5, 3, 1];
/// Prefix of the session ids of live conversations.
const SESSIONS: &str = "s-live-";
/// The users who take over conversations, in rotation: users of the sign-in page who handle sessions, and a colleague.
const ASSIGNEES: [&str; 3] = ["olga", "ada", "jonas"];

const STORIES: [Story; 6] = [
    Story {
        agent: "shop-assistant",
        customer: "c-nina-r",
        question: "Hi! My parcel says delivered, but there is nothing at my door 😕",
        answer: "I'm sorry to hear that. Has a neighbour perhaps taken it in?",
        wish: "I asked all of them. Can I talk to a person?",
        help: "Hello Nina, I have opened a search with the carrier. A new one leaves today.",
        thanks: "That was quick, thank you!",
    },
    Story {
        agent: "clinic-desk",
        customer: "c-paul-w",
        question: "Can I still come in today? I have lost a filling.",
        answer: "For urgent visits I connect you with our front desk.",
        wish: "Yes please, it hurts a bit.",
        help: "Hello Paul, come at 16:40, Dr. Lin will see you.",
        thanks: "Great, see you then.",
    },
    Story {
        agent: "travel-concierge",
        customer: "c-amelie-d",
        question: "Mon vol de 9 h 15 est annulé. Que dois-je faire ?",
        answer: "Je cherche le prochain vol disponible pour vous.",
        wish: "Je préfère parler à une personne.",
        help: "Bonjour Amélie, je vous ai placée sur le vol de 11 h 05.",
        thanks: "Parfait, merci beaucoup ✈️",
    },
    Story {
        agent: "shop-assistant",
        customer: "c-omar-k",
        question: "هل يمكنني تغيير عنوان التوصيل؟",
        answer: "يمكن تغيير العنوان قبل الشحن فقط.",
        wish: "أريد التحدث مع موظف من فضلك.",
        help: "مرحبًا عمر، تم تغيير العنوان.",
        thanks: "شكرًا جزيلًا",
    },
    Story {
        agent: "shop-assistant",
        customer: "c-yui-t",
        question: "椅子の色はサイトの写真と同じですか？",
        answer: "画面によって少し違って見えることがあります。",
        wish: "実物の写真を見せてもらえますか？",
        help: "はい、自然光で撮った写真をお送りします。",
        thanks: "ありがとうございます！",
    },
    Story {
        agent: "clinic-desk",
        customer: "c-rosa-m",
        question: "Do you take my insurance, and what would a cleaning cost?",
        answer: "Which insurance do you have?",
        wish: "The public one. Could a person check it for me?",
        help: "Hello Rosa, it is covered twice a year.",
        thanks: "Wonderful 😊",
    },
];

/// One whole conversation.
struct Story {
    agent: &'static str,
    customer: &'static str,
    question: &'static str,
    answer: &'static str,
    wish: &'static str,
    help: &'static str,
    thanks: &'static str,
}

impl Story {
    /// The events in order. `assignee` takes over the conversation.
    fn events(&self, assignee: &str) -> Vec<(EventType, Value)> {
        let text = |text: &str| json!({"text": text});
        vec![
            (EventType::NewSessionStarted, json!({})),
            (EventType::UserMessage, text(self.question)),
            (EventType::AiAssistantMessage, text(self.answer)),
            (EventType::UserMessage, text(self.wish)),
            (EventType::TransferredToLiveAgent, json!({})),
            (EventType::SessionAssigned, json!({"assignee_id": assignee})),
            (EventType::HumanAgentMessage, text(self.help)),
            (EventType::UserMessage, text(self.thanks)),
            (EventType::SessionResolved, json!({})),
        ]
    }

    /// Bodies of `POST /v1/events`.
    fn bodies(&self, number: usize) -> Vec<String> {
        let events = self.events(ASSIGNEES[number % ASSIGNEES.len()]);
        let body = |(event_type, more): (EventType, Value)| {
            let mut body = json!({
                "type": event_type, "agent_id": self.agent, "session_id": format!("{SESSIONS}{}", 1_000 + number),
                "customer_id": self.customer,
            });
            if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
                body.extend(more);
            }
            body.to_string()
        };
        events.into_iter().map(body).collect()
    }
}

/// True if the session is a live conversation.
pub(super) fn is_live(session_id: &str) -> bool {
    session_id.starts_with(SESSIONS)
}

/// Runs a few conversations concurrently, forever. They start at different events, so that some conversations already wait for
/// an operator when the first visitor arrives.
pub(super) async fn go_on(service: &Api) {
    let mut started = 0;
    let mut next = || {
        let story = &STORIES[started % STORIES.len()];
        started += 1;
        story.bodies(started).into_iter()
    };
    let mut running = Vec::new();
    for steps in HEAD_START {
        let mut conversation = next();
        for body in conversation.by_ref().take(steps) {
            post(service, &body).await;
        }
        running.push(conversation);
    }
    loop {
        for conversation in &mut running {
            match conversation.next() {
                Some(body) => {
                    post(service, &body).await;
                    sleep(PACE).await;
                }
                None => *conversation = next(),
            }
        }
    }
}

async fn post(service: &Api, body: &str) {
    if let Err(error) = service.post_event(body).await {
        tracing::warn!(%error, "an event of the live conversations was not accepted");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use flametree_notify::domain::names::TenantId;
    use flametree_notify::http::parse_event;

    use super::super::conversations::Agent;
    use super::super::users::USERS;
    use super::*;

    #[test]
    fn the_api_accepts_every_event_and_every_event_type_occurs() {
        let tenant = TenantId::parse("demo").unwrap();
        let mut types = HashSet::new();
        for (number, story) in STORIES.iter().enumerate() {
            assert!(Agent::named(story.agent).is_some());
            for body in story.bodies(number) {
                let value: Value = serde_json::from_str(&body).unwrap();
                assert!(is_live(value["session_id"].as_str().unwrap()));
                types.insert(value["type"].as_str().unwrap().to_owned());
                assert!(parse_event(value, Some(&tenant), "").is_ok(), "{body}");
            }
        }
        assert_eq!(types.len(), EventType::ALL.len());
    }

    #[test]
    fn users_of_the_sign_in_page_are_assigned_sessions() {
        let assigned = USERS.iter().filter(|person| ASSIGNEES.contains(&person.user));
        assert_eq!(assigned.count(), 2);
    }
}
