//! The headers of a draft. Secrets that the draft does not contain are taken from the stored headers.

use serde_json::Value;
use utoipa::openapi::schema::{ArrayBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};

use crate::domain::fault::FaultCode;
use crate::domain::push_config::{
    Header, HeaderName, HeaderNameError, HeaderValue, HeaderValueError, Keeping, MAX_HEADER_NAME_BYTES,
    MAX_HEADER_VALUE_BYTES, MAX_HEADERS, kept_value, parse_header_value,
};
use crate::domain::secret_text::SecretText;
use crate::http::openapi::objects::string;
use crate::http::request::fields::{At, Field, first_part};
use crate::http::request::request_body::request_body;
use crate::http::request::values::{coded, texts};

request_body! {
    /// A header as clients send it.
    pub(crate) struct HeaderDraft {
        /// The header's name: a token (RFC 9110) that is unique if case is ignored. Some names are reserved for the service.
        name: HeaderName,
        /// Always true for the headers `authorization` and `cookie`. Default: the stored setting, else false.
        secret: Option<bool>,
        /// The header's value: visible ASCII, spaces and tabs. If the value is absent, a secret header keeps the stored value.
        value: Option<EnteredValue>,
        /// Ignored.
        #[name = "value_set"]
        _value_set: Option<Value>,
    }
}

impl HeaderDraft {
    fn complete(self, stored: &[Header], keeping: Keeping, mut at: At<'_>) -> Option<Header> {
        let before = stored.iter().find(|header| header.name == self.name);
        let is_kept_secret = || before.is_some_and(|header| header.value.is_secret());
        let secret = self.name.is_always_secret() || self.secret.unwrap_or_else(is_kept_secret);
        let mut at = at.name("value");
        let text = match self.value {
            Some(EnteredValue(text)) => text,
            None if at.is_faulty() => return None,
            None => {
                kept_value(before, secret, keeping).map_err(|(code, message)| at.fault::<()>(code, message)).ok()?
            }
        };
        let value = if secret { HeaderValue::Secret(text) } else { HeaderValue::Plain(text) };
        Some(Header { name: self.name, value })
    }
}

/// All headers of a draft; `None` for a header without a valid name.
pub(crate) struct Headers(Vec<Option<HeaderDraft>>);

impl Headers {
    /// Adds the stored values. A header without a value and without a stored value that it may keep is a fault.
    pub(super) fn complete(self, stored: &[Header], keeping: Keeping, mut at: At<'_>) -> Vec<Header> {
        let mut names: Vec<HeaderName> = Vec::new();
        let mut headers = Vec::new();
        for (index, draft) in self.0.into_iter().enumerate() {
            let Some(draft) = draft else { continue };
            let mut at = at.index(index);
            if names.contains(&draft.name) {
                at.name("name").fault::<()>(FaultCode::Duplicate, "is already the name of an earlier header");
                continue;
            }
            names.push(draft.name.clone());
            headers.extend(draft.complete(stored, keeping, at));
        }
        headers
    }
}

impl Field for Headers {
    fn read(value: Value, mut at: At<'_>) -> Option<Self> {
        let items = at.list(value)?;
        if items.len() > MAX_HEADERS {
            at.fault::<()>(FaultCode::TooLong, format!("must be at most {MAX_HEADERS} headers"));
        }
        let items = items.into_iter().take(MAX_HEADERS).enumerate();
        Some(Self(items.map(|(index, item)| HeaderDraft::read(item, at.index(index))).collect()))
    }

    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new().items(Ref::from_schema_name("HeaderDraft")).max_items(Some(MAX_HEADERS)).into()
    }

    fn named_schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        HeaderDraft::named_schemas(schemas);
    }

    fn order(pointer: &str, positions: &mut Vec<usize>) {
        let Some((index, rest)) = first_part(pointer) else { return };
        positions.extend(index.parse::<usize>());
        HeaderDraft::order(rest, positions);
    }
}

/// The new value of a header.
pub(crate) struct EnteredValue(SecretText);

texts! {
    EnteredValue, string(1..=MAX_HEADER_VALUE_BYTES, r"^[\t -~]+$") =>
        |text| coded(parse_header_value(text).map(EnteredValue), value_fault);
    HeaderName, string(1..=MAX_HEADER_NAME_BYTES, r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") =>
        |text: String| coded(HeaderName::parse(text), name_fault);
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
