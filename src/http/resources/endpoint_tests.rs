//! Tests an agent's endpoint: sends one test event at once and returns the full result.
//!
//! A test is not a delivery. Only the number of recent tests is stored, for the rate limit.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::channels::Target;
use crate::channels::webhook::{Endpoint, SigningSecret, configured_headers, redactor, test_endpoint};
use crate::domain::delivery::Delivery;
use crate::domain::endpoint::{Channel, WebhookEvent};
use crate::domain::event::{EventType, StoredEvent};
use crate::domain::fault::FaultCode;
use crate::domain::ids::{EndpointId, EventId};
use crate::domain::names::{AgentId, CustomerId, SessionId, TenantId};
use crate::domain::push_config::{Change, PushConfig, Rules};
use crate::domain::role::permissions::TestEndpoint;
use crate::domain::secret_text::SecretText;
use crate::http::auth::authorized::Authorized;
use crate::http::clock::now;
use crate::http::openapi::parameter_docs::{OfAgent, OfTenant};
use crate::http::openapi::refusals::{BreaksRulesOrLacksSecrets, DoesNotFit};
use crate::http::request::body::JsonBody;
use crate::http::request::fields::{At, read_and};
use crate::http::request::parameters::NoParameters;
use crate::http::request::path::AgentPath;
use crate::http::request::problem::{Problem, ProblemCode, refused};
use crate::http::request::request_body::request_body;
use crate::http::request::values::Required;
use crate::http::resources::endpoint_test_view::EndpointTestView;
use crate::http::resources::push_config_draft::PushConfigDraft;
use crate::http::resources::push_configs::new_signing_secret;
use crate::http::state::ApiState;
use crate::store::push_configs::StoredPushConfig;
use crate::store::webhooks::webhook_endpoint;
use crate::store::{endpoint_tests, push_configs};

/// The test message contains characters that receivers often handle wrongly.
const TEXT: &str =
    "This is a test message.\nIt isn't from a customer: \"quotes\", $signs and ünïcödé ✓ arrive as they are.";

request_body! {
    /// The test to run.
    #[example = json!({"event": "user_message"})]
    pub(crate) struct EndpointTestRequest {
        /// The event type. The config does not have to select it.
        event: Required<WebhookEvent>,
        /// A draft to test instead of the saved config. It must follow the rules for saving. A secret header without `value` uses
        /// the stored value. If the origin of the draft's URL differs from the saved URL's origin, a secret header needs a value,
        /// and a new secret signs the test.
        config: Option<PushConfigDraft>,
    }
}

/// Sends one test event at once and returns the result. The body contains `"test":true`. Uses the draft or the saved config,
/// even a disabled config. Allows 10 tests per agent and minute. Stores nothing, and a response with the status 410 does not
/// disable the config. Returns 404 if no config is saved and no draft was sent, and 409 if the saved config has no URL.
#[utoipa::path(
    post,
    path = "/v1/agents/{agent_id}/push-config/test",
    operation_id = "test_endpoint",
    tag = "Push configs",
    params(
        OfAgent,
        OfTenant,
    ),
    request_body = EndpointTestRequest,
    responses(
        (status = 200, description = "The test ran; `outcome` shows whether the event was sent", body = EndpointTestView),
        DoesNotFit,
        BreaksRulesOrLacksSecrets,
    ),
)]
pub(crate) async fn test(
    caller: Authorized<TestEndpoint>,
    State(state): State<ApiState>,
    AgentPath(agent): AgentPath,
    _: NoParameters,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let tenant = caller.own_tenant()?;
    let stored = push_configs::read(&state.db, &state.keyring, tenant, &agent).await?;
    let asked = asked(body, stored.as_ref().map(|stored| &stored.config), state.push_config_rules)?;
    let own_secret = (asked.new_origin && asked.config.signing).then(new_signing_secret).transpose()?;
    let now = now();
    let endpoint = endpoint(&state, tenant, stored.as_ref(), &asked.config, own_secret.as_ref(), now).await?;
    let _place = state.endpoint_tests.take(tenant).map_err(|reason| reason.problem("tests"))?;
    if let Some(wait) = endpoint_tests::count(&state.db, tenant, &agent).await? {
        let detail =
            format!("an agent's endpoint can be tested at most {} times a minute", endpoint_tests::MAX_PER_MINUTE);
        // Rounded up to whole seconds, because a client that retried earlier would be refused again.
        let wait = Duration::from_secs(wait.as_secs() + 1);
        return Err(Problem::new(ProblemCode::RateLimited).detail(detail).retry_after(wait));
    }
    let endpoint_id = stored.map_or(EndpointId::from_uuid(Uuid::nil()), |stored| stored.revision.endpoint_id);
    let delivery = delivery(asked.event, tenant, &agent, endpoint_id, now);
    let test = test_endpoint(&state.client, &endpoint, &delivery, now).await;
    tracing::info!(
        tenant.id = %tenant,
        agent.id = %agent,
        actor = caller.actor(),
        outcome = test.outcome.as_str(),
        diagnosis = test.diagnosis.code.as_str(),
        "tested an endpoint"
    );
    let view = EndpointTestView::new(&endpoint, &asked.config, own_secret.as_ref(), test);
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(view)).into_response())
}

/// The event to send, and a config that has a URL.
struct Asked {
    event: WebhookEvent,
    config: PushConfig,
    /// Whether the config is a draft whose origin differs from the saved config's origin.
    new_origin: bool,
}

fn asked(body: Value, stored: Option<&PushConfig>, rules: Rules) -> Result<Asked, Problem> {
    let (event, change) = read_and(body, "", |body: EndpointTestRequest, mut at| {
        let change = body.config.map(|draft| change(draft, stored, rules, at.name("config")));
        Some((body.event.0?, change))
    })
    .map_err(refused)?;
    let (config, new_origin) = match (change, stored) {
        (Some(change), _) => (change.config, change.new_origin),
        (None, Some(stored)) => (stored.clone(), false),
        (None, None) => return Err(Problem::new(ProblemCode::NotFound).detail("the agent has no push config")),
    };
    if config.url.is_none() {
        return Err(Problem::new(ProblemCode::Conflict).detail("the push config has no URL to send to"));
    }
    Ok(Asked { event, config, new_origin })
}

/// Validates a draft by the rules for saving. A test also needs a URL.
fn change(draft: PushConfigDraft, stored: Option<&PushConfig>, rules: Rules, mut at: At<'_>) -> Change {
    let change = draft.apply(stored, rules, &mut at);
    if change.config.url.is_none() && !at.is_faulty() {
        at.name("url").fault::<()>(FaultCode::Required, "is required for a test");
    }
    change
}

/// The endpoint to test. A draft for an agent without a config has no signing secret. If the draft's URL has another
/// origin, `own_secret` replaces the stored secrets, because otherwise the receiver could replay the signed message to the
/// saved URL.
async fn endpoint(
    state: &ApiState,
    tenant: &TenantId,
    stored: Option<&StoredPushConfig>,
    config: &PushConfig,
    own_secret: Option<&SecretText>,
    now: DateTime<Utc>,
) -> Result<Endpoint, Problem> {
    let unusable = |what| {
        tracing::error!(tenant.id = %tenant, what, "could not test a push config");
        Problem::new(ProblemCode::Internal)
    };
    let webhook = match stored.filter(|_| config.signing) {
        Some(stored) => webhook_endpoint(&state.db, &state.keyring, tenant, stored.revision.endpoint_id).await?,
        None => None,
    };
    let stored_secrets = || webhook.iter().flat_map(|webhook| &webhook.secrets);
    let live = stored_secrets().filter(|secret| secret.expires_at.is_none_or(|expires_at| now < expires_at));
    let signing: Vec<_> = match own_secret {
        Some(secret) => vec![secret],
        None => live.map(|stored| &stored.secret).collect(),
    };
    let secrets = signing.into_iter().map(|secret| SigningSecret::parse(secret.expose())).collect::<Result<_, _>>();
    let url = config.url.as_ref().ok_or_else(|| unusable("it has no URL"))?;
    Ok(Endpoint {
        target: Target::new(url.as_url().clone(), tenant.clone()),
        headers: configured_headers(&config.headers).ok_or_else(|| unusable("a header cannot be sent"))?,
        secrets: secrets.map_err(|_invalid| unusable("a signing secret is not valid"))?,
        timeout: config.timeout.unwrap_or(state.client.default_timeout()),
        redactor: redactor(&config.headers, stored_secrets().map(|stored| &stored.secret).chain(own_secret)),
    })
}

/// A delivery of a test event. Neither the delivery nor the event is in the database.
fn delivery(
    event: WebhookEvent,
    tenant: &TenantId,
    agent: &AgentId,
    endpoint_id: EndpointId,
    now: DateTime<Utc>,
) -> Delivery {
    let event_type = match event {
        WebhookEvent::NewSessionStarted => EventType::NewSessionStarted,
        WebhookEvent::AiAssistantMessage => EventType::AiAssistantMessage,
        WebhookEvent::UserMessage => EventType::UserMessage,
        WebhookEvent::TransferredToLiveAgent => EventType::TransferredToLiveAgent,
    };
    let id = EventId::from_uuid(Uuid::now_v7()).delivery(1);
    let event = StoredEvent {
        id: id.first_event(),
        tenant_id: tenant.clone(),
        event_type,
        agent_id: agent.clone(),
        session_id: SessionId::from_stored("test-session".to_owned()),
        customer_id: Some(CustomerId::from_stored("test-customer".to_owned())),
        occurred_at: now,
        text: event_type.is_message().then(|| TEXT.to_owned()),
        assignee_id: None,
        metadata: None,
    };
    Delivery {
        id,
        channel: Channel::Webhook,
        endpoint_id,
        endpoint_version: None,
        trace: None,
        event: Arc::new(event),
        expires_at: DateTime::<Utc>::MAX_UTC,
        claimed_at: now,
    }
}
