//! The workspace as JSON and as stream events. Each event is serialized once for all streams.

use std::fmt::Write as _;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::domain::names::{AgentId, SessionId, UserId};
use crate::domain::workspace::{ActiveConversation, ActiveConversations};

/// The contents of the operator workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ActiveConversationsDocument {
    /// The number of all conversations, listed or not.
    count: u64,
    /// The latest 100 conversations, latest first.
    conversations: Vec<ConversationDocument>,
    /// When the workspace was read.
    as_of: DateTime<Utc>,
}

/// A conversation in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
struct ConversationDocument {
    #[schema(value_type = String)]
    session_id: SessionId,
    #[schema(value_type = String)]
    agent_id: AgentId,
    /// Null while the conversation waits for an operator.
    #[schema(value_type = Option<String>)]
    assignee_id: Option<UserId>,
    /// The time of the event that put the conversation into the workspace: its transfer, or its assignment to the current user.
    since: DateTime<Utc>,
}

/// The data of a badge event: the number of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct BadgeDocument {
    count: u64,
    as_of: DateTime<Utc>,
}

/// An event of the stream.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents the stream, whose events are lines of text")]
#[schema(example = json!({
    "event": "badge", "id": "5feceb66ffc86f38", "data": "{\"count\":3,\"as_of\":\"2026-01-01T00:00:00Z\"}",
}))]
pub(crate) struct StreamEvent {
    event: StreamEventName,
    /// The event's id. A client that sends it in `Last-Event-ID` resumes after this event.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    id: String,
    /// A JSON document. A snapshot has the fields of the response of `GET /v1/workspace/active-conversations`; a badge has the
    /// fields `count` and `as_of`.
    #[schema(content_media_type = "application/json")]
    data: String,
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documentation")]
#[schema(rename_all = "snake_case")]
enum StreamEventName {
    Snapshot,
    Badge,
}

impl From<ActiveConversations> for ActiveConversationsDocument {
    fn from(active: ActiveConversations) -> Self {
        let conversations = active.listed.into_iter().map(|conversation| {
            let ActiveConversation { session_id, agent_id, assignee_id, since } = conversation;
            ConversationDocument { session_id, agent_id, assignee_id, since }
        });
        Self { count: active.count, conversations: conversations.collect(), as_of: active.as_of }
    }
}

/// The contents of a workspace, serialized for streams.
#[derive(Debug)]
pub(crate) struct View {
    /// The event id: a hash of the contents. Equal ids mean equal contents, in every process and after database failures.
    pub(crate) id: String,
    pub(crate) snapshot: Bytes,
    pub(crate) badge: Bytes,
}

impl View {
    pub(crate) fn new(active: ActiveConversations) -> Self {
        let document = ActiveConversationsDocument::from(active);
        let id = id(&document);
        let badge = BadgeDocument { count: document.count, as_of: document.as_of };
        Self { snapshot: event("snapshot", &id, &document), badge: event("badge", &id, &badge), id }
    }
}

/// A 64-bit hash of the document without the field `as_of`.
fn id(document: &ActiveConversationsDocument) -> String {
    let mut hash = Sha256::new();
    hash.update(json(&(document.count, &document.conversations)));
    hash.finalize()[..8].iter().fold(String::with_capacity(16), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// Formats an event (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). The JSON contains no line breaks.
fn event(name: &str, id: &str, data: &impl Serialize) -> Bytes {
    format!("event: {name}\nid: {id}\ndata: {}\n\n", json(data)).into()
}

fn json(value: &impl Serialize) -> String {
    // The documents have only strings, numbers and times, so serialization cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(count: u64, assignee: Option<&str>, as_of: i64) -> ActiveConversations {
        let conversation = ActiveConversation {
            session_id: SessionId::parse("s-\u{2028}1").unwrap(),
            agent_id: AgentId::parse("agent-1").unwrap(),
            assignee_id: assignee.map(|name| UserId::parse(name).unwrap()),
            since: DateTime::from_timestamp(1_767_225_600, 0).unwrap(),
        };
        let as_of = DateTime::from_timestamp(as_of, 0).unwrap();
        ActiveConversations { count, listed: vec![conversation], as_of }
    }

    #[test]
    fn the_id_depends_only_on_the_contents() {
        let view = |count, assignee, as_of| View::new(active(count, assignee, as_of)).id;
        let id = view(1, None, 1);
        assert_eq!(id.len(), 16);
        assert_eq!(view(1, None, 2), id);
        assert_ne!(view(2, None, 1), id);
        assert_ne!(view(1, Some("user-7"), 1), id);
    }

    #[test]
    fn an_event_has_one_line_of_data() {
        let View { id, snapshot, badge } = View::new(active(1, Some("user-7"), 1_767_225_601));
        let expected = format!(
            "event: snapshot\nid: {id}\ndata: {{\"count\":1,\"conversations\":[{{\"session_id\":\"s-\u{2028}1\",\
             \"agent_id\":\"agent-1\",\"assignee_id\":\"user-7\",\"since\":\"2026-01-01T00:00:00Z\"}}],\
             \"as_of\":\"2026-01-01T00:00:01Z\"}}\n\n"
        );
        assert_eq!(snapshot, expected);
        let expected = format!("event: badge\nid: {id}\ndata: {{\"count\":1,\"as_of\":\"2026-01-01T00:00:01Z\"}}\n\n");
        assert_eq!(badge, expected);
    }
}
