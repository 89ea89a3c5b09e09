//! Tickets for streams. A ticket is a secret in a URL that is valid once, because browsers cannot send headers with a stream
//! request.

use super::random_secret::{RandomSecret, SecretKind};

/// The secret of a ticket.
pub type TicketSecret = RandomSecret<OfTicket>;

/// The kind of secret of a stream ticket. Each ticket opens one stream.
#[derive(Debug)]
pub enum OfTicket {}

impl SecretKind for OfTicket {
    const PREFIX: &'static str = "ftt_";
}
