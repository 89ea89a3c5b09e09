//! What a failed request means.
//!
//! Decided by the types in the chain of causes, never by an error's text. What customers read is written here; it holds
//! no address, no URL and nothing of the other side's words.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use super::resolver::ResolveError;
use crate::domain::delivery::Outcome;

/// A request that brought no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    pub(super) note: &'static str,
}

impl Failure {
    const fn new(outcome: Outcome, note: &'static str) -> Self {
        Self { outcome, note }
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Unresolved => Self::new(Outcome::DnsError, "The host name did not resolve."),
            ResolveError::Forbidden(_) => Self::new(
                Outcome::BlockedAddress,
                "The host has an address that this service does not send to. Nothing was sent.",
            ),
        }
    }
}

/// The meaning of a client's error.
pub(super) fn failure(error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::new(Outcome::ConfigError, "The URL cannot be sent to.");
    }
    // The innermost cause knows best: a TLS error, say, arrives inside an I/O error inside a connection error.
    let mut verdict = Failure::new(Outcome::ConnectError, "The connection failed.");
    for cause in causes(error) {
        if let Some(failure) = verdict_of(cause) {
            verdict = failure;
        }
    }
    // Last, because the client's own connection timeout is a private type, known only by this question.
    if verdict.outcome == Outcome::ConnectError && error.is_timeout() {
        return Failure::new(Outcome::Timeout, "The connection timed out.");
    }
    verdict
}

/// Whether the other side has certainly not processed the request: it may be sent once more without being a second
/// attempt.
pub(super) fn was_never_processed(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        cause.downcast_ref::<h2::Error>().is_some_and(was_refused)
            // The connection ended while the request still waited for its turn on it: not a byte has left.
            || cause.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_canceled() || error.is_closed())
    })
}

/// The guarantees of HTTP/2 (RFC 9113, section 8.7).
///
/// h2 fails a stream with the peer's GOAWAY only if the stream is above the last one that the peer names, or if it was
/// not begun when the frame came. (Between these two there is a window of instructions in which the headers may have
/// left; the body never has, and without it there is no event to process.) A stream that the peer may have processed
/// ends with an I/O error instead.
fn was_refused(error: &h2::Error) -> bool {
    let refused_stream = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || refused_stream)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // `source` of an I/O error skips the error that it wraps.
        Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
        None => error.source(),
    })
}

fn verdict_of(cause: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(error) = cause.downcast_ref::<ResolveError>() {
        return Some(Failure::from(*error));
    }
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(Failure::new(Outcome::TlsError, tls_note(error)));
    }
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        return Some(http2(error));
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return http1(error);
    }
    cause.downcast_ref::<io::Error>().map(io)
}

fn http1(error: &hyper::Error) -> Option<Failure> {
    if error.is_parse() {
        return Some(Failure::new(Outcome::ProtocolError, "The answer was not HTTP."));
    }
    if error.is_incomplete_message() {
        return Some(Failure::new(Outcome::ConnectError, "The connection was closed before the answer."));
    }
    None
}

fn http2(error: &h2::Error) -> Failure {
    if error.is_io() {
        return Failure::new(Outcome::ConnectError, "The connection was closed before the answer.");
    }
    let note = if error.is_remote() {
        "The host gave the request up with an HTTP/2 error."
    } else {
        "The answer broke the rules of HTTP/2."
    };
    Failure::new(Outcome::ProtocolError, note)
}

fn io(error: &io::Error) -> Failure {
    let note = match error.kind() {
        io::ErrorKind::ConnectionRefused => "The connection was refused.",
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            "The connection was reset before the answer."
        }
        io::ErrorKind::UnexpectedEof => "The connection was closed before the answer.",
        // So hyper says it of a body whose chunks are not chunks.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            return Failure::new(Outcome::ProtocolError, "The answer was not HTTP.");
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "The host cannot be reached.",
        _ => "The connection failed.",
    };
    Failure::new(Outcome::ConnectError, note)
}

fn tls_note(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate_note(error),
        rustls::Error::AlertReceived(_) => "The host refused the TLS handshake.",
        rustls::Error::InvalidMessage(_) => "The host did not speak TLS.",
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
            "The host offers no TLS version or cipher that this service accepts."
        }
        _ => "The TLS handshake failed.",
    }
}

fn certificate_note(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "The host's certificate has expired.",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "The host's certificate is not valid yet."
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "The host's certificate is for another name."
        }
        CertificateError::UnknownIssuer => {
            "The host's certificate is not signed by a trusted authority, or its chain is incomplete."
        }
        _ => "The host's certificate is not valid.",
    }
}
