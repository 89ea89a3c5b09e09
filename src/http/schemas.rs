//! OpenAPI schemas of the domain's ids, and of its closed enums, made from the same lists that the code matches on.

use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use crate::channels::webhook::DiagnosisCode;
use crate::domain::delivery::Outcome;
use crate::domain::endpoint::{Channel, WebhookEvent};
use crate::domain::event::EventType;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::ids::{DeliveryId, EndpointId, EventId, OperationId, PushSubscriptionId, SigningSecretId, TokenId};
use crate::domain::operation::{OperationKind, OperationState};
use crate::domain::push_config::{ChangeAction, DisabledReason};
use crate::domain::role::Role;

macro_rules! closed_enum {
    ($type:ty, $name:literal, $description:literal) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::String))
                    .description(Some($description))
                    .enum_values(Some(Self::ALL.map(Self::as_str)))
                    .into()
            }
        }

        impl ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
        }
    };
}

/// The pattern of what the API writes, which is narrower than what it reads: digits in lower case.
macro_rules! public_id {
    ($type:ty, $name:literal, $description:literal) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let example = <$type>::from_uuid(Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0001));
                ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::String))
                    .description(Some($description))
                    .pattern(Some(format!("^{}_[0-9a-f]{{32}}$", <$type>::PREFIX)))
                    .examples([example.to_string()])
                    .into()
            }
        }

        impl ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
        }
    };
}

public_id!(EventId, "EventId", "One accepted event; also the `webhook-id` of the messages about it.");
public_id!(DeliveryId, "DeliveryId", "One event for one endpoint.");
public_id!(EndpointId, "EndpointId", "Where someone hears of events.");
public_id!(PushSubscriptionId, "PushSubscriptionId", "One browser of a person.");
public_id!(SigningSecretId, "SigningSecretId", "One signing secret; not the secret itself.");
public_id!(TokenId, "TokenId", "One API token; not the token itself.");
public_id!(OperationId, "OperationId", "One operation.");

closed_enum!(EventType, "EventType", "What happened in a session.");
closed_enum!(WebhookEvent, "WebhookEvent", "An event as a webhook names and selects it.");
closed_enum!(Channel, "Channel", "The way a delivery takes.");
closed_enum!(Outcome, "Outcome", "What became of a delivery; final.");
closed_enum!(Role, "Role", "What a caller may do.");
closed_enum!(DisabledReason, "DisabledReason", "Why the service itself disabled a push config.");
closed_enum!(ChangeAction, "ChangeAction", "What was done to a push config.");
closed_enum!(DiagnosisCode, "DiagnosisCode", "What a test event has shown of an endpoint.");
closed_enum!(OperationKind, "OperationKind", "What an operation does.");
closed_enum!(OperationState, "OperationState", "Where an operation is; the last three are final.");
closed_enum!(FaultCode, "FaultCode", "The kinds of faults.");

impl PartialSchema for Fault {
    fn schema() -> RefOr<Schema> {
        let place = "Where: a JSON Pointer (RFC 6901) into the body, or the name of the parameter.";
        let text = |description: &str| {
            ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).description(Some(description.to_owned()))
        };
        ObjectBuilder::new()
            .description(Some("One fault of a body or of parameters."))
            .property("pointer", text(place))
            .required("pointer")
            .property("code", Ref::from_schema_name(FaultCode::name()))
            .required("code")
            .property("message", text("What, in words."))
            .required("message")
            .into()
    }
}

impl ToSchema for Fault {
    fn name() -> std::borrow::Cow<'static, str> {
        "Fault".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((FaultCode::name().into_owned(), FaultCode::schema()));
    }
}
