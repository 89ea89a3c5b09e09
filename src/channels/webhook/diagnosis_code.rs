//! The codes of diagnoses. Do not remove a code or change its meaning, because the codes are public.

use serde::Serialize;

use crate::domain::closed_set::closed_set;

/// The code of a diagnosis. No other codes exist.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum DiagnosisCode {
    Delivered,
    Slow,
    Redirect,
    Gone,
    Throttled,
    HeaderRejected,
    MessageRejected,
    NotFound,
    MethodNotAllowed,
    ServerError,
    UnexpectedStatus,
    UnusableUrl,
    NameNotResolved,
    BlockedAddress,
    ConnectionRefused,
    ConnectionLost,
    ConnectionFailed,
    LookupTimeout,
    ConnectTimeout,
    TlsTimeout,
    AnswerTimeout,
    UnfinishedAnswer,
    NotHttp,
    Http2Error,
    CertificateExpired,
    CertificateNotYetValid,
    CertificateOtherName,
    CertificateUntrusted,
    CertificateInvalid,
    NotTls,
    TlsFailed,
}

closed_set!(DiagnosisCode);
