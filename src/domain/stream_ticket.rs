//! Tickets for streams: secrets for a single use in a URL, because browsers cannot send headers with a stream request.

use super::random_secret::{RandomSecret, SecretKind};

/// The secret of a ticket.
pub type TicketSecret = RandomSecret<OfTicket>;

/// Opens one stream.
#[derive(Debug)]
pub enum OfTicket {}

impl SecretKind for OfTicket {
    const PREFIX: &'static str = "ftt_";
}
