//! An agent's push config: reads, replaces, patches and removes it.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::channels::webhook::SigningSecret;
use crate::domain::names::{AgentId, TenantId};
use crate::domain::push_config::{Change, ChangeAction, PushConfig, Setting};
use crate::domain::role::Permission;
use crate::domain::role::permissions::{EditConfigs, ReadConfigs};
use crate::domain::secret_text::SecretText;
use crate::http::auth::authorized::Authorized;
use crate::http::auth::caller::Caller;
use crate::http::openapi::parameter_docs::{OfAgent, OfState, OfTenant};
use crate::http::openapi::refusals::{BreaksRulesOrLacksSecrets, ChangedMeanwhile, DoesNotFit};
use crate::http::request::body::{JsonBody, MergePatchBody};
use crate::http::request::parameters::NoParameters;
use crate::http::request::path::AgentPath;
use crate::http::request::preconditions::IfMatch;
use crate::http::request::problem::{Problem, ProblemCode, refused};
use crate::http::resources::push_config_answers::{PushConfigDocument, WarningDocument, tagged};
use crate::http::resources::push_config_draft::{Draft, PushConfigDraft, apply};
use crate::http::state::ApiState;
use crate::store::push_configs::Revision;
use crate::store::{SealedError, push_config_history, push_configs, signing_secrets};

/// Returns an agent's push config. Shows whether a secret is set, but not its value.
#[utoipa::path(
    get,
    path = "/v1/agents/{agent_id}/push-config",
    operation_id = "get_push_config",
    tag = "Push configs",
    params(OfAgent, OfTenant),
    responses(
        (status = 200, description = "The config and its ETag; if unset, only its four main fields",
            body = PushConfigDocument,
            headers(("ETag" = String, description = "The tag of the returned state."))),
    ),
)]
pub(crate) async fn read(
    caller: Authorized<ReadConfigs>,
    State(state): State<ApiState>,
    AgentPath(agent): AgentPath,
    _: NoParameters,
) -> Result<Response, Problem> {
    let stored = push_configs::read(&state.db, &state.keyring, caller.own_tenant()?, &agent).await?;
    let revision = stored.as_ref().map(|stored| stored.revision);
    let mut document = stored.map(|stored| PushConfigDocument::from(&stored.config)).unwrap_or_default();
    if !caller.may(Permission::EditConfigs) {
        document = document.without_query();
    }
    Ok(tagged(revision, document))
}

/// Replaces the push config. A secret header without a value keeps the stored value, unless the URL's origin changes. A change of
/// the origin also creates a new signing secret, shown only in this response, and the old secrets stop signing at once.
#[utoipa::path(
    put,
    path = "/v1/agents/{agent_id}/push-config",
    operation_id = "replace_push_config",
    tag = "Push configs",
    params(OfAgent, OfTenant, OfState),
    request_body = PushConfigDraft,
    responses(
        (status = 200, description = "Saved. Contains the signing secret if a new one was created",
            body = PushConfigDocument,
            headers(("ETag" = String, description = "The tag of the returned state."))),
        DoesNotFit,
        ChangedMeanwhile,
        BreaksRulesOrLacksSecrets,
    ),
)]
pub(crate) async fn replace(
    caller: Authorized<EditConfigs>,
    State(state): State<ApiState>,
    AgentPath(agent): AgentPath,
    _: NoParameters,
    if_match: IfMatch,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    change(&state, &caller, &agent, &if_match, Draft::Replacement(body)).await
}

/// Applies a JSON Merge Patch (RFC 7396) to the push config in the form that GET returns. Lists are replaced as a whole.
#[utoipa::path(
    patch,
    path = "/v1/agents/{agent_id}/push-config",
    operation_id = "patch_push_config",
    tag = "Push configs",
    params(OfAgent, OfTenant, OfState),
    request_body(
        content((PushConfigDraft = "application/merge-patch+json"), (PushConfigDraft = "application/json")),
    ),
    responses(
        (status = 200, description = "Saved. Contains the signing secret if a new one was created",
            body = PushConfigDocument,
            headers(("ETag" = String, description = "The tag of the returned state."))),
        DoesNotFit,
        ChangedMeanwhile,
        BreaksRulesOrLacksSecrets,
    ),
)]
pub(crate) async fn patch(
    caller: Authorized<EditConfigs>,
    State(state): State<ApiState>,
    AgentPath(agent): AgentPath,
    _: NoParameters,
    if_match: IfMatch,
    MergePatchBody(patch): MergePatchBody,
) -> Result<Response, Problem> {
    change(&state, &caller, &agent, &if_match, Draft::MergePatch(patch)).await
}

/// Removes the push config and its secrets. Idempotent.
#[utoipa::path(
    delete,
    path = "/v1/agents/{agent_id}/push-config",
    operation_id = "delete_push_config",
    tag = "Push configs",
    params(OfAgent, OfTenant, OfState),
    responses(
        (status = 204, description = "The config was removed, or was not set"),
        ChangedMeanwhile,
    ),
)]
pub(crate) async fn delete(
    caller: Authorized<EditConfigs>,
    State(state): State<ApiState>,
    AgentPath(agent): AgentPath,
    _: NoParameters,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let tenant = caller.own_tenant()?;
    let revision = match if_match {
        IfMatch::Absent => None,
        IfMatch::Anything | IfMatch::Tags(_) => {
            let revision = push_configs::revision(&state.db, tenant, &agent).await?;
            if_match.check(revision)?;
            revision
        }
    };
    let mut tx = state.db.begin().await?;
    let is_deleted = match (&if_match, revision) {
        (IfMatch::Absent, _) => push_configs::delete(&mut tx, tenant, &agent).await?,
        (_, None) => false,
        (_, Some(revision)) if push_configs::delete_revision(&mut tx, tenant, &agent, revision).await? => true,
        (_, Some(_)) => return Err(if_match.overtaken()),
    };
    if is_deleted {
        push_config_history::record(&mut tx, tenant, &agent, ChangeAction::Deleted, caller.actor(), &[]).await?;
    }
    tx.commit().await?;
    tracing::info!(tenant.id = %tenant, agent.id = %agent, actor = caller.actor(), "removed a push config");
    Ok(StatusCode::NO_CONTENT)
}

async fn change(
    state: &ApiState,
    caller: &Caller,
    agent: &AgentId,
    if_match: &IfMatch,
    draft: Draft,
) -> Result<Response, Problem> {
    let tenant = caller.own_tenant()?;
    let stored = push_configs::read(&state.db, &state.keyring, tenant, agent).await?;
    if_match.check(stored.as_ref().map(|stored| stored.revision))?;
    let change =
        apply(stored.as_ref().map(|stored| &stored.config), draft, state.push_config_rules).map_err(refused)?;
    let written = match stored {
        None => create(state, tenant, agent, &change, caller.actor()).await?,
        Some(stored) => update(state, tenant, agent, stored.revision, &change, caller.actor()).await?,
    };
    let (revision, signing_secret) = written.ok_or_else(|| if_match.overtaken())?;
    log_change(tenant, agent, caller, revision, &change);
    let warnings = warnings(state, tenant, &change.config).await;
    let document = PushConfigDocument::from(&change.config);
    let document = document.with_warnings(warnings).with_signing_secret(signing_secret.as_ref());
    Ok(tagged(Some(revision), document))
}

/// Stores an agent's first config and a signing secret. Returns `None` if another request created a config first.
async fn create(
    state: &ApiState,
    tenant: &TenantId,
    agent: &AgentId,
    change: &Change,
    actor: &str,
) -> Result<Option<(Revision, Option<SecretText>)>, Problem> {
    let secret = new_signing_secret()?;
    let mut tx = state.db.begin().await?;
    let Some(revision) = push_configs::create(&mut tx, &state.keyring, tenant, agent, &change.config).await? else {
        return Ok(None);
    };
    signing_secrets::create(&mut tx, &state.keyring, tenant, revision.endpoint_id, &secret).await?;
    push_config_history::record(&mut tx, tenant, agent, ChangeAction::Created, actor, &change.fields).await?;
    tx.commit().await?;
    Ok(Some((revision, Some(secret))))
}

/// Replaces the config that has the revision `replaced`; `None` if another request changed it first. The history omits
/// changes without effect. If the URL's origin changes, a new signing secret is created, so that the new receiver cannot
/// replay messages to the old one.
async fn update(
    state: &ApiState,
    tenant: &TenantId,
    agent: &AgentId,
    replaced: Revision,
    change: &Change,
    actor: &str,
) -> Result<Option<(Revision, Option<SecretText>)>, Problem> {
    let secret = change.new_origin.then(new_signing_secret).transpose()?;
    let mut tx = state.db.begin().await?;
    let written = push_configs::update(&mut tx, &state.keyring, tenant, agent, replaced, &change.config).await?;
    let Some(revision) = written else { return Ok(None) };
    if let Some(secret) = &secret {
        signing_secrets::retire(&mut tx, tenant, revision.endpoint_id, Duration::ZERO).await?;
        signing_secrets::create(&mut tx, &state.keyring, tenant, revision.endpoint_id, secret).await?;
    }
    if !change.fields.is_empty() {
        push_config_history::record(&mut tx, tenant, agent, ChangeAction::Changed, actor, &change.fields).await?;
    }
    tx.commit().await?;
    Ok(Some((revision, secret)))
}

pub(crate) fn new_signing_secret() -> Result<SecretText, Problem> {
    let secret = SigningSecret::generate().map_err(|error| {
        tracing::error!(%error, "could not create a signing secret");
        Problem::new(ProblemCode::Internal)
    })?;
    Ok(SecretText::new(secret.reveal().as_str()))
}

/// Warnings about headers that look like credentials, and about the addresses that the URL's host has now. A wrong
/// address is not a fault, because the operator of the host might set it up later.
async fn warnings(state: &ApiState, tenant: &TenantId, config: &PushConfig) -> Vec<WarningDocument> {
    let of_url = match &config.url {
        Some(url) => state.client.vet(url.as_url(), tenant).await.err(),
        None => None,
    };
    of_url.map(WarningDocument::from).into_iter().chain(WarningDocument::of_headers(&config.headers)).collect()
}

fn log_change(tenant: &TenantId, agent: &AgentId, caller: &Caller, revision: Revision, change: &Change) {
    let settings: Vec<&str> = change.settings.iter().copied().map(Setting::as_str).collect();
    tracing::info!(
        tenant.id = %tenant,
        agent.id = %agent,
        endpoint.id = %revision.endpoint_id,
        endpoint.version = revision.version,
        actor = caller.actor(),
        settings = settings.join(","),
        "changed a push config"
    );
}

impl From<SealedError> for Problem {
    fn from(error: SealedError) -> Self {
        match error {
            SealedError::Database(error) => error.into(),
            SealedError::Unopened { .. } => {
                tracing::error!(%error, "could not decrypt a push config with the current keyring");
                Self::new(ProblemCode::Internal)
            }
        }
    }
}
