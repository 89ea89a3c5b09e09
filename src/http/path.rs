//! The part of a path that names a thing.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::problem::{Problem, ProblemCode};

/// The one parameter of the route's path. What is no text names nothing: 404.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_no_text| Problem::new(ProblemCode::NotFound))
    }
}

impl PathName {
    /// The name as an id; another kind of id, or none at all, names nothing.
    pub fn id<T: std::str::FromStr>(&self) -> Result<T, Problem> {
        self.0.parse().map_err(|_not_an_id| Problem::new(ProblemCode::NotFound))
    }
}
