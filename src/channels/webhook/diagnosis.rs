//! What a test event's fate means, and what to do about it, in plain words.
//!
//! Pure, and says nothing that must not be said: no address, no secret, and of a redirect's target the origin alone.

use std::time::Duration;

use chrono::DateTime;
use http::StatusCode;

use super::diagnosis_code::DiagnosisCode;
use crate::channels::classify::{Failure, TlsFault};
use crate::channels::measured::Step;

/// From here on an endpoint counts as slow: so does the queue count.
const SLOW: Duration = Duration::from_secs(1);

/// What happened, for programs and for readers.
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

/// What an answer tells, for a hint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) status: StatusCode,
    pub(super) total: Duration,
    /// The origin that a redirect leads to, and whether it is the endpoint's own.
    pub(super) target: Option<(&'a str, bool)>,
}

/// The diagnosis of a whole answer.
pub(super) fn of_answer(answered: &Answered<'_>) -> Diagnosis {
    use DiagnosisCode as Code;
    let status = answered.status.as_u16();
    match status {
        200..=299 if answered.total < SLOW => {
            Diagnosis::new(Code::Delivered, "The endpoint took the message. Nothing needs to be done.")
        }
        200..=299 => slow(answered.total),
        300..=399 => redirect(status, answered.target),
        401 | 403 | 407 => Diagnosis::new(
            Code::HeaderRejected,
            format!(
                "The endpoint answered {status}: it does not accept who sends. Compare the configured headers, such as \
                 Authorization, with what it expects, and the signing secret if it verifies signatures."
            ),
        ),
        431 => Diagnosis::new(
            Code::HeaderRejected,
            "The endpoint answered 431: the headers are too large for it. Configure fewer or shorter ones.",
        ),
        404 => Diagnosis::new(Code::NotFound, "The endpoint answered 404: nothing is there. Check the URL's path."),
        405 | 501 => Diagnosis::new(
            Code::MethodNotAllowed,
            format!(
                "The endpoint answered {status}: it takes no POST. Check the URL's path, or the routes of the endpoint."
            ),
        ),
        410 => Diagnosis::new(
            Code::Gone,
            "The endpoint answered 410: it is gone for good. A delivery that gets this answer disables the config; \
             enter the URL of the endpoint that took its place.",
        ),
        429 => Diagnosis::new(
            Code::Throttled,
            "The endpoint answered 429: it gets more requests than it wants. Deliveries that get this answer are not \
             repeated; raise the limit at the endpoint for this sender.",
        ),
        400 | 406 | 411..=422 => Diagnosis::new(
            Code::MessageRejected,
            format!("The endpoint answered {status}: it did not like the message. Its answer's body may say why."),
        ),
        500..=599 => Diagnosis::new(
            Code::ServerError,
            format!("The endpoint answered {status}: it failed, or what stands before it did. Look into its log."),
        ),
        _ => Diagnosis::new(
            Code::UnexpectedStatus,
            format!("The endpoint answered {status}. Only 200 to 299 count as delivered."),
        ),
    }
}

fn slow(total: Duration) -> Diagnosis {
    let hint = format!(
        "The endpoint took the message, but only after {:.1} s. Answer at once and do the work afterwards: slow endpoints \
         get their messages later, and past the time limit they count as failed.",
        total.as_secs_f64()
    );
    Diagnosis::new(DiagnosisCode::Slow, hint)
}

fn redirect(status: u16, target: Option<(&str, bool)>) -> Diagnosis {
    let whereto = match target {
        None => "a redirect without a target that can be read".to_owned(),
        Some((origin, true)) => format!("a redirect to another place at the same origin, {origin}"),
        Some((origin, false)) => format!("a redirect to {origin}"),
    };
    let hint = format!(
        "The endpoint answered {status}, {whereto}. Redirects are not followed, for the message and its headers are meant \
         for the configured URL alone. Enter the URL that the redirect leads to, if it is yours."
    );
    Diagnosis::new(DiagnosisCode::Redirect, hint)
}

/// The diagnosis of an attempt that brought no whole answer; `timeout` is its deadline.
pub(super) fn of_failure(failure: Failure, step: Step, timeout: Duration) -> Diagnosis {
    use DiagnosisCode as Code;
    let seconds = timeout.as_secs_f64();
    match failure {
        Failure::UnusableUrl => Diagnosis::new(
            Code::UnusableUrl,
            "The URL cannot be sent to. Nothing was sent. Enter it again, with https.",
        ),
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
            "The host's name did not resolve in time. Its name servers are slow or do not answer. Nothing was sent.",
        ),
        Failure::BlockedAddress => Diagnosis::new(
            Code::BlockedAddress,
            "The host is an address that this service does not send to: a private, local or reserved one. Nothing was \
             sent. Use a public host, or ask the operator of this service to allow the network.",
        ),
        Failure::ConnectionRefused => Diagnosis::new(
            Code::ConnectionRefused,
            "The host refused the connection: nothing listens at this port, or a firewall refuses it. Check the port and \
             that the endpoint runs.",
        ),
        Failure::ConnectionReset | Failure::ConnectionClosed => Diagnosis::new(
            Code::ConnectionLost,
            "The host closed the connection before it had answered. The message may have been processed. Look into the \
             endpoint's log for a crash, or into the proxy before it for a limit.",
        ),
        Failure::ConnectionFailed | Failure::Unreachable => Diagnosis::new(
            Code::ConnectionFailed,
            "The host could not be reached. Check that it is up and reachable from the internet.",
        ),
        Failure::ConnectionTimedOut | Failure::NoAnswerInTime => late(step, seconds),
        Failure::UnfinishedAnswer => Diagnosis::new(
            Code::UnfinishedAnswer,
            format!(
                "The endpoint began to answer but had not ended within {seconds} s. Answer with a short body, or none."
            ),
        ),
        Failure::NotHttp => Diagnosis::new(
            Code::NotHttp,
            "What came back is not HTTP. Check that the port is the one of a web server; one that speaks TLS needs https.",
        ),
        Failure::GivenUp | Failure::BrokenHttp2 => Diagnosis::new(
            Code::Http2Error,
            "The endpoint broke the exchange off with an HTTP/2 error. Look into the log of the endpoint or its proxy.",
        ),
        Failure::Tls(fault) => tls(fault),
    }
}

fn late(step: Step, seconds: f64) -> Diagnosis {
    use DiagnosisCode as Code;
    match step {
        Step::Lookup => Diagnosis::new(
            Code::LookupTimeout,
            format!("The host's name did not resolve within {seconds} s. Its name servers are slow or do not answer."),
        ),
        Step::Connection => Diagnosis::new(
            Code::ConnectTimeout,
            format!("No connection came about within {seconds} s. The host is down, or a firewall drops what comes."),
        ),
        Step::Tls => Diagnosis::new(
            Code::TlsTimeout,
            format!(
                "The TLS handshake did not end within {seconds} s. Check that the port speaks TLS, and the host's load."
            ),
        ),
        Step::Answer => Diagnosis::new(
            Code::AnswerTimeout,
            format!(
                "The endpoint did not answer within {seconds} s. The message may have been processed. Answer at once and \
                 do the work afterwards, or set a longer timeout_ms, 10000 at most."
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
            "The host's certificate is not valid yet. Nothing was sent. Check when it begins, and the host's clock.",
        ),
        TlsFault::OtherName => Diagnosis::new(
            Code::CertificateOtherName,
            "The host's certificate is for another name. Nothing was sent. Use the name of the certificate in the URL, or \
             get one for this name.",
        ),
        TlsFault::Untrusted => Diagnosis::new(
            Code::CertificateUntrusted,
            "The host's certificate comes from no authority that is trusted here, or its chain is incomplete. Nothing was \
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
    fn every_status_has_its_diagnosis() {
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
    fn an_expired_certificate_is_told_with_its_date() {
        let diagnosis = tls(TlsFault::Expired(Some(1_767_225_600)));
        let expected = "The host's certificate expired on 2026-01-01 at 00:00 UTC. Nothing was sent. Renew it.";
        assert_eq!((diagnosis.code, diagnosis.hint.as_str()), (DiagnosisCode::CertificateExpired, expected));
        let unknown = "The host's certificate expired. Nothing was sent. Renew it.";
        assert_eq!(tls(TlsFault::Expired(None)).hint, unknown);
    }
}
