//! Maps a failed request to an outcome and a note.
//!
//! The mapping uses the types of the error and of its causes, never their texts. This module also defines the notes for
//! customers. A note contains no address, no URL and no text that the endpoint sent.

use std::error::Error;
use std::io;

use http::header::InvalidHeaderValue;
use rustls::CertificateError;

use super::guard::Forbidden;
use super::resolver::ResolveError;
use crate::domain::delivery::Outcome;

/// Why a request has no complete response. Each failure maps to one outcome and one note in the delivery record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    UnusableUrl,
    /// A header could not be written, so the message is not sent. This cannot happen while ids and names contain only
    /// visible ASCII.
    UnwritableHeaders,
    /// The host name has no address or a forbidden address. Both cases are reported as the same failure, so that a tenant
    /// does not learn which internal names exist.
    Unresolved,
    LookupTimedOut,
    /// The host in the URL is a literal address that is not allowed.
    BlockedAddress,
    ConnectionFailed,
    ConnectionRefused,
    ConnectionReset,
    ConnectionClosed,
    Unreachable,
    ConnectionTimedOut,
    NoAnswerInTime,
    UnfinishedAnswer,
    NotHttp,
    /// The host sent an HTTP/2 error.
    GivenUp,
    BrokenHttp2,
    Tls(TlsFault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsFault {
    /// The expiry time of the certificate in seconds since 1970, if known.
    Expired(Option<u64>),
    NotYetValid,
    OtherName,
    Untrusted,
    InvalidCertificate,
    Refused,
    NotTls,
    Incompatible,
    Failed,
}

impl Failure {
    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::UnusableUrl | Self::UnwritableHeaders => Outcome::ConfigError,
            Self::Unresolved => Outcome::DnsError,
            Self::BlockedAddress => Outcome::BlockedAddress,
            Self::ConnectionFailed
            | Self::ConnectionRefused
            | Self::ConnectionReset
            | Self::ConnectionClosed
            | Self::Unreachable => Outcome::ConnectError,
            Self::LookupTimedOut | Self::ConnectionTimedOut | Self::NoAnswerInTime | Self::UnfinishedAnswer => {
                Outcome::Timeout
            }
            Self::NotHttp | Self::GivenUp | Self::BrokenHttp2 => Outcome::ProtocolError,
            Self::Tls(_) => Outcome::TlsError,
        }
    }

    /// Shown to customers.
    pub(super) const fn note(self) -> &'static str {
        match self {
            Self::UnusableUrl => "The URL is not usable.",
            Self::UnwritableHeaders => "The message's headers could not be written.",
            Self::Unresolved => {
                "The host name did not resolve to an address that this service sends to. Nothing was sent."
            }
            Self::LookupTimedOut => "The host name did not resolve in time. Nothing was sent.",
            Self::BlockedAddress => "The host is an address that this service does not send to. Nothing was sent.",
            Self::ConnectionFailed => "The connection failed.",
            Self::ConnectionRefused => "The connection was refused.",
            Self::ConnectionReset => "The host reset the connection before it responded.",
            Self::ConnectionClosed => "The host closed the connection before it responded.",
            Self::Unreachable => "The host cannot be reached.",
            Self::ConnectionTimedOut => "The connection timed out.",
            Self::NoAnswerInTime => "The endpoint did not respond within the time limit.",
            Self::UnfinishedAnswer => "The endpoint started to respond but did not finish within the time limit.",
            Self::NotHttp => "The response was not HTTP.",
            Self::GivenUp => "The host aborted the request with an HTTP/2 error.",
            Self::BrokenHttp2 => "The response violated the rules of HTTP/2.",
            Self::Tls(fault) => fault.note(),
        }
    }
}

impl TlsFault {
    const fn note(self) -> &'static str {
        match self {
            Self::Expired(_) => "The host's certificate has expired.",
            Self::NotYetValid => "The host's certificate is not valid yet.",
            Self::OtherName => "The host's certificate is for another name.",
            Self::Untrusted => {
                "The host's certificate is not signed by a trusted authority, or its chain is incomplete."
            }
            Self::InvalidCertificate => "The host's certificate is not valid.",
            Self::Refused => "The host rejected the TLS handshake.",
            Self::NotTls => "The host did not speak TLS.",
            Self::Incompatible => "The host offers no TLS version or cipher that this service accepts.",
            Self::Failed => "The TLS handshake failed.",
        }
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Unresolved | ResolveError::Forbidden(_) => Self::Unresolved,
            ResolveError::TimedOut => Self::LookupTimedOut,
        }
    }
}

impl From<Forbidden> for Failure {
    fn from(_: Forbidden) -> Self {
        Self::BlockedAddress
    }
}

pub(super) fn failure(error: &(dyn Error + 'static)) -> Failure {
    // The innermost cause is the most specific. For example, a connection error wraps an I/O error, which wraps a TLS error.
    causes(error).filter_map(verdict_of).last().unwrap_or(Failure::ConnectionFailed)
}

/// True if the endpoint has certainly not processed the request. Sending the request again is then not a second attempt.
pub(super) fn was_never_processed(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        cause.downcast_ref::<h2::Error>().is_some_and(was_refused)
            // The connection ended before the client sent any byte of the request.
            || cause.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_canceled() || error.is_closed())
    })
}

/// True if HTTP/2 guarantees that the peer did not process the request (RFC 9113, section 8.7).
///
/// After a GOAWAY frame, h2 reports a GOAWAY error only for streams above the last id in the frame, and for streams that had
/// not started when the frame arrived. (In a rare race, the headers of such a stream were already sent. But the body was not
/// sent, and without the body the peer has no event to process.) If the peer may have processed a stream, h2 reports an I/O
/// error instead.
fn was_refused(error: &h2::Error) -> bool {
    let refused_stream = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || refused_stream)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // `source` of an I/O error does not return the wrapped error itself.
        Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
        None => error.source(),
    })
}

fn verdict_of(cause: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(error) = cause.downcast_ref::<ResolveError>() {
        return Some(Failure::from(*error));
    }
    if cause.is::<InvalidHeaderValue>() {
        return Some(Failure::UnwritableHeaders);
    }
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(Failure::Tls(tls(error)));
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
        return Some(Failure::NotHttp);
    }
    if error.is_timeout() {
        return Some(Failure::ConnectionTimedOut);
    }
    error.is_incomplete_message().then_some(Failure::ConnectionClosed)
}

fn http2(error: &h2::Error) -> Failure {
    if error.is_io() {
        return Failure::ConnectionClosed;
    }
    if error.is_remote() { Failure::GivenUp } else { Failure::BrokenHttp2 }
}

fn io(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::ConnectionRefused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Failure::ConnectionReset
        }
        io::ErrorKind::UnexpectedEof => Failure::ConnectionClosed,
        // hyper uses these error kinds for invalid chunks of a response body.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Failure::NotHttp,
        io::ErrorKind::TimedOut => Failure::ConnectionTimedOut,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Failure::Unreachable,
        _ => Failure::ConnectionFailed,
    }
}

fn tls(error: &rustls::Error) -> TlsFault {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::AlertReceived(_) => TlsFault::Refused,
        rustls::Error::InvalidMessage(_) => TlsFault::NotTls,
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => TlsFault::Incompatible,
        _ => TlsFault::Failed,
    }
}

fn certificate(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::Expired => TlsFault::Expired(None),
        CertificateError::ExpiredContext { not_after, .. } => TlsFault::Expired(Some(not_after.as_secs())),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsFault::OtherName,
        CertificateError::UnknownIssuer => TlsFault::Untrusted,
        _ => TlsFault::InvalidCertificate,
    }
}
