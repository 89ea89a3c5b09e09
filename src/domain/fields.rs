//! Parses a JSON object field by field and collects every fault, so that the response can list all faults at once.
//!
//! serde stops at the first fault, but this parser continues.

use serde_json::{Map, Number, Value};

use super::fault::{Fault, FaultCode};

/// A JSON object to parse. Call a method for each field, then call `finish`.
#[derive(Debug)]
pub struct Fields {
    pointer: String,
    unread: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Fields {
    /// Starts to parse a value. The JSON pointer is its location in the body; "" is the whole body.
    pub fn of(value: Value, pointer: impl Into<String>) -> Result<Self, Fault> {
        let pointer = pointer.into();
        match value {
            Value::Object(fields) => Ok(Self { pointer, unread: fields, faults: Vec::new() }),
            _ => Err(Fault::new(pointer, FaultCode::InvalidType, "must be a JSON object")),
        }
    }

    /// Removes a field and returns it without parsing; `None` if the field is absent or null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.unread.remove(name).filter(|value| !value.is_null())
    }

    /// True if the object has the field, even with the value null.
    pub fn has(&self, name: &str) -> bool {
        self.unread.contains_key(name)
    }

    /// Removes a string field and returns its value. A value of another type is a fault.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => self.fault(name, FaultCode::InvalidType, "must be a string"),
        }
    }

    /// Removes a required string field and returns its value.
    pub fn required_text(&mut self, name: &str) -> Option<String> {
        if self.unread.get(name).is_none_or(Value::is_null) {
            self.unread.remove(name);
            return self.fault(name, FaultCode::Required, "is required");
        }
        self.text(name)
    }

    /// Removes a field that is true or false and returns its value. A value of another type is a fault.
    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(value) => Some(value),
            _ => self.fault(name, FaultCode::InvalidType, "must be true or false"),
        }
    }

    /// Removes a field with a whole number and returns the number. A number outside the range is a fault.
    pub fn integer(&mut self, name: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (*range.start(), *range.end());
        let message = format!("must be a whole number from {low} to {high}");
        match self.take(name)? {
            Value::Number(number) => match whole(&number).filter(|value| range.contains(value)) {
                Some(value) => Some(value),
                None => self.fault(name, FaultCode::InvalidValue, message),
            },
            _ => self.fault(name, FaultCode::InvalidType, message),
        }
    }

    /// Removes a list field and returns its value. A value of another type is a fault.
    pub fn list(&mut self, name: &str) -> Option<Vec<Value>> {
        match self.take(name)? {
            Value::Array(items) => Some(items),
            _ => self.fault(name, FaultCode::InvalidType, "must be a list"),
        }
    }

    /// Returns the parsed value of a field, or records the error as a fault.
    pub fn parsed<T, E: std::fmt::Display>(&mut self, name: &str, parsed: Result<T, E>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(error) => self.fault(name, FaultCode::InvalidValue, error.to_string()),
        }
    }

    /// Records a fault of the field with this name. The name of a nested value is a path with slashes.
    pub fn fault<T>(&mut self, name: &str, code: FaultCode, message: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(format!("{}/{name}", self.pointer), code, message));
        None
    }

    /// Records the faults of a nested value.
    pub fn faults(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults);
    }

    /// Returns all faults, including a fault for each field that no method has removed.
    pub fn finish(mut self) -> Vec<Fault> {
        self.faults.extend(unknown_fields(&self.pointer, self.unread.keys()));
        self.faults
    }
}

pub fn unknown_fields<'a>(pointer: &str, names: impl ExactSizeIterator<Item = &'a String>) -> Vec<Fault> {
    let places = names.map(|name| format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")));
    Fault::unknown(places, "is not a field of this object")
}

/// Reads a whole number in any notation: 1, 1.0 and 1e0 are the same number in JSON.
fn whole(number: &Number) -> Option<u64> {
    // Above 2^53, floats cannot represent every whole number.
    const LAST_EXACT: f64 = 9_007_199_254_740_991.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the float is whole and in bounds")]
    let of_float = |float: f64| (float.fract() == 0.0 && (0.0..=LAST_EXACT).contains(&float)).then_some(float as u64);
    number.as_u64().or_else(|| number.as_f64().and_then(of_float))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_every_fault_with_its_location() {
        let mut fields = Fields::of(json!({"a": 1, "c": true, "d/e": 0, "n": 11}), "/events/3").unwrap();
        assert_eq!(fields.required_text("a"), None);
        assert_eq!(fields.required_text("b"), None);
        assert_eq!(fields.boolean("c"), Some(true));
        assert_eq!(fields.integer("n", 1..=10), None);
        let faults: Vec<_> = fields.finish().into_iter().map(|fault| (fault.pointer, fault.code)).collect();
        assert_eq!(
            faults,
            [
                ("/events/3/a".into(), FaultCode::InvalidType),
                ("/events/3/b".into(), FaultCode::Required),
                ("/events/3/n".into(), FaultCode::InvalidValue),
                ("/events/3/d~1e".into(), FaultCode::UnknownField),
            ]
        );
    }
}
