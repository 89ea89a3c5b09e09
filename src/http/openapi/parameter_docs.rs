//! OpenAPI documentation of parameters that many routes share.

use utoipa::IntoParams;

/// The path parameter that names the agent.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents the parameter, which `AgentPath` reads")]
pub(crate) struct OfAgent {
    /// The platform's name for the agent.
    #[param(min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", example = "agent-1")]
    agent_id: String,
}

/// The path parameter that names the user.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents the parameter, which `user_browsers` reads")]
pub(crate) struct OfUser {
    /// The claim `sub` of the user's JWTs.
    #[param(min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", example = "dana")]
    user_id: String,
}

/// The tenant, for callers with a token for all tenants.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameter, which `Caller` reads")]
pub(crate) struct OfTenant {
    /// Allowed only with a token for all tenants.
    #[param(min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", example = "acme")]
    tenant_id: Option<String>,
}

/// The query parameters that select a page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters, which `Parameters` reads")]
pub(crate) struct OfPage {
    /// Maximum number of rows.
    #[param(minimum = 1, maximum = 250, default = 50, example = 50)]
    limit: Option<u16>,
    /// The cursor from the field `next_cursor` of the previous page.
    #[param(pattern = "^[A-Za-z0-9_-]{21}[AQgw]$", example = "AZMAAAAAcACAAAAAAAAAAA")]
    cursor: Option<String>,
}

/// The precondition of a change: the expected state of the config.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents the header, which `IfMatch` reads")]
pub(crate) struct OfState {
    /// The tag (`ETag`) of an earlier response. The change is rejected if the config has changed since then. The value `*`
    /// requires a config that is set; the tag `"unset"` requires a config that is not set.
    #[param(rename = "If-Match", example = "*")]
    if_match: Option<String>,
}

/// The key that makes a request safe to repeat.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents the header, which `events::idempotency_key` reads")]
pub(crate) struct OfRepetition {
    /// A request that repeats the key and the content returns the first result and has no other effect.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+( +[!-~]+)*$",
        example = "m-4711"
    )]
    idempotency_key: Option<String>,
}
