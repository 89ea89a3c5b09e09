//! OpenAPI documentation of parameters that many routes share. The types of parameters determine their schemas.

use serde_json::json;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Required};

use crate::domain::event::MAX_IDEMPOTENCY_KEY_BYTES;
use crate::domain::names::{AgentId, TenantId, UserId};
use crate::domain::page::{DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS};
use crate::http::openapi::objects::{nullable, string};
use crate::http::request::values::Text as _;

/// Defines sets of parameters in one place of the request, each with its name, schema, example and description.
macro_rules! parameters {
    ($($(#[doc = $doc:literal])+ $set:ident in $place:ident {
        $($name:literal: $schema:expr, $example:literal, $description:literal;)+
    })+) => {
        $(
            $(#[doc = $doc])+
            pub(crate) struct $set;

            impl IntoParams for $set {
                fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                    let place = ParameterIn::$place;
                    let is_required = if place == ParameterIn::Path { Required::True } else { Required::False };
                    let parameter = ParameterBuilder::new().parameter_in(place).required(is_required).build();
                    let of = |name: &str, schema: RefOr<Schema>| {
                        ParameterBuilder::from(parameter.clone()).name(name).schema(Some(schema))
                    };
                    vec![$(
                        of($name, $schema).description(Some($description)).example(Some(json!($example))).build()
                    ),+]
                }
            }
        )+
    };
}

parameters! {
    /// The path parameter that names the agent.
    OfAgent in Path {
        "agent_id": AgentId::text_schema(), "agent-1", "The platform's name for the agent.";
    }
    /// The path parameter that names the user.
    OfUser in Path {
        "user_id": UserId::text_schema(), "dana", "The claim `sub` of the user's JWTs.";
    }
    /// The tenant, for callers with a token for all tenants.
    OfTenant in Query {
        "tenant_id": TenantId::text_schema(), "acme", "Allowed only with a token for all tenants.";
    }
    /// The query parameters that select a page of a list.
    OfPage in Query {
        "limit": rows(), 50, "Maximum number of rows.";
        "cursor": pattern("^[A-Za-z0-9_-]{21}[AQgw]$"), "AZMAAAAAcACAAAAAAAAAAA",
            "The cursor from the field `next_cursor` of the previous page.";
    }
    /// The precondition of a change: the expected state of the config.
    OfState in Header {
        "If-Match": nullable(ObjectBuilder::new().schema_type(Type::String).into()), "*",
            "The tag (`ETag`) of an earlier response. The change is rejected if the config has changed since then. \
             The value `*`\nrequires a config that is set; the tag `\"unset\"` requires a config that is not set.";
    }
    /// The key that makes a request safe to repeat.
    OfRepetition in Header {
        "Idempotency-Key": nullable(string(1..=MAX_IDEMPOTENCY_KEY_BYTES, "^[!-~]+( +[!-~]+)*$")), "m-4711",
            "A request that repeats the key and the content returns the first result and has no other effect.";
    }
}

fn pattern(pattern: &str) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
}

fn rows() -> RefOr<Schema> {
    let rows = ObjectBuilder::new().schema_type(Type::Integer).default(Some(json!(DEFAULT_PAGE_ROWS)));
    let rows = rows.format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)));
    rows.minimum(Some(1)).maximum(Some(usize::from(MAX_PAGE_ROWS))).into()
}
