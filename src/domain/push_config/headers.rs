//! Parses the headers of a draft. Secrets that the draft does not contain are taken from the stored headers.

use serde_json::Value;

use super::MAX_HEADERS;
use super::header::{Header, HeaderName, HeaderNameError, HeaderValue, HeaderValueError, parse_value};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::fields::Fields;
use crate::domain::secret_text::SecretText;

/// The stored headers, and whether a draft that names a header without a value keeps the stored value.
pub(super) struct Stored<'a> {
    pub headers: &'a [Header],
    pub keeping: Keeping,
}

/// Whether a draft may omit the stored values to keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    Allowed,
    /// The draft's URL has a new origin. The editor may not know the secrets, so the editor must not be able to send them to that
    /// origin.
    RefusedForNewOrigin,
}

/// Parses all headers of a draft. The JSON pointers of the faults start with `/headers`.
pub(super) fn read(items: Vec<Value>, stored: &Stored<'_>) -> (Vec<Header>, Vec<Fault>) {
    let mut faults = Vec::new();
    if items.len() > MAX_HEADERS {
        faults.push(Fault::new("/headers", FaultCode::TooLong, format!("must be at most {MAX_HEADERS} headers")));
    }
    let mut names: Vec<HeaderName> = Vec::new();
    let mut headers = Vec::new();
    for (index, item) in items.into_iter().take(MAX_HEADERS).enumerate() {
        let pointer = format!("/headers/{index}");
        let mut fields = match Fields::of(item, pointer.as_str()) {
            Ok(fields) => fields,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        let name = name(&mut fields, &names);
        let value = value(&mut fields, name.as_ref(), stored);
        faults.extend(fields.finish());
        names.extend(name.clone());
        headers.extend(name.zip(value).map(|(name, value)| Header { name, value }));
    }
    (headers, faults)
}

fn name(fields: &mut Fields, earlier: &[HeaderName]) -> Option<HeaderName> {
    let name = match HeaderName::parse(fields.required_text("name")?) {
        Ok(name) => name,
        Err(error) => return fields.fault("name", name_fault(error), error.to_string()),
    };
    if earlier.contains(&name) {
        return fields.fault("name", FaultCode::Duplicate, "is already the name of an earlier header");
    }
    Some(name)
}

/// Parses the new value of a header. Parses the fields even if the name is faulty, to report all faults.
fn value(fields: &mut Fields, name: Option<&HeaderName>, stored: &Stored<'_>) -> Option<HeaderValue> {
    // `value_set` is read-only: responses contain it, and clients may send it back.
    let _: Option<Value> = fields.take("value_set");
    let secret = fields.boolean("secret");
    let given = given_value(fields);
    let name = name?;
    let before = stored.headers.iter().find(|header| header.name == *name);
    let secret =
        name.is_always_secret() || secret.unwrap_or_else(|| before.is_some_and(|header| header.value.is_secret()));
    let text = match given {
        Given::Faulty => return None,
        Given::Text(text) => text,
        Given::Nothing => kept_value(fields, before, secret, stored.keeping)?,
    };
    Some(if secret { HeaderValue::Secret(text) } else { HeaderValue::Plain(text) })
}

enum Given {
    Nothing,
    Faulty,
    Text(SecretText),
}

fn given_value(fields: &mut Fields) -> Given {
    let text = match fields.take("value") {
        None => return Given::Nothing,
        Some(Value::String(text)) => text,
        Some(_) => {
            fields.fault::<()>("value", FaultCode::InvalidType, "must be a string");
            return Given::Faulty;
        }
    };
    match parse_value(text) {
        Ok(text) => Given::Text(text),
        Err(error) => {
            fields.fault::<()>("value", value_fault(error), error.to_string());
            Given::Faulty
        }
    }
}

/// The stored value of a header that the draft contains without a value.
fn kept_value(fields: &mut Fields, before: Option<&Header>, secret: bool, keeping: Keeping) -> Option<SecretText> {
    let Some(before) = before else { return fields.fault("value", FaultCode::Required, "is required") };
    if !secret {
        let message = match before.value {
            HeaderValue::Plain(_) => "is required",
            HeaderValue::Secret(_) => "must be entered again for the header to become readable",
        };
        return fields.fault("value", FaultCode::Required, message);
    }
    match keeping {
        Keeping::Allowed => Some(before.value.text().clone()),
        Keeping::RefusedForNewOrigin => {
            let message = "must be entered again: the URL now has another scheme, host or port";
            fields.fault("value", FaultCode::SecretReentryRequired, message)
        }
    }
}

fn name_fault(error: HeaderNameError) -> FaultCode {
    match error {
        HeaderNameError::Empty | HeaderNameError::NotAToken => FaultCode::InvalidValue,
        HeaderNameError::TooLong => FaultCode::TooLong,
        HeaderNameError::Reserved | HeaderNameError::CloudMetadata => FaultCode::NotAllowed,
    }
}

fn value_fault(error: HeaderValueError) -> FaultCode {
    match error {
        HeaderValueError::TooLong => FaultCode::TooLong,
        HeaderValueError::Empty | HeaderValueError::InvalidCharacter | HeaderValueError::OuterWhiteSpace => {
            FaultCode::InvalidValue
        }
    }
}
