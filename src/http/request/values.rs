//! The types of fields that many bodies use.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::{Number, Value};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::endpoint::WebhookEvent;
use crate::domain::event::EventType;
use crate::domain::fault::FaultCode;
use crate::domain::names::{AgentId, CustomerId, MAX_NAME_BYTES, SessionId, TenantId, UserId};
use crate::domain::push_subscription::{Label, MAX_LABEL_CHARS};
use crate::domain::role::Role;
use crate::domain::timestamp;
use crate::domain::token::{MAX_TOKEN_NAME_CHARS, TokenName};
use crate::http::openapi::objects::{nullable, string};
use crate::http::request::fields::{At, Field};

/// The pattern of a text without control characters.
pub(crate) const NO_CONTROL_CHARACTERS: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// A required field of a body whose rules are checked even if the field is faulty; `None` if it is.
pub(crate) struct Required<T>(pub(crate) Option<T>);

/// Fields that a faulty value leaves without a value: the type, whether a body must have the field, the functions that wrap a
/// value and that treat an absent field, and the schema.
macro_rules! soft_fields {
    ($($type:ident, $is_required:literal, $wrap:expr, $absent:expr, $schema:expr;)+) => {
        $(impl<T: Field> Field for $type<T> {
            const IS_REQUIRED: bool = $is_required;

            fn read(value: Value, at: At<'_>) -> Option<Self> {
                Some($wrap(T::read(value, at)))
            }

            fn absent(at: At<'_>) -> Option<Self> {
                Some($wrap($absent(at)))
            }

            fn schema() -> RefOr<Schema> {
                $schema(T::schema())
            }

            fn named_schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                T::named_schemas(schemas);
            }

            fn order(pointer: &str, positions: &mut Vec<usize>) {
                T::order(pointer, positions);
            }
        })+
    };
}

soft_fields! {
    Option, false, std::convert::identity, |_at| None, nullable;
    Required, true, Required, T::absent, std::convert::identity;
}

/// Any value.
impl Field for Value {
    fn read(value: Value, _: At<'_>) -> Option<Self> {
        Some(value)
    }

    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(SchemaType::AnyValue).into()
    }
}

impl Field for f64 {
    fn read(value: Value, mut at: At<'_>) -> Option<Self> {
        value.as_f64().or_else(|| at.fault(FaultCode::InvalidType, "must be a number or null"))
    }

    fn schema() -> RefOr<Schema> {
        <Self as PartialSchema>::schema()
    }
}

impl Field for bool {
    fn read(value: Value, mut at: At<'_>) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(value),
            _ => at.fault(FaultCode::InvalidType, "must be true or false"),
        }
    }

    fn schema() -> RefOr<Schema> {
        <Self as PartialSchema>::schema()
    }
}

/// A whole number in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole<T, const LOW: u64, const HIGH: u64>(pub(crate) T);

impl<T: TryFrom<u64> + PartialSchema, const LOW: u64, const HIGH: u64> Field for Whole<T, LOW, HIGH> {
    fn read(value: Value, mut at: At<'_>) -> Option<Self> {
        let (code, number) = match value {
            Value::Number(number) => (FaultCode::InvalidValue, whole(&number)),
            _ => (FaultCode::InvalidType, None),
        };
        let number = number.filter(|number| (LOW..=HIGH).contains(number)).and_then(|number| T::try_from(number).ok());
        number.map(Self).or_else(|| at.fault(code, format!("must be a whole number from {LOW} to {HIGH}")))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the bounds are small")]
    fn schema() -> RefOr<Schema> {
        let mut schema = <T as PartialSchema>::schema();
        if let RefOr::T(Schema::Object(number)) = &mut schema {
            number.minimum = Some((LOW as usize).into());
            number.maximum = Some((HIGH as usize).into());
        }
        schema
    }
}

/// Reads a whole number in any notation: 1, 1.0 and 1e0 are the same number in JSON.
fn whole(number: &Number) -> Option<u64> {
    // Above 2^53, floats cannot represent every whole number.
    const LAST_EXACT: f64 = 9_007_199_254_740_991.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the float is whole and in bounds")]
    let of_float = |float: f64| (float.fract() == 0.0 && (0.0..=LAST_EXACT).contains(&float)).then_some(float as u64);
    number.as_u64().or_else(|| number.as_f64().and_then(of_float))
}

/// Why a text is not a valid value: the code and the message of the fault.
pub(crate) struct Wrong(pub(crate) FaultCode, pub(crate) String);

impl<E: fmt::Display> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self(FaultCode::InvalidValue, error.to_string())
    }
}

/// Parsed text whose error determines the code of the fault.
pub(crate) fn coded<T, E: fmt::Display + Copy>(parsed: Result<T, E>, code: fn(E) -> FaultCode) -> Result<T, Wrong> {
    parsed.map_err(|error| Wrong(code(error), error.to_string()))
}

/// A value that is written as a string.
pub(crate) trait Text: Sized {
    fn from_text(text: String) -> Result<Self, Wrong>;

    fn text_schema() -> RefOr<Schema>;

    fn named_schemas(_schemas: &mut Vec<(String, RefOr<Schema>)>) {}
}

impl<T: Text> Field for T {
    fn read(value: Value, mut at: At<'_>) -> Option<Self> {
        let Value::String(text) = value else { return at.fault(FaultCode::InvalidType, "must be a string") };
        T::from_text(text).map_err(|Wrong(code, message)| at.fault::<()>(code, message)).ok()
    }

    fn schema() -> RefOr<Schema> {
        T::text_schema()
    }

    fn named_schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        <T as Text>::named_schemas(schemas);
    }
}

/// Each type of a text with its schema and the function that parses it.
macro_rules! texts {
    ($($type:ty, $schema:expr => $parse:expr;)+) => {
        $(impl $crate::http::request::values::Text for $type {
            fn from_text(text: String) -> Result<Self, $crate::http::request::values::Wrong> {
                ($parse)(text).map_err(Into::into)
            }

            fn text_schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $schema
            }
        })+
    };
}
pub(crate) use texts;

/// Enums whose names are a closed list.
macro_rules! closed_enums {
    ($($type:ty),+) => {
        $(impl Text for $type {
            fn from_text(text: String) -> Result<Self, Wrong> {
                let names = || format!("must be one of {}", Self::ALL.map(Self::as_str).join(", "));
                Self::from_name(&text).ok_or_else(|| names().into())
            }

            fn text_schema() -> RefOr<Schema> {
                Ref::from_schema_name(Self::name()).into()
            }

            fn named_schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                schemas.push((Self::name().into_owned(), <Self as PartialSchema>::schema()));
            }
        })+
    };
}

fn date_time() -> RefOr<Schema> {
    ObjectBuilder::new().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).schema_type(Type::String).into()
}

fn name() -> RefOr<Schema> {
    string(1..=MAX_NAME_BYTES, NO_CONTROL_CHARACTERS)
}

texts! {
    AgentId, name() => AgentId::parse;
    CustomerId, name() => CustomerId::parse;
    Label, string(1..=MAX_LABEL_CHARS, NO_CONTROL_CHARACTERS) => Label::parse;
    SessionId, name() => SessionId::parse;
    TenantId, name() => TenantId::parse;
    TokenName, string(1..=MAX_TOKEN_NAME_CHARS, NO_CONTROL_CHARACTERS) => TokenName::parse;
    UserId, name() => UserId::parse;
    DateTime<Utc>, date_time() => |text: String| timestamp::parse(&text);
}

closed_enums!(EventType, Role, WebhookEvent);
