//! The message to the portal's service worker: a small JSON object that every push service accepts.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use url::form_urlencoded::byte_serialize;

use crate::domain::event::{EventType, StoredEvent};
use crate::domain::ids::EventId;
use crate::domain::names::{SessionId, TenantId, UserId};

/// Maximum size of the JSON in bytes. RFC 8291 allows 3,993, but the bridge to Firefox for Android rejects more than 2,815.
pub const MAX_JSON_BYTES: usize = 2_800;

const ELLIPSIS: &str = "…";
const PORTAL: &str = "/portal/";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    SessionAssigned,
    UserMessage,
    Test,
}

/// A notification for one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    kind: Kind,
    body: String,
    about: Option<(SessionId, EventId)>,
}

#[derive(Serialize)]
struct PayloadJson<'a> {
    version: u8,
    kind: Kind,
    title: &'static str,
    body: &'a str,
    /// A newer notification with the same tag replaces the older one.
    tag: &'a str,
    /// The portal page that opens when the user clicks the notification.
    url: String,
    session_id: Option<&'a str>,
    event_id: Option<EventId>,
    sent_at: String,
}

impl Notice {
    /// The notification for an event; `None` if events of this type do not notify users.
    pub fn of(event: &StoredEvent) -> Option<Self> {
        let (kind, body) = match event.event_type {
            EventType::SessionAssigned => (Kind::SessionAssigned, "You have new session assigned.".to_owned()),
            EventType::UserMessage => {
                (Kind::UserMessage, format!("New message: {}", event.text.as_deref().unwrap_or_default()))
            }
            EventType::NewSessionStarted
            | EventType::AiAssistantMessage
            | EventType::HumanAgentMessage
            | EventType::TransferredToLiveAgent
            | EventType::SessionResolved => return None,
        };
        Some(Self { kind, body, about: Some((event.session_id.clone(), event.id)) })
    }

    /// The test notification, which users send to themselves.
    pub fn test() -> Self {
        Self { kind: Kind::Test, body: "This is a test notification.".to_owned(), about: None }
    }

    pub fn is_test(&self) -> bool {
        self.kind == Kind::Test
    }

    /// The notification as JSON. The text is shortened so that the JSON fits [`MAX_JSON_BYTES`].
    pub(super) fn json(&self, sent_at: DateTime<Utc>) -> Vec<u8> {
        let whole = self.write(&self.body, sent_at);
        if whole.len() <= MAX_JSON_BYTES {
            return whole;
        }
        let around = self.write(ELLIPSIS, sent_at).len();
        let kept = cut(&self.body, MAX_JSON_BYTES.saturating_sub(around));
        self.write(&format!("{kept}{ELLIPSIS}"), sent_at)
    }

    /// The topic of the message. A push service replaces a waiting message by a newer message with the same topic, so a
    /// user who opens a laptop sees only the newest notification per session. Some push services accept only letters and
    /// digits in a topic.
    pub(super) fn topic(&self, tenant: &TenantId, user: &UserId) -> Option<String> {
        let (session, _) = self.about.as_ref().filter(|_| self.kind == Kind::UserMessage)?;
        let mut hash = Sha256::new();
        for part in [tenant.as_str(), user.as_str(), session.as_str()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        digest.first_chunk::<16>().map(|half| format!("{:032x}", u128::from_be_bytes(*half)))
    }

    fn write(&self, body: &str, sent_at: DateTime<Utc>) -> Vec<u8> {
        let session = self.about.as_ref().map(|(session, _)| session.as_str());
        let url = session.map_or_else(
            || PORTAL.to_owned(),
            |session| [PORTAL, "?session="].into_iter().chain(byte_serialize(session.as_bytes())).collect(),
        );
        let payload = PayloadJson {
            version: 1,
            kind: self.kind,
            title: "Flametree",
            body,
            tag: session.unwrap_or("flametree-test"),
            url,
            session_id: session,
            event_id: self.about.as_ref().map(|(_, event)| *event),
            sent_at: sent_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        };
        // The notification contains only numbers and strings, so serialization cannot fail. An empty message would not be
        // sent.
        serde_json::to_vec(&payload).unwrap_or_default()
    }
}

/// The longest prefix of a text that fits into `budget` bytes of a JSON string. It does not end with a joiner or a variation
/// selector.
fn cut(text: &str, budget: usize) -> &str {
    let mut bytes = 0;
    let end = text.char_indices().find_map(|(at, character)| {
        bytes += json_bytes(character);
        (bytes > budget).then_some(at)
    });
    text[..end.unwrap_or(text.len())].trim_end_matches(binds)
}

/// How many bytes a character takes in a string that `serde_json` wrote.
fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

fn binds(character: char) -> bool {
    matches!(character, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::domain::names::AgentId;

    fn event(event_type: EventType, text: Option<&str>) -> StoredEvent {
        StoredEvent {
            id: EventId::from_uuid(Uuid::from_u128(7)),
            tenant_id: TenantId::from_stored("acme".to_owned()),
            event_type,
            agent_id: AgentId::from_stored("agent-1".to_owned()),
            session_id: SessionId::from_stored("s 1/&é".to_owned()),
            customer_id: None,
            occurred_at: DateTime::UNIX_EPOCH,
            text: text.map(str::to_owned),
            assignee_id: None,
            metadata: None,
        }
    }

    fn json(notice: &Notice) -> Value {
        let bytes = notice.json(DateTime::UNIX_EPOCH);
        assert!(bytes.len() <= MAX_JSON_BYTES, "{} bytes", bytes.len());
        serde_json::from_slice(&bytes).unwrap()
    }

    fn message(text: &str) -> Notice {
        Notice::of(&event(EventType::UserMessage, Some(text))).unwrap()
    }

    #[test]
    fn the_message_has_the_agreed_fields() {
        let expected = serde_json::json!({
            "version": 1, "kind": "user_message", "title": "Flametree", "body": "New message: Where? 📦",
            "tag": "s 1/&é", "url": "/portal/?session=s+1%2F%26%C3%A9", "session_id": "s 1/&é",
            "event_id": "evt_00000000000000000000000000000007", "sent_at": "1970-01-01T00:00:00.000Z",
        });
        assert_eq!(json(&message("Where? 📦")), expected);
        let assigned = json(&Notice::of(&event(EventType::SessionAssigned, None)).unwrap());
        assert_eq!(assigned["kind"], "session_assigned");
        assert_eq!(assigned["body"], "You have new session assigned.");
        let test = json(&Notice::test());
        assert_eq!(
            (&test["kind"], &test["url"], &test["session_id"]),
            (&"test".into(), &"/portal/".into(), &Value::Null)
        );
    }

    #[test]
    fn only_events_of_assigned_sessions_notify_users() {
        for event_type in EventType::ALL {
            let told = Notice::of(&event(event_type, Some("x"))).is_some();
            assert_eq!(
                told,
                matches!(event_type, EventType::SessionAssigned | EventType::UserMessage),
                "{event_type:?}"
            );
        }
    }

    #[test]
    fn shortens_a_long_text_and_keeps_the_json_valid() {
        for unit in ["x", "é", "日", "📦", "\"", "\n", "\u{1}", "👩‍💻", "❤️"] {
            for before in 0..8 {
                let text = format!("{}{}", "a".repeat(before), unit.repeat(3_000));
                let body = json(&message(&text))["body"].as_str().unwrap().to_owned();
                let kept = body.strip_prefix("New message: ").unwrap().strip_suffix(ELLIPSIS).unwrap();
                assert!(text.starts_with(kept), "{unit:?}");
                assert!(!kept.ends_with(binds), "{unit:?} ends in {:?}", kept.chars().next_back());
                let whole = message(&text).json(DateTime::UNIX_EPOCH).len();
                assert!(whole > MAX_JSON_BYTES - 12, "{unit:?} leaves {} bytes unused", MAX_JSON_BYTES - whole);
            }
        }
        let fitting = "x".repeat(1_000);
        assert_eq!(json(&message(&fitting))["body"], format!("New message: {fitting}"));
    }

    #[test]
    fn each_user_and_session_has_its_own_topic() {
        let (acme, other) = (TenantId::from_stored("acme".into()), TenantId::from_stored("other".into()));
        let (one, two) = (UserId::from_stored("user-1".into()), UserId::from_stored("user-2".into()));
        let topic = message("a").topic(&acme, &one).unwrap();
        assert!(topic.len() == 32 && topic.bytes().all(|byte| byte.is_ascii_hexdigit()), "{topic}");
        assert_eq!(message("b").topic(&acme, &one), Some(topic.clone()));
        for different in [message("a").topic(&acme, &two), message("a").topic(&other, &one)] {
            assert_ne!(different.unwrap(), topic);
        }
        assert_eq!(Notice::test().topic(&acme, &one), None);
        assert_eq!(Notice::of(&event(EventType::SessionAssigned, None)).unwrap().topic(&acme, &one), None);
    }
}
