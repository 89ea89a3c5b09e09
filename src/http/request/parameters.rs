//! Parses query parameters one by one and collects all faults, as the module `fields` does for bodies.

use std::convert::Infallible;
use std::fmt::Display;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use url::form_urlencoded;

use crate::domain::fault::{Fault, FaultCode};
use crate::domain::timestamp;
use crate::http::request::problem::Problem;

/// The query parameter that names the tenant if the token is valid for all tenants.
pub(crate) const TENANT_PARAMETER: &str = "tenant_id";
/// The query parameter with a ticket instead of a token.
pub(crate) const TICKET_PARAMETER: &str = "ticket";

/// The query parameters that the handler has not read yet. Call `finish` after the last parameter. Excludes the tenant
/// parameter, which `Caller` reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    values: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl Parameters {
    pub(crate) fn of(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        Self { values: pairs.filter(|(name, _)| name != TENANT_PARAMETER).collect(), faults: Vec::new() }
    }

    /// Removes and returns a parameter. A repeated parameter is a fault.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.values.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.values.remove(index);
        let before = self.values.len();
        self.values.retain(|(known, _)| known != name);
        if self.values.len() < before {
            self.fault(name, FaultCode::Duplicate, "must be given once");
            return None;
        }
        Some(value)
    }

    /// Reads and parses a parameter.
    pub(crate) fn parsed<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(String) -> Result<T, E>,
    ) -> Option<T> {
        match parse(self.take(name)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, FaultCode::InvalidValue, error.to_string());
                None
            }
        }
    }

    /// Reads a parameter whose value must be one of a closed list of names.
    pub(crate) fn one_of<T: Copy, const N: usize>(
        &mut self,
        name: &str,
        all: [T; N],
        as_str: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        self.parsed(name, |text| {
            all.into_iter()
                .find(|value| as_str(*value) == text)
                .ok_or_else(|| format!("must be one of {}", all.map(&as_str).join(", ")))
        })
    }

    /// Reads a parameter whose value must be a time.
    pub(crate) fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        self.parsed(name, |text| timestamp::parse(&text))
    }

    pub(crate) fn fault(&mut self, name: &str, code: FaultCode, message: impl Into<String>) {
        self.faults.push(Fault::new(name, code, message));
    }

    /// Reports each parameter that was not read as a fault.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let unknown = self.values.into_iter().map(|(name, _)| name);
        self.faults.extend(Fault::unknown(unknown, "is not a parameter of this route"));
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }
}

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts.uri.query().unwrap_or_default()))
    }
}

/// The extractor for routes without parameters. It reports any parameter as a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoParameters;

impl<S: Sync> FromRequestParts<S> for NoParameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        match parts.uri.query() {
            None => Ok(Self),
            Some(query) => Parameters::of(query).finish().map(|()| Self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::endpoint::Channel;

    #[test]
    fn reports_every_fault() {
        let mut parameters = Parameters::of("channel=fax&from=today&limit=1&limit=2&x=1&tenant_id=acme");
        assert_eq!(parameters.one_of("channel", Channel::ALL, Channel::as_str), None);
        assert_eq!(parameters.time("from"), None);
        assert_eq!(parameters.take("limit"), None);
        assert_eq!(
            parameters.faults.iter().map(|fault| (fault.pointer.as_str(), fault.code)).collect::<Vec<_>>(),
            [("channel", FaultCode::InvalidValue), ("from", FaultCode::InvalidValue), ("limit", FaultCode::Duplicate)]
        );
        assert_eq!(parameters.values, [("x".to_owned(), "1".to_owned())]);
        assert!(parameters.finish().is_err());
    }
}
