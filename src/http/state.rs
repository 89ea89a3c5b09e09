//! State that all handlers share.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRef;

use super::auth::caller::Authenticator;
use super::auth::tenant_rates::TenantRates;
use super::auth::throttle::AuthThrottle;
use super::auth::token_cache::TokenCache;
use super::request::body::BodyTimeout;
use super::server::health::Readiness;
use super::server::shares::Shares;
use super::settings::{MAX_CONCURRENT_RENEWALS, MAX_CONCURRENT_TESTS, Settings};
use super::workspace::Workspace;
use crate::channels::HttpClient;
use crate::channels::browser_push::PushSender;
use crate::domain::names::TenantId;
use crate::domain::push_config::Rules;
use crate::ingest::Ingest;
use crate::portal::Portal;
use crate::secrets::Keyring;
use crate::store::Db;
use crate::supervision::Stage;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Tracer;
use crate::users::UserAuthenticator;

/// Dependencies of the API, from the composition root.
#[derive(Debug, Clone)]
pub struct Dependencies {
    pub db: Db,
    pub ingest: Ingest,
    pub keyring: Arc<Keyring>,
    /// Validates the hosts of push config URLs, and tests endpoints.
    pub client: HttpClient,
    pub push_config_rules: Rules,
    /// Sends notifications to browsers; `None` if browser push is not configured.
    pub push: Option<PushSender>,
    /// Verifies the tokens of portal users; `None` if the deployment has no portal users.
    pub users: Option<Arc<UserAuthenticator>>,
    pub tracer: Tracer,
    pub metrics: Metrics,
    pub settings: Settings,
    /// Shows whether the process is stopping or a task has failed. Also runs tasks that outlive a request.
    pub stage: Stage,
}

/// An `Arc` makes cloning cheap, because axum clones the state for each layer of each request.
#[derive(Debug, Clone)]
pub struct ApiState(Arc<Shared>);

impl Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The data that all clones of an [`ApiState`] share.
#[derive(Debug)]
pub struct Shared {
    pub db: Db,
    pub ingest: Ingest,
    pub keyring: Arc<Keyring>,
    pub client: HttpClient,
    pub push_config_rules: Rules,
    pub push: Option<PushSender>,
    pub tracer: Tracer,
    pub metrics: Metrics,
    pub settings: Settings,
    pub stage: Stage,
    pub(crate) auth: Arc<Authenticator>,
    pub(crate) tenant_rates: TenantRates,
    pub(crate) readiness: Arc<Readiness>,
    /// Limits concurrent tests of endpoints and browsers. The key is the tenant.
    pub(crate) endpoint_tests: Shares<TenantId>,
    /// Limits concurrent renewals of subscriptions. The key is the client address.
    pub(crate) renewals: Shares<IpAddr>,
    pub(crate) workspace: Workspace,
    pub(crate) portal: Portal,
}

impl ApiState {
    /// Starts the shared background tasks. They end when the stage `dependencies.stage` ends.
    pub fn new(dependencies: Dependencies) -> Self {
        let workspace = Workspace::start(
            &dependencies.db,
            &dependencies.metrics,
            &dependencies.settings.workspace,
            &dependencies.stage,
        );
        let portal = Portal::new(dependencies.settings.sign_in_choices.as_deref());
        let Dependencies {
            db,
            ingest,
            keyring,
            client,
            push_config_rules,
            push,
            users,
            tracer,
            metrics,
            settings,
            stage,
        } = dependencies;
        Self(Arc::new(Shared {
            auth: Arc::new(Authenticator {
                db: db.clone(),
                tokens: TokenCache::new(),
                throttle: AuthThrottle::new(settings.wrong_credentials),
                users,
                tasks: stage.tasks.clone(),
            }),
            readiness: Arc::new(Readiness::new(db.clone(), stage.clone())),
            tenant_rates: TenantRates::new(settings.tenant_events_per_second, settings.batch_events),
            db,
            ingest,
            keyring,
            client,
            push_config_rules,
            push,
            tracer,
            metrics,
            settings,
            stage,
            endpoint_tests: Shares::new(MAX_CONCURRENT_TESTS),
            renewals: Shares::new(MAX_CONCURRENT_RENEWALS),
            workspace,
            portal,
        }))
    }
}

impl FromRef<ApiState> for Arc<Authenticator> {
    fn from_ref(state: &ApiState) -> Self {
        Self::clone(&state.auth)
    }
}

impl FromRef<ApiState> for Arc<Readiness> {
    fn from_ref(state: &ApiState) -> Self {
        Self::clone(&state.readiness)
    }
}

impl FromRef<ApiState> for BodyTimeout {
    fn from_ref(state: &ApiState) -> Self {
        Self(state.settings.body_timeout)
    }
}
