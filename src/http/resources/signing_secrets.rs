//! The signing secrets of an agent's webhook: lists and rotates them.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::domain::names::{AgentId, TenantId};
use crate::domain::push_config::ChangeAction;
use crate::domain::role::permissions::{EditConfigs, ReadConfigs};
use crate::domain::secret_text::SecretText;
use crate::http::auth::authorized::Authorized;
use crate::http::openapi::parameter_docs::{OfAgent, OfTenant};
use crate::http::openapi::refusals::DoesNotFit;
use crate::http::request::body::JsonBody;
use crate::http::request::fields::read;
use crate::http::request::parameters::NoParameters;
use crate::http::request::path::AgentPath;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::request::request_body::request_body;
use crate::http::request::values::Whole;
use crate::http::resources::push_config_answers::{RotatedSecretDocument, SigningSecretsDocument, tagged};
use crate::http::resources::push_configs::new_signing_secret;
use crate::http::state::ApiState;
use crate::store::push_configs::Revision;
use crate::store::signing_secrets::SigningSecretInfo;
use crate::store::{push_config_history, push_configs, signing_secrets};

/// Maximum time that an old secret keeps signing after a rotation: a week.
const MAX_GRACE_SECONDS: u64 = 7 * 24 * 3600;
/// Default time that an old secret keeps signing after a rotation: a day.
const DEFAULT_GRACE_SECONDS: u64 = 24 * 3600;
/// Maximum number of secrets that sign at the same time. The maximum is low, because each secret adds a signature to every
/// message.
const MAX_LIVE_SECRETS: usize = 5;

request_body! {
    /// The body of a request to rotate a signing secret.
    #[example = json!({"grace_seconds": 86_400})]
    pub(crate) struct Rotation {
        /// How many seconds the old secrets keep signing.
        #[default = DEFAULT_GRACE_SECONDS]
        grace_seconds: Option<Whole<u64, 0, MAX_GRACE_SECONDS>>,
    }
}

/// Lists the signing secrets without their values.
#[utoipa::path(
    get,
    path = "/v1/agents/{agent_id}/push-config/signing-secret",
    operation_id = "list_signing_secrets",
    tag = "Push configs",
    params(OfAgent, OfTenant),
    responses(
        (status = 200, description = "The secrets that sign now", body = SigningSecretsDocument),
    ),
)]
pub(crate) async fn list(
    caller: Authorized<ReadConfigs>,
    State(state): State<ApiState>,
    AgentPath(agent): AgentPath,
    _: NoParameters,
) -> Result<Json<SigningSecretsDocument>, Problem> {
    let secrets = signing_secrets::list(&state.db, caller.own_tenant()?, &agent).await?.ok_or_else(unset)?;
    Ok(Json(SigningSecretsDocument { secrets: secrets.into_iter().map(Into::into).collect() }))
}

/// Creates a new signing secret, shown only in this response. The old secrets keep signing for the time `grace_seconds`.
#[utoipa::path(
    post,
    path = "/v1/agents/{agent_id}/push-config/signing-secret/rotate",
    operation_id = "rotate_signing_secret",
    tag = "Push configs",
    params(OfAgent, OfTenant),
    request_body = Rotation,
    responses(
        (status = 200, description = "Created", body = RotatedSecretDocument,
            headers(("ETag" = String, description = "The tag of the config's new state."))),
        DoesNotFit,
    ),
)]
pub(crate) async fn rotate(
    caller: Authorized<EditConfigs>,
    State(state): State<ApiState>,
    AgentPath(agent): AgentPath,
    _: NoParameters,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let tenant = caller.own_tenant()?;
    let Rotation { grace_seconds } = read(body, "").map_err(Problem::invalid)?;
    let grace = Duration::from_secs(grace_seconds.map_or(DEFAULT_GRACE_SECONDS, |Whole(seconds)| seconds));
    let secret = new_signing_secret()?;
    let (revision, info) = store(&state, tenant, &agent, grace, &secret, caller.actor()).await?;
    tracing::info!(
        tenant.id = %tenant,
        agent.id = %agent,
        actor = caller.actor(),
        secret.id = %info.id,
        grace_seconds = grace.as_secs(),
        "rotated a signing secret"
    );
    let document = RotatedSecretDocument { signing_secret: secret.expose().to_owned(), info: info.into() };
    Ok(tagged(Some(revision), document))
}

/// Retires the existing secrets and stores the new secret in one transaction.
async fn store(
    state: &ApiState,
    tenant: &TenantId,
    agent: &AgentId,
    grace: Duration,
    secret: &SecretText,
    actor: &str,
) -> Result<(Revision, SigningSecretInfo), Problem> {
    let mut tx = state.db.begin().await?;
    let revision = push_configs::renew(&mut tx, tenant, agent).await?.ok_or_else(unset)?;
    let signing_along = signing_secrets::retire(&mut tx, tenant, revision.endpoint_id, grace).await?;
    if signing_along >= MAX_LIVE_SECRETS {
        let detail = format!(
            "{signing_along} secrets would sign at the same time: wait until one expires, or rotate with grace_seconds 0, which \
             ends them all"
        );
        return Err(Problem::new(ProblemCode::Conflict).detail(detail));
    }
    let info = signing_secrets::create(&mut tx, &state.keyring, tenant, revision.endpoint_id, secret).await?;
    let fields = ["signing_secret".to_owned()];
    push_config_history::record(&mut tx, tenant, agent, ChangeAction::SigningSecretRotated, actor, &fields).await?;
    tx.commit().await?;
    Ok((revision, info))
}

fn unset() -> Problem {
    Problem::new(ProblemCode::NotFound).detail("the agent has no push config")
}
