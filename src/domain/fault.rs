//! Faults in the values of a request, each with its location.

use serde::Serialize;

use super::closed_set::closed_set;

/// The code of a fault. Clients may match on this closed list.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FaultCode {
    /// The field is required.
    Required,
    /// The field has the wrong JSON type.
    InvalidType,
    /// The value is not one of the allowed values, or does not have the format that the message states.
    InvalidValue,
    /// The value exceeds the limit that the message states.
    TooLong,
    /// The object has no field with this name.
    UnknownField,
    /// The field or value is not allowed here, or not together with another field.
    NotAllowed,
    /// Two entries have the same name.
    Duplicate,
    /// The URL has a new origin, so the stored secret must be entered again.
    SecretReentryRequired,
}

closed_set!(FaultCode);

/// One fault in a request body or its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The location of the fault: a JSON Pointer (RFC 6901) into the body, or the name of a parameter.
    pub pointer: String,
    pub code: FaultCode,
    /// What is wrong. Never contains a secret from the request.
    pub message: String,
}

/// Maximum number of unknown names that are reported one by one.
const MAX_UNKNOWN: usize = 20;

impl Fault {
    /// Builds a fault for each unknown name, with its location. Names beyond the maximum are only counted, because the
    /// response could otherwise be many times larger than the request.
    pub fn unknown(mut places: impl ExactSizeIterator<Item = String>, message: &str) -> Vec<Self> {
        let mut faults: Vec<_> = places
            .by_ref()
            .take(MAX_UNKNOWN)
            .map(|pointer| Self::new(pointer, FaultCode::UnknownField, message))
            .collect();
        if let Some(last) = faults.last_mut().filter(|_| places.len() > 0) {
            last.message = format!("{message}, nor are {} others", places.len());
        }
        faults
    }

    pub fn new(pointer: impl Into<String>, code: FaultCode, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_the_first_unknown_names_and_counts_the_others() {
        let told = |count: usize| Fault::unknown((0..count).map(|name| format!("/{name}")), "is no field");
        assert_eq!(told(0), []);
        let few = told(20);
        assert!(few.len() == 20 && few.iter().all(|fault| fault.message == "is no field"), "{few:?}");
        let many = told(60_000);
        assert_eq!((many.len(), many[18].message.as_str()), (20, "is no field"));
        assert_eq!(
            (many[19].pointer.as_str(), many[19].message.as_str()),
            ("/19", "is no field, nor are 59980 others")
        );
    }
}
