//! Reads a JSON body field by field and collects every fault, so that the response can list all faults at once.
//!
//! The macro `request_body!` (see `request_body.rs`) defines a body as one struct. serde stops at the first
//! fault. The crate deserr continues, but it builds no value if a field is faulty, so no rule about several fields could be
//! checked together with the other faults.

use std::fmt;

use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::domain::fault::{Fault, FaultCode};

/// The type of a body or of a field of a body.
pub(crate) trait Field: Sized {
    /// Whether a body must have the field.
    const IS_REQUIRED: bool = true;

    /// Reads a value that is not null. Records each fault, and returns `None` if the value cannot be used at all.
    fn read(value: Value, at: At<'_>) -> Option<Self>;

    /// The value of an absent field.
    fn absent(mut at: At<'_>) -> Option<Self> {
        at.fault(FaultCode::Required, "is required")
    }

    /// The schema: a reference if the schema has a name.
    fn schema() -> RefOr<Schema>;

    /// Adds the named schemas that the schema refers to.
    fn named_schemas(_schemas: &mut Vec<(String, RefOr<Schema>)>) {}

    /// Appends the positions of the pointer's parts in the order of declaration.
    fn order(_pointer: &str, _positions: &mut Vec<usize>) {}
}

/// Where a value is in the body: a JSON Pointer (RFC 6901) that is written only if there is a fault.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Start(&'a str),
    Name(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(pointer) => f.write_str(pointer),
            Self::Name(parent, name) => write!(f, "{parent}/{}", name.replace('~', "~0").replace('/', "~1")),
            Self::Index(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// The location of the value that is read, and the faults that were found so far.
#[derive(Debug)]
pub(crate) struct At<'a> {
    place: Place<'a>,
    faults: &'a mut Vec<Fault>,
}

impl At<'_> {
    /// The location of a field of this object.
    pub(crate) fn name<'b>(&'b mut self, name: &'b str) -> At<'b> {
        At { place: Place::Name(&self.place, name), faults: self.faults }
    }

    /// The location of an item of this list.
    pub(crate) fn index(&mut self, index: usize) -> At<'_> {
        At { place: Place::Index(&self.place, index), faults: self.faults }
    }

    /// Records a fault of the value.
    pub(crate) fn fault<T>(&mut self, code: FaultCode, message: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(self.place.to_string(), code, message));
        None
    }

    /// Records that the value is required, unless the value already has a fault.
    pub(crate) fn require(&mut self, is_present: bool, message: &str) {
        if !is_present && !self.is_faulty() {
            self.fault::<()>(FaultCode::Required, message);
        }
    }

    /// True if a fault was found in the value.
    pub(crate) fn is_faulty(&self) -> bool {
        let pointer = self.place.to_string();
        let in_value = |rest: &str| rest.is_empty() || rest.starts_with('/');
        self.faults.iter().any(|fault| fault.pointer.strip_prefix(&pointer).is_some_and(in_value))
    }

    /// The fields of an object. Another value is a fault.
    pub(crate) fn object(&mut self, value: Value) -> Option<Map<String, Value>> {
        match value {
            Value::Object(fields) => Some(fields),
            _ => self.fault(FaultCode::InvalidType, "must be a JSON object"),
        }
    }

    /// The items of a list. Another value is a fault.
    pub(crate) fn list(&mut self, value: Value) -> Option<Vec<Value>> {
        match value {
            Value::Array(items) => Some(items),
            _ => self.fault(FaultCode::InvalidType, "must be a list"),
        }
    }

    /// Removes a field and reads it. Null means that the field is absent.
    pub(crate) fn field<T: Field>(&mut self, fields: &mut Map<String, Value>, name: &str) -> Option<T> {
        match fields.remove(name) {
            None | Some(Value::Null) => T::absent(self.name(name)),
            Some(value) => T::read(value, self.name(name)),
        }
    }

    /// Records a fault for each field that was not read.
    pub(crate) fn unknown<'b>(&mut self, names: impl ExactSizeIterator<Item = &'b String>) {
        self.faults.extend(unknown_fields(self.place, names));
    }
}

fn unknown_fields<'b>(place: Place<'_>, names: impl ExactSizeIterator<Item = &'b String>) -> Vec<Fault> {
    let places = names.map(|name| Place::Name(&place, name).to_string());
    Fault::unknown(places, "is not a field of this object")
}

/// The faults of a body that has these unknown fields.
pub(crate) fn unknown_in_body<'b>(names: impl ExactSizeIterator<Item = &'b String>) -> Vec<Fault> {
    unknown_fields(Place::Start(""), names)
}

/// Reads the body at a JSON pointer; "" is the whole body.
pub(crate) fn read<B: Field>(value: Value, pointer: &str) -> Result<B, Vec<Fault>> {
    read_and(value, pointer, |body, _at| Some(body))
}

/// Reads a body and applies the rules about several of its fields. Returns all faults in the order of declaration.
pub(crate) fn read_and<B: Field, T>(
    value: Value,
    pointer: &str,
    rules: impl FnOnce(B, At<'_>) -> Option<T>,
) -> Result<T, Vec<Fault>> {
    let mut faults = Vec::new();
    let read = B::read(value, At { place: Place::Start(pointer), faults: &mut faults });
    let read = read.and_then(|body| rules(body, At { place: Place::Start(pointer), faults: &mut faults }));
    read.filter(|_| faults.is_empty()).ok_or_else(|| {
        faults.sort_by_cached_key(|fault| {
            let mut positions = Vec::new();
            B::order(fault.pointer.strip_prefix(pointer).unwrap_or_default(), &mut positions);
            positions
        });
        faults
    })
}

/// Splits the first part off a JSON pointer.
pub(crate) fn first_part(pointer: &str) -> Option<(&str, &str)> {
    let rest = pointer.strip_prefix('/')?;
    Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::request::request_body::request_body;
    use crate::http::request::values::Whole;

    request_body! {
        /// An object.
        struct Inner {
            b: bool,
        }
    }

    request_body! {
        /// A body.
        struct Outer {
            a: Option<bool>,
            b: bool,
            c: Option<bool>,
            n: Option<Whole<u32, 1, 10>>,
            inner: Option<Inner>,
        }
    }

    fn faults(body: Value) -> Vec<(String, FaultCode)> {
        let faults = read::<Outer>(body, "/events/3").err().unwrap();
        faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
    }

    #[test]
    fn reports_every_fault_with_its_location_in_the_order_of_declaration() {
        assert_eq!(
            faults(json!({"d/e": 0, "inner": {"~": 1}, "a": 1, "c": true, "n": 11})),
            [
                ("/events/3/a".into(), FaultCode::InvalidType),
                ("/events/3/b".into(), FaultCode::Required),
                ("/events/3/n".into(), FaultCode::InvalidValue),
                ("/events/3/inner/b".into(), FaultCode::Required),
                ("/events/3/inner/~0".into(), FaultCode::UnknownField),
                ("/events/3/d~1e".into(), FaultCode::UnknownField),
            ]
        );
        assert_eq!(faults(json!([])), [("/events/3".into(), FaultCode::InvalidType)]);
    }

    #[test]
    fn null_means_absent_and_a_whole_number_has_any_notation() {
        assert_eq!(faults(json!({"b": null})), [("/events/3/b".into(), FaultCode::Required)]);
        for number in ["1", "1.0", "1e0"] {
            let body = format!("{{\"a\": null, \"b\": true, \"inner\": {{\"b\": false}}, \"n\": {number}}}");
            let Outer { a, b, c, n, inner } = read(serde_json::from_str(&body).unwrap(), "").ok().unwrap();
            assert_eq!((a, b, c, n, inner.map(|inner| inner.b)), (None, true, None, Some(Whole(1)), Some(false)));
        }
    }
}
