//! Tickets for streams: the secret that a browser shows once in a URL, where it cannot send headers.

use super::random_secret::{RandomSecret, SecretKind};

/// The secret of a ticket.
pub type TicketSecret = RandomSecret<OfTicket>;

/// Opens one stream.
#[derive(Debug)]
pub enum OfTicket {}

impl SecretKind for OfTicket {
    const PREFIX: &'static str = "ftt_";
}
