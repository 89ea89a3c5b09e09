//! The macro that defines a body as one struct, which reads itself and documents itself.

/// Defines a body, or an object in a body, as a struct: each field once, with its type and its documentation.
///
/// A faulty optional field is recorded and has the value `None`. A faulty required field is recorded and prevents the struct;
/// the type `Required` allows the struct nevertheless, so that rules about several fields can be checked. A body has no debug
/// output, because it may contain secrets.
macro_rules! request_body {
    (
        $(#[doc = $doc:literal])+
        $(#[example = $example:expr])?
        $(#[other_fields = $others:ident])?
        $visibility:vis struct $body:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $(#[name = $name:literal])?
                $(#[default = $default:expr])?
                $field_visibility:vis $field:ident: $type:ty,
            )+
        }
    ) => {
        $(#[doc = $doc])+
        $visibility struct $body {
            $($(#[doc = $field_doc])* $field_visibility $field: $type,)+
        }

        const _: () = {
            use utoipa::openapi::RefOr;
            use utoipa::openapi::schema::Schema;
            use $crate::http::openapi::objects;
            use $crate::http::request::fields::{At, Field, first_part};

            impl Field for $body {
                fn read(value: serde_json::Value, mut at: At<'_>) -> Option<Self> {
                    let mut fields = at.object(value)?;
                    $(let $field = at.field(&mut fields, request_body!(@name $field $($name)?));)+
                    request_body!(@others at fields $($others)?);
                    Some(Self { $($field: $field?,)+ })
                }

                fn schema() -> RefOr<Schema> {
                    utoipa::openapi::Ref::from_schema_name(stringify!($body)).into()
                }

                fn named_schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                    schemas.push((stringify!($body).to_owned(), <Self as utoipa::PartialSchema>::schema()));
                    <Self as utoipa::ToSchema>::schemas(schemas);
                }

                fn order(pointer: &str, positions: &mut Vec<usize>) {
                    let names = [$(request_body!(@name $field $($name)?)),+];
                    let orders = [$(<$type as Field>::order),+];
                    let Some((first, rest)) = first_part(pointer) else { return };
                    let position = names.iter().position(|name| *name == first);
                    positions.push(position.unwrap_or(names.len()));
                    if let Some(order) = position.and_then(|position| orders.get(position)) {
                        order(rest, positions);
                    }
                }
            }

            impl utoipa::PartialSchema for $body {
                fn schema() -> RefOr<Schema> {
                    let object = objects::object(&[$($doc),+]);
                    $(
                        let default: Option<serde_json::Value> = None$(.or(Some($default.into())))?;
                        let name = request_body!(@name $field $($name)?);
                        let object = objects::property::<$type>(object, name, &[$($field_doc),*], default);
                    )+
                    let object = request_body!(@closed object $($others)?);
                    #[allow(unused_mut, reason = "not every body has an example")]
                    let mut object = object.build();
                    $(object.example = Some($example);)?
                    object.into()
                }
            }

            impl utoipa::ToSchema for $body {
                fn name() -> std::borrow::Cow<'static, str> {
                    stringify!($body).into()
                }

                fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                    $(<$type as Field>::named_schemas(schemas);)+
                }
            }
        };
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
    (@others $at:ident $fields:ident) => { $at.unknown($fields.keys()) };
    (@others $at:ident $fields:ident ignored) => { drop($fields) };
    (@closed $object:ident) => { $crate::http::openapi::objects::closed($object) };
    (@closed $object:ident ignored) => { $object };
}
pub(crate) use request_body;
