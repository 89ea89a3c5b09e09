//! Schemas of bodies, for the macro `request_body!`.

use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Object, RefOr};

use crate::http::request::fields::Field;

/// An object without properties.
pub(crate) fn object(docs: &[&str]) -> ObjectBuilder {
    ObjectBuilder::new().description(Some(text(docs)))
}

/// Forbids further fields.
pub(crate) fn closed(object: ObjectBuilder) -> ObjectBuilder {
    object.additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

/// Adds a field to an object.
pub(crate) fn property<T: Field>(
    object: ObjectBuilder,
    name: &str,
    docs: &[&str],
    default: Option<Value>,
) -> ObjectBuilder {
    let mut schema = T::schema();
    if !docs.is_empty() {
        describe(&mut schema, text(docs));
    }
    if let RefOr::T(Schema::Object(schema)) = &mut schema {
        schema.default = default;
    }
    let object = object.property(name, schema);
    if T::IS_REQUIRED { object.required(name) } else { object }
}

/// The lines of a documentation comment.
fn text(docs: &[&str]) -> String {
    docs.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

fn describe(schema: &mut RefOr<Schema>, text: String) {
    match schema {
        RefOr::Ref(reference) => reference.description = text,
        RefOr::T(Schema::Object(object)) => object.description = Some(text),
        RefOr::T(Schema::Array(array)) => array.description = Some(text),
        RefOr::T(Schema::OneOf(one_of)) => {
            if let Some(item) = one_of.items.first_mut() {
                describe(item, text);
            }
        }
        RefOr::T(_) => {}
    }
}

/// The schema of a value that may also be null.
pub(crate) fn nullable(schema: RefOr<Schema>) -> RefOr<Schema> {
    let or_null = |schema_type: SchemaType| match schema_type {
        SchemaType::Type(known) => SchemaType::from_iter([known, Type::Null]),
        other => other,
    };
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            object.schema_type = or_null(object.schema_type);
            object.into()
        }
        RefOr::T(Schema::Array(mut array)) => {
            array.schema_type = or_null(array.schema_type);
            RefOr::T(Schema::Array(array))
        }
        other => OneOfBuilder::new().item(other).item(Object::with_type(Type::Null)).into(),
    }
}

/// A string with a minimum and a maximum length.
pub(crate) fn string(length: std::ops::RangeInclusive<usize>, pattern: &str) -> RefOr<Schema> {
    let string = ObjectBuilder::new().schema_type(Type::String);
    string.min_length(Some(*length.start())).max_length(Some(*length.end())).pattern(Some(pattern)).into()
}
