//! The codes of diagnoses. Do not remove a code or change its meaning, because the codes are public.

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($name:ident = $text:literal,)+) => {
        /// The code of a diagnosis. No other codes exist.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum DiagnosisCode {
            $($name,)+
        }

        impl DiagnosisCode {
            pub const ALL: [Self; [$($text,)+].len()] = [$(Self::$name,)+];

            /// The code as the API returns it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    Delivered = "delivered",
    Slow = "slow",
    Redirect = "redirect",
    Gone = "gone",
    Throttled = "throttled",
    HeaderRejected = "header_rejected",
    MessageRejected = "message_rejected",
    NotFound = "not_found",
    MethodNotAllowed = "method_not_allowed",
    ServerError = "server_error",
    UnexpectedStatus = "unexpected_status",
    UnusableUrl = "unusable_url",
    NameNotResolved = "name_not_resolved",
    BlockedAddress = "blocked_address",
    ConnectionRefused = "connection_refused",
    ConnectionLost = "connection_lost",
    ConnectionFailed = "connection_failed",
    LookupTimeout = "lookup_timeout",
    ConnectTimeout = "connect_timeout",
    TlsTimeout = "tls_timeout",
    AnswerTimeout = "answer_timeout",
    UnfinishedAnswer = "unfinished_answer",
    NotHttp = "not_http",
    Http2Error = "http2_error",
    CertificateExpired = "certificate_expired",
    CertificateNotYetValid = "certificate_not_yet_valid",
    CertificateOtherName = "certificate_other_name",
    CertificateUntrusted = "certificate_untrusted",
    CertificateInvalid = "certificate_invalid",
    NotTls = "not_tls",
    TlsFailed = "tls_failed",
}

impl Serialize for DiagnosisCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
