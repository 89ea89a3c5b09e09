//! Error responses in the OpenAPI document: the problems that a route may return, each with its codes and an example.
//!
//! Errors common to all routes are derived from the route's access rule and body type. A handler lists only the errors that
//! are specific to it, in `responses(...)`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::IntoResponses;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{Components, Header, Ref, RefOr, Response, ResponseBuilder};

use crate::domain::fault::{Fault, FaultCode};
use crate::http::auth::access::Access;
use crate::http::request::problem::{PROBLEM_JSON, Problem, ProblemCode, RETRY_SOON};

/// Generates a documentation type for each refusal, and the list of all refusals. The codes in a line share a status.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $($code:ident),+;)+) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;

            impl $name {
                const REFUSAL: Refusal = Refusal { name: stringify!($name), codes: &[$(ProblemCode::$code),+] };
            }

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    BTreeMap::from([Self::REFUSAL.entry()])
                }
            }
        )+

        const ALL: &[Refusal] = &[$($name::REFUSAL),+];
    };
}

refusals! {
    /// Returned by every route with a body.
    NotJson: InvalidJson;
    /// Returned by every route that needs a credential.
    NoCredential: Unauthorized;
    /// Returned by every route that is not open to all roles.
    NotAllowed: Forbidden, TenantRequired;
    /// Returned by every route whose path has parameters.
    Missing: NotFound;
    /// Returned by the routes of browser push.
    NoBrowserPush: BrowserPushNotConfigured;
    MissingOrNoBrowserPush: NotFound, BrowserPushNotConfigured;
    /// Returned by every route with a body.
    TooSlow: RequestTimeout;
    DoesNotFit: Conflict;
    /// Returned by the replay of one delivery.
    DoesNotFitOrOtherRequest: Conflict, IdempotencyConflict;
    OtherBody: IdempotencyConflict;
    ChangedMeanwhile: PreconditionFailed;
    /// Returned by every route with a body.
    TooLarge: PayloadTooLarge;
    /// Returned by every route with a body.
    NotDeclaredAsJson: UnsupportedMediaType;
    /// Returned by every route that needs a credential, because these routes reject unknown parameters.
    BreaksRules: Invalid;
    /// Returned by the routes that set a push config.
    BreaksRulesOrLacksSecrets: Invalid, SecretReentryRequired;
    /// Returned by every route that needs a credential.
    TooMany: RateLimited;
    /// Returned by every route.
    HeadTooLarge: HeadersTooLarge;
    /// Returned by every route.
    Failed: Internal;
    /// Returned by every route.
    NotNow: Unavailable, Overloaded;
}

/// Codes that share a status, and the name of their response in the document.
struct Refusal {
    name: &'static str,
    codes: &'static [ProblemCode],
}

impl Refusal {
    fn status(&self) -> String {
        self.codes.first().map_or_else(String::new, |code| code.status().as_str().to_owned())
    }

    /// The status, and a reference to the response in the document.
    fn entry(&self) -> (String, RefOr<Response>) {
        (self.status(), Ref::from_response_name(self.name).into())
    }

    fn response(&self) -> Response {
        let words = self.codes.iter().map(|code| format!("`{}`: {}.", code.as_str(), code.title()));
        let examples = self.codes.iter().map(|code| {
            let named = ExampleBuilder::new().value(Some(example(*code))).build();
            (code.as_str().to_owned(), RefOr::T(named))
        });
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemDocument")));
        let content = content.examples_from_iter(examples).build();
        let response = ResponseBuilder::new().description(words.collect::<Vec<_>>().join(" "));
        let response = response.content(PROBLEM_JSON, content).build();
        match self.codes {
            [ProblemCode::Unauthorized, ..] => with_header(response, "WWW-Authenticate", challenge()),
            [ProblemCode::RequestTimeout | ProblemCode::RateLimited | ProblemCode::Unavailable, ..] => {
                with_header(response, "Retry-After", retry_after())
            }
            _ => response,
        }
    }
}

/// An example of a problem with this code.
fn example(code: ProblemCode) -> Value {
    let breaks_rules = Fault::new("/text", FaultCode::Required, "is required");
    let lacks_secret = Fault::new("/headers/0/value", FaultCode::SecretReentryRequired, "must be given again");
    let faults = [(ProblemCode::Invalid, breaks_rules), (ProblemCode::SecretReentryRequired, lacks_secret)];
    let faults = faults.into_iter().filter(|(of, _)| *of == code).map(|(_, fault)| fault).collect();
    let problem = Problem::new(code).faults(faults);
    // A problem has only strings and numbers, so serialization cannot fail.
    serde_json::to_value(problem.written(Some("6f1c1e2a9d2f4d0f8a8b0c8e3f5b7a10"))).unwrap_or_default()
}

/// Adds the error responses to which the routes refer.
pub(crate) fn define(components: &mut Components) {
    for refusal in ALL {
        components.responses.insert(refusal.name.to_owned(), named(refusal.response()).into());
    }
}

/// Adds the common responses to a route, except those whose status the handler documents.
pub(crate) fn add_shared(operation: &mut Operation, access: Access) {
    let is_for_strangers = access == Access::Anyone;
    let is_for_all_roles = is_for_strangers || matches!(access, Access::AnyRole | Access::BySecret);
    let has_body = operation.request_body.is_some();
    let names_a_thing = operation
        .parameters
        .iter()
        .flatten()
        .any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Path));
    let shared = [
        (has_body, NotJson::REFUSAL),
        (!is_for_strangers, NoCredential::REFUSAL),
        (!is_for_all_roles, NotAllowed::REFUSAL),
        (names_a_thing, Missing::REFUSAL),
        (has_body, TooSlow::REFUSAL),
        (has_body, TooLarge::REFUSAL),
        (has_body, NotDeclaredAsJson::REFUSAL),
        (!is_for_strangers, BreaksRules::REFUSAL),
        (!is_for_strangers, TooMany::REFUSAL),
        (true, HeadTooLarge::REFUSAL),
        (true, Failed::REFUSAL),
        (true, NotNow::REFUSAL),
    ];
    let responses = &mut operation.responses.responses;
    for (_, refusal) in shared.into_iter().filter(|(applies, _)| *applies) {
        let (status, response) = refusal.entry();
        responses.entry(status).or_insert(response);
    }
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            *response = named(std::mem::take(response));
        }
    }
}

/// Adds the header `X-Request-Id`, which every response has.
fn named(response: Response) -> Response {
    let id = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(128));
    let id = required(id.build(), "The id of this request; include it in support requests.", json!("6f1c1e2a9d2f4d0f"));
    with_header(response, "X-Request-Id", id)
}

fn retry_after() -> Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
    required(seconds, "Seconds after which to retry.", json!(RETRY_SOON.as_secs()))
}

fn challenge() -> Header {
    required(Object::with_type(Type::String), "How to authenticate.", json!("Bearer"))
}

/// Sets the field `required` as an extension, because the builder has no method for it. Extensions are serialized like fields.
fn required(schema: Object, description: &str, example: Value) -> Header {
    let required: Extensions = [("required", json!(true))].into_iter().collect();
    let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description)).example(Some(example));
    header.extensions(Some(required)).build()
}

fn with_header(mut response: Response, name: &str, header: Header) -> Response {
    response.headers.insert(name.to_owned(), header.into());
    response
}
