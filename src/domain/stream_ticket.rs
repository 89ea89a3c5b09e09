//! Tickets for streams. A ticket is a secret that is valid once. Clients send it in the URL, because browsers cannot send
//! headers with a stream request.

use super::random_secret::{RandomSecret, SecretKind};

/// The secret of a ticket.
pub type TicketSecret = RandomSecret<OfTicket>;

/// Marks a secret as a stream ticket. Each ticket opens one stream.
#[derive(Debug)]
pub enum OfTicket {}

impl SecretKind for OfTicket {
    const PREFIX: &'static str = "ftt_";
}
