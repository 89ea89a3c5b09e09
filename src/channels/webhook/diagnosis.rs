//! Explains the result of a test event, and how to fix the endpoint.
//!
//! Has no side effects. A hint never contains an address, a secret, or more than the origin of a redirect's target.

use std::time::Duration;

use chrono::DateTime;
use http::StatusCode;

use super::diagnosis_code::DiagnosisCode;
use crate::channels::classify::{Failure, TlsFault};
use crate::channels::measured::Step;

/// An endpoint that takes longer than this to respond counts as slow. The queue uses the same limit.
const SLOW: Duration = Duration::from_secs(1);

/// The result of a test event: a code for programs and a hint for users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    pub code: DiagnosisCode,
    pub hint: String,
}

impl Diagnosis {
    pub(super) fn new(code: DiagnosisCode, hint: impl Into<String>) -> Self {
        Self { code, hint: hint.into() }
    }
}

/// The parts of a response that a hint may mention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) status: StatusCode,
    pub(super) total: Duration,
    /// The origin of a redirect's target, and whether the endpoint has the same origin.
    pub(super) target: Option<(&'a str, bool)>,
}

/// The diagnosis of a complete response.
pub(super) fn of_answer(answered: &Answered<'_>) -> Diagnosis {
    use DiagnosisCode as Code;
    let status = answered.status.as_u16();
    match status {
        200..=299 if answered.total < SLOW => {
            Diagnosis::new(Code::Delivered, "The endpoint accepted the message. No action is needed.")
        }
        200..=299 => slow(answered.total),
        300..=399 => redirect(status, answered.target),
        401 | 403 | 407 => Diagnosis::new(
            Code::HeaderRejected,
            format!(
                "The endpoint responded with {status}: it rejects the sender. Compare the configured headers, such as \
                 Authorization, with what it expects, and the signing secret if it verifies signatures."
            ),
        ),
        431 => Diagnosis::new(
            Code::HeaderRejected,
            "The endpoint responded with 431: the headers are too large. Configure fewer or shorter ones.",
        ),
        404 => Diagnosis::new(Code::NotFound, "The endpoint responded with 404: no such path. Check the URL's path."),
        405 | 501 => Diagnosis::new(
            Code::MethodNotAllowed,
            format!(
                "The endpoint responded with {status}: it does not accept POST. Check the URL's path, or the endpoint's routes."
            ),
        ),
        410 => Diagnosis::new(
            Code::Gone,
            "The endpoint responded with 410: it was removed for good. A delivery with this response disables the config; \
             enter the URL of the new endpoint.",
        ),
        429 => Diagnosis::new(
            Code::Throttled,
            "The endpoint responded with 429: it gets more requests than it accepts. These deliveries are not retried; \
             raise the endpoint's limit for this sender.",
        ),
        400 | 406 | 411..=422 => Diagnosis::new(
            Code::MessageRejected,
            format!("The endpoint responded with {status}: it rejected the message. The response body may say why."),
        ),
        500..=599 => Diagnosis::new(
            Code::ServerError,
            format!(
                "The endpoint responded with {status}: the endpoint or a proxy in front of it failed. Check their logs."
            ),
        ),
        _ => Diagnosis::new(
            Code::UnexpectedStatus,
            format!("The endpoint responded with {status}. Only 200 to 299 count as delivered."),
        ),
    }
}

fn slow(total: Duration) -> Diagnosis {
    let hint = format!(
        "The endpoint accepted the message, but only after {:.1} s. Respond first and process afterwards: slow endpoints \
         get their messages later, and past the time limit they count as failed.",
        total.as_secs_f64()
    );
    Diagnosis::new(DiagnosisCode::Slow, hint)
}

fn redirect(status: u16, target: Option<(&str, bool)>) -> Diagnosis {
    let whereto = match target {
        None => "a redirect without a readable target".to_owned(),
        Some((origin, true)) => format!("a redirect to another URL at the same origin, {origin}"),
        Some((origin, false)) => format!("a redirect to {origin}"),
    };
    let hint = format!(
        "The endpoint responded with {status}, {whereto}. Redirects are not followed, because the message and its headers \
         are meant for the configured URL only. If the target is yours, enter its URL.",
    );
    Diagnosis::new(DiagnosisCode::Redirect, hint)
}

/// The diagnosis of an attempt without a complete response. `timeout` is the deadline of the attempt.
pub(super) fn of_failure(failure: Failure, step: Step, timeout: Duration) -> Diagnosis {
    use DiagnosisCode as Code;
    let seconds = timeout.as_secs_f64();
    match failure {
        Failure::UnusableUrl => {
            Diagnosis::new(Code::UnusableUrl, "The URL is not usable. Nothing was sent. Enter it again, with https.")
        }
        Failure::UnwritableHeaders => {
            Diagnosis::new(Code::UnusableUrl, "The message's headers could not be written. Nothing was sent.")
        }
        Failure::Unresolved => Diagnosis::new(
            Code::NameNotResolved,
            "The host's name does not resolve to an address that this service sends to. Nothing was sent. Check its \
             spelling, and that it has a public DNS record with public addresses only; for a host in a private network, ask \
             the operator of this service.",
        ),
        Failure::LookupTimedOut => Diagnosis::new(
            Code::LookupTimeout,
            "The host's name did not resolve in time. Its name servers are slow or do not respond. Nothing was sent.",
        ),
        Failure::BlockedAddress => Diagnosis::new(
            Code::BlockedAddress,
            "The host is an address that this service does not send to: it is private, local or reserved. Nothing was \
             sent. Use a public host, or ask the operator of this service to allow the network.",
        ),
        Failure::ConnectionRefused => Diagnosis::new(
            Code::ConnectionRefused,
            "The host refused the connection: no program listens at this port, or a firewall rejects it. Check the port and \
             that the endpoint runs.",
        ),
        Failure::ConnectionReset | Failure::ConnectionClosed => Diagnosis::new(
            Code::ConnectionLost,
            "The host closed the connection before it responded. The message may have been processed. Check the \
             endpoint's log for a crash, and the proxy before it for a limit.",
        ),
        Failure::ConnectionFailed | Failure::Unreachable => Diagnosis::new(
            Code::ConnectionFailed,
            "The host could not be reached. Check that it is up and reachable from the internet.",
        ),
        Failure::ConnectionTimedOut | Failure::NoAnswerInTime => late(step, seconds),
        Failure::UnfinishedAnswer => Diagnosis::new(
            Code::UnfinishedAnswer,
            format!(
                "The endpoint started to respond but did not finish within {seconds} s. Respond with a short body, or none."
            ),
        ),
        Failure::NotHttp => Diagnosis::new(
            Code::NotHttp,
            "The response is not HTTP. Check that a web server listens at this port; if it speaks TLS, use https.",
        ),
        Failure::GivenUp | Failure::BrokenHttp2 => Diagnosis::new(
            Code::Http2Error,
            "The endpoint aborted the request with an HTTP/2 error. Check the log of the endpoint or its proxy.",
        ),
        Failure::Tls(fault) => tls(fault),
    }
}

fn late(step: Step, seconds: f64) -> Diagnosis {
    use DiagnosisCode as Code;
    match step {
        Step::Lookup => Diagnosis::new(
            Code::LookupTimeout,
            format!("The host's name did not resolve within {seconds} s. Its name servers are slow or do not respond."),
        ),
        Step::Connection => Diagnosis::new(
            Code::ConnectTimeout,
            format!(
                "The connection did not open within {seconds} s. The host is down, or a firewall drops the packets."
            ),
        ),
        Step::Tls => Diagnosis::new(
            Code::TlsTimeout,
            format!(
                "The TLS handshake did not finish within {seconds} s. Check that the port accepts TLS, and check the host's load."
            ),
        ),
        Step::Answer => Diagnosis::new(
            Code::AnswerTimeout,
            format!(
                "The endpoint did not respond within {seconds} s. The message may have been processed. Respond first and \
                 process afterwards, or set a longer timeout_ms, 10000 at most."
            ),
        ),
    }
}

fn tls(fault: TlsFault) -> Diagnosis {
    use DiagnosisCode as Code;
    match fault {
        TlsFault::Expired(not_after) => {
            let date = not_after
                .and_then(|seconds| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0))
                .map_or(String::new(), |at| format!(" on {}", at.format("%Y-%m-%d at %H:%M UTC")));
            let hint = format!("The host's certificate expired{date}. Nothing was sent. Renew it.");
            Diagnosis::new(Code::CertificateExpired, hint)
        }
        TlsFault::NotYetValid => Diagnosis::new(
            Code::CertificateNotYetValid,
            "The host's certificate is not valid yet. Nothing was sent. Check its start date, and the host's clock.",
        ),
        TlsFault::OtherName => Diagnosis::new(
            Code::CertificateOtherName,
            "The host's certificate is for another name. Nothing was sent. Use the certificate's name in the URL, or \
             get a certificate for this name.",
        ),
        TlsFault::Untrusted => Diagnosis::new(
            Code::CertificateUntrusted,
            "The host's certificate is not from a trusted authority, or its chain is incomplete. Nothing was \
             sent. Serve the full chain of a public authority; browsers fill such gaps, other programs do not.",
        ),
        TlsFault::InvalidCertificate => Diagnosis::new(
            Code::CertificateInvalid,
            "The host's certificate is not valid. Nothing was sent. Replace it.",
        ),
        TlsFault::NotTls => Diagnosis::new(
            Code::NotTls,
            "The host does not speak TLS at this port. Nothing was sent. Check the port; 443 is the usual one.",
        ),
        TlsFault::Refused | TlsFault::Incompatible | TlsFault::Failed => Diagnosis::new(
            Code::TlsFailed,
            "The TLS handshake failed. Nothing was sent. The host must offer TLS 1.2 or 1.3 with a modern cipher, ask for \
             no client certificate, and know the name in the URL.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_diagnosis() {
        for (status, code) in [
            (200, "delivered"),
            (204, "delivered"),
            (304, "redirect"),
            (400, "message_rejected"),
            (401, "header_rejected"),
            (402, "unexpected_status"),
            (403, "header_rejected"),
            (404, "not_found"),
            (405, "method_not_allowed"),
            (410, "gone"),
            (413, "message_rejected"),
            (422, "message_rejected"),
            (429, "throttled"),
            (431, "header_rejected"),
            (500, "server_error"),
            (503, "server_error"),
            (999, "unexpected_status"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let answered = Answered { status, total: Duration::from_millis(999), target: None };
            assert_eq!(of_answer(&answered).code.as_str(), code, "{status}");
        }
        let late = Answered { status: StatusCode::OK, total: Duration::from_millis(1_240), target: None };
        assert_eq!(of_answer(&late).code, DiagnosisCode::Slow);
        assert!(of_answer(&late).hint.contains("after 1.2 s"), "{late:?}");
    }

    #[test]
    fn the_hint_for_an_expired_certificate_contains_the_expiry_date() {
        let diagnosis = tls(TlsFault::Expired(Some(1_767_225_600)));
        let expected = "The host's certificate expired on 2026-01-01 at 00:00 UTC. Nothing was sent. Renew it.";
        assert_eq!((diagnosis.code, diagnosis.hint.as_str()), (DiagnosisCode::CertificateExpired, expected));
        let unknown = "The host's certificate expired. Nothing was sent. Renew it.";
        assert_eq!(tls(TlsFault::Expired(None)).hint, unknown);
    }
}
