//! OpenAPI schemas of the domain's ids and closed enums, generated from the lists that the code matches on.

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

/// The pattern of ids in responses, with lower-case hexadecimal digits. Requests may also use upper case.
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

public_id!(EventId, "EventId", "The id of an accepted event; also the `webhook-id` of its messages.");
public_id!(DeliveryId, "DeliveryId", "The id of a delivery, which sends one event to one endpoint.");
public_id!(EndpointId, "EndpointId", "The id of an endpoint, which receives events.");
public_id!(PushSubscriptionId, "PushSubscriptionId", "The id of a browser of a user.");
public_id!(SigningSecretId, "SigningSecretId", "The id of a signing secret; not the secret itself.");
public_id!(TokenId, "TokenId", "The id of an API token; not the token itself.");
public_id!(OperationId, "OperationId", "The id of an operation.");

closed_enum!(EventType, "EventType", "The type of an event: what happened in a session.");
closed_enum!(WebhookEvent, "WebhookEvent", "The name of an event in push configs and webhook messages.");
closed_enum!(Channel, "Channel", "How a delivery is sent.");
closed_enum!(Outcome, "Outcome", "The final outcome of a delivery.");
closed_enum!(Role, "Role", "The role of a caller, which determines the permissions.");
closed_enum!(DisabledReason, "DisabledReason", "The reason why the service disabled a push config.");
closed_enum!(ChangeAction, "ChangeAction", "The kind of a change of a push config.");
closed_enum!(DiagnosisCode, "DiagnosisCode", "The finding of an endpoint test.");
closed_enum!(OperationKind, "OperationKind", "The kind of an operation.");
closed_enum!(OperationState, "OperationState", "The state of an operation; the last three are final.");
closed_enum!(FaultCode, "FaultCode", "The kinds of faults.");

impl PartialSchema for Fault {
    fn schema() -> RefOr<Schema> {
        let place = "A JSON Pointer (RFC 6901) into the body, or the name of a parameter or header.";
        let text = |description: &str| {
            ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).description(Some(description.to_owned()))
        };
        ObjectBuilder::new()
            .description(Some("One fault of a request."))
            .property("pointer", text(place))
            .required("pointer")
            .property("code", Ref::from_schema_name(FaultCode::name()))
            .required("code")
            .property("message", text("A description of the fault."))
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
