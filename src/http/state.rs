//! State that all handlers share.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use super::Settings;
use super::auth_throttle::AuthThrottle;
use super::endpoint_tests::MAX_CONCURRENT_TESTS;
use super::health::Readiness;
use super::push_renewals::MAX_CONCURRENT_RENEWALS;
use super::shares::Shares;
use super::tenant_rates::TenantRates;
use super::token_cache::TokenCache;
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
    pub users: Option<Arc<UserAuthenticator>>,
    pub tracer: Tracer,
    pub metrics: Metrics,
    pub settings: Settings,
    pub stage: Stage,
    pub(super) tokens: TokenCache,
    pub(super) auth_throttle: AuthThrottle,
    pub(super) tenant_rates: TenantRates,
    pub(super) readiness: Readiness,
    /// Limits concurrent tests of endpoints and browsers. The key is the tenant.
    pub(super) endpoint_tests: Shares<TenantId>,
    /// Limits concurrent renewals of subscriptions. The key is the client address.
    pub(super) renewals: Shares<IpAddr>,
    pub(super) workspace: Workspace,
    pub(super) portal: Portal,
    /// The OpenAPI document as it is served.
    pub(super) document: Bytes,
}

impl ApiState {
    /// Starts the shared background tasks. They end when the stage `dependencies.stage` ends.
    pub fn new(dependencies: Dependencies) -> Self {
        let workspace = Workspace::start(&dependencies);
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
            auth_throttle: AuthThrottle::new(settings.wrong_credentials),
            tenant_rates: TenantRates::new(settings.tenant_events_per_second, settings.batch_events),
            db,
            ingest,
            keyring,
            client,
            push_config_rules,
            push,
            users,
            tracer,
            metrics,
            document: super::openapi_json(settings.public_url.as_ref()).into(),
            settings,
            stage,
            tokens: TokenCache::new(),
            readiness: Readiness::new(),
            endpoint_tests: Shares::new(MAX_CONCURRENT_TESTS),
            renewals: Shares::new(MAX_CONCURRENT_RENEWALS),
            workspace,
            portal,
        }))
    }
}
