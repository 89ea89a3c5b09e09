//! Extracts the name or id of a resource from a path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::domain::fault::{Fault, FaultCode};
use crate::domain::names::AgentId;
use crate::http::request::problem::{Problem, ProblemCode};

/// The path parameter of a route with a single parameter. Returns 404 if the parameter is not valid UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_no_text| Problem::new(ProblemCode::NotFound))
    }
}

impl PathName {
    /// Parses the name as an id. Returns 404 if the name is not an id of the requested type.
    pub(crate) fn id<T: std::str::FromStr>(&self) -> Result<T, Problem> {
        self.0.parse().map_err(|_not_an_id| Problem::new(ProblemCode::NotFound))
    }
}

/// The agent in a path. An invalid name is a fault, not a 404, because the client might be configuring a new agent.
#[derive(Debug)]
pub(crate) struct AgentPath(pub(crate) AgentId);

impl<S: Send + Sync> FromRequestParts<S> for AgentPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let PathName(id) = PathName::from_request_parts(parts, state).await?;
        AgentId::parse(id)
            .map(Self)
            .map_err(|error| Problem::invalid(vec![Fault::new("agent_id", FaultCode::InvalidValue, error.to_string())]))
    }
}
