//! What is wrong with a value that somebody sent, and where.

use serde::Serialize;

/// The kinds of faults; a closed list that clients may match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The field must be there.
    Required,
    /// The field has another JSON type.
    InvalidType,
    /// The value is none of the listed ones, or not of the stated form.
    InvalidValue,
    /// The value is longer or larger than the stated bound.
    TooLong,
    /// No field has this name here.
    UnknownField,
    /// The field or value is not allowed here or together with another one.
    NotAllowed,
    /// Two entries have the same name.
    Duplicate,
    /// The URL now has another origin: the kept secret must be entered again.
    SecretReentryRequired,
}

impl FaultCode {
    pub const ALL: [Self; 8] = [
        Self::Required,
        Self::InvalidType,
        Self::InvalidValue,
        Self::TooLong,
        Self::UnknownField,
        Self::NotAllowed,
        Self::Duplicate,
        Self::SecretReentryRequired,
    ];

    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::InvalidType => "invalid_type",
            Self::InvalidValue => "invalid_value",
            Self::TooLong => "too_long",
            Self::UnknownField => "unknown_field",
            Self::NotAllowed => "not_allowed",
            Self::Duplicate => "duplicate",
            Self::SecretReentryRequired => "secret_reentry_required",
        }
    }
}

/// One fault of a body or of parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: a JSON Pointer (RFC 6901) into the body, or the name of the parameter.
    pub pointer: String,
    pub code: FaultCode,
    /// What, in words; never contains a secret that was sent.
    pub message: String,
}

impl Fault {
    pub fn new(pointer: impl Into<String>, code: FaultCode, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, message: message.into() }
    }
}
