//! Invariants of parsing short texts: ids, cursors, names, page sizes and secrets.

use std::str::FromStr;

use crate::domain::ids::{ClaimId, DeliveryId, EventId, OperationId, PushSubscriptionId, TokenId};
use crate::domain::names::{MAX_NAME_BYTES, UserId};
use crate::domain::page::{Cursor, MAX_PAGE_ROWS, PageRows};
use crate::domain::stream_ticket::TicketSecret;
use crate::domain::token::{MAX_TOKEN_NAME_CHARS, TokenName, TokenSecret};

pub fn texts(text: &str) {
    // Exactly one text represents each cursor.
    if let Ok(cursor) = Cursor::parse(text) {
        assert_eq!(cursor.to_string(), text);
        assert_eq!(Cursor::parse(&Cursor::behind(cursor.id()).to_string()), Ok(cursor));
    }
    if let Ok(rows) = PageRows::parse(text) {
        assert!((1..=MAX_PAGE_ROWS).contains(&rows.get()));
    }
    id::<EventId>(text, EventId::PREFIX);
    id::<DeliveryId>(text, DeliveryId::PREFIX);
    id::<PushSubscriptionId>(text, PushSubscriptionId::PREFIX);
    id::<TokenId>(text, TokenId::PREFIX);
    id::<ClaimId>(text, ClaimId::PREFIX);
    id::<OperationId>(text, OperationId::PREFIX);
    if let Ok(delivery) = text.parse::<DeliveryId>() {
        assert_eq!(delivery.first_event().delivery(delivery.ordinal()), delivery);
    }
    // Exactly one text represents each secret, because a second text would be a second valid password.
    if let Some(secret) = TokenSecret::parse(text) {
        assert_eq!(secret.expose(), text);
    }
    if let Some(secret) = TicketSecret::parse(text) {
        assert_eq!(secret.expose(), text);
    }
    if let Ok(name) = UserId::parse(text) {
        assert!(name.as_str() == text && text.len() <= MAX_NAME_BYTES && !text.contains('\0'));
    }
    if let Ok(name) = TokenName::parse(text) {
        assert!(name.as_str() == text && text.chars().count() <= MAX_TOKEN_NAME_CHARS && !text.contains('\0'));
    }
}

/// Asserts that an id prints as the text that it was parsed from, in lower case.
fn id<T: FromStr + ToString>(text: &str, prefix: &str) {
    if let Ok(id) = text.parse::<T>() {
        let written = id.to_string();
        assert!(written.starts_with(prefix) && written.eq_ignore_ascii_case(text), "{text} became {written}");
        assert!(written.parse::<T>().is_ok_and(|again| again.to_string() == written));
    }
}
