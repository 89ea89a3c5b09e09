//! The header `If-Match`: a change applies only if the resource is still in the state that the client has read (RFC 9110,
//! section 13.1.1).

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;

use crate::http::request::problem::{Problem, ProblemCode};
use crate::store::push_configs::Revision;

/// A strong entity tag with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntityTag(String);

impl EntityTag {
    /// The tag of an unset config. With this tag, a change creates a config, but never replaces one.
    const UNSET: &str = "\"unset\"";

    /// The tag contains the version and enough random bits of the endpoint id, so that a recreated config has different
    /// tags.
    pub(crate) fn of(revision: Option<Revision>) -> Self {
        let Some(Revision { endpoint_id, version }) = revision else { return Self(Self::UNSET.to_owned()) };
        let (_, random) = endpoint_id.uuid().as_u64_pair();
        Self(format!("\"{version}-{:012x}\"", random & 0xffff_ffff_ffff))
    }

    pub(crate) fn to_header(&self) -> HeaderValue {
        // Digits, letters and quotes are always valid in a header value.
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static(Self::UNSET))
    }
}

/// The condition that a config must meet before a request changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// No condition.
    Absent,
    /// The value `*`: the config must be set.
    Anything,
    /// The config must have one of these tags. A weak or malformed tag never matches.
    Tags(Vec<String>),
}

impl IfMatch {
    /// Returns 412 unless the config meets the condition.
    pub(crate) fn check(&self, revision: Option<Revision>) -> Result<(), Problem> {
        let holds = match self {
            Self::Absent => true,
            Self::Anything => revision.is_some(),
            Self::Tags(tags) => tags.contains(&EntityTag::of(revision).0),
        };
        if holds { Ok(()) } else { Err(Problem::new(ProblemCode::PreconditionFailed)) }
    }

    /// The response if another request changed the config after this request had read it: 412 with `If-Match`, else 409.
    pub(crate) fn overtaken(&self) -> Problem {
        match self {
            Self::Absent => {
                Problem::new(ProblemCode::Conflict).detail("another request changed the config at the same time")
            }
            Self::Anything | Self::Tags(_) => Problem::new(ProblemCode::PreconditionFailed),
        }
    }

    /// Our tags contain no commas, so the list can be split at each comma.
    pub(crate) fn parse<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Self {
        let texts: Vec<&str> = values.map(|value| value.to_str().unwrap_or_default()).collect();
        match texts.as_slice() {
            [] => Self::Absent,
            ["*"] => Self::Anything,
            texts => {
                Self::Tags(texts.iter().flat_map(|text| text.split(',')).map(|tag| tag.trim().to_owned()).collect())
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.headers.get_all(IF_MATCH).iter()))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::EndpointId;

    fn revision(endpoint: u128, version: i32) -> Revision {
        Revision { endpoint_id: EndpointId::from_uuid(Uuid::from_u128(endpoint)), version }
    }

    #[test]
    fn a_config_matches_only_its_own_tag() {
        let tag = EntityTag::of(Some(revision(7, 3))).0;
        assert_eq!(tag, "\"3-000000000007\"");
        let table = [
            (None, Some(revision(7, 3)), true),
            (None, None, true),
            (Some("*"), Some(revision(7, 3)), true),
            (Some("*"), None, false),
            (Some(tag.as_str()), Some(revision(7, 3)), true),
            (Some(tag.as_str()), Some(revision(7, 4)), false),
            (Some(tag.as_str()), Some(revision(8, 3)), false),
            (Some(tag.as_str()), None, false),
            (Some("\"x\" , \"3-000000000007\""), Some(revision(7, 3)), true),
            (Some("W/\"3-000000000007\""), Some(revision(7, 3)), false),
            (Some("3-000000000007"), Some(revision(7, 3)), false),
            (Some(""), Some(revision(7, 3)), false),
            (Some("\"unset\""), None, true),
            (Some("\"unset\""), Some(revision(7, 3)), false),
        ];
        for (header, present, holds) in table {
            let header = header.map(|text| HeaderValue::from_str(text).unwrap());
            let if_match = IfMatch::parse(header.iter());
            assert_eq!(if_match.check(present).is_ok(), holds, "{header:?} {present:?}");
        }
    }
}
