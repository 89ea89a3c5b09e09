//! The claims of a token, and the user that they identify.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::LEEWAY_SECONDS;
use crate::domain::names::{TenantId, UserId};
use crate::domain::role::Role;

/// Maximum lifetime of a user's token, including the clock leeway. A token cannot be revoked, so a stolen token works until
/// it expires. 24 hours are enough for a working day.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600 + LEEWAY_SECONDS);

/// The claims that identify the user and limit the token's lifetime.
#[derive(Deserialize)]
pub(super) struct Claims {
    /// Seconds since 1970, possibly with a fraction (RFC 7519, 2, `NumericDate`).
    exp: f64,
    /// Like `exp`.
    iat: Option<f64>,
    sub: String,
    tenant_id: String,
    role: String,
}

/// A portal user, as authenticated by the identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub user: UserId,
    pub tenant: TenantId,
    pub role: Role,
    /// The expiry time of the token, without the clock leeway.
    pub until: DateTime<Utc>,
}

impl Claims {
    /// `now` in seconds since 1970.
    pub(super) fn person(self, now: u64) -> Result<Person, &'static str> {
        let now = Duration::from_secs(now).as_secs_f64();
        // A token without the claim `iat` counts as issued now.
        let issued_at = self.iat.map_or(now, |iat| iat.min(now));
        if self.exp - issued_at > MAX_LIFETIME.as_secs_f64() {
            return Err("the token's lifetime is more than 24 hours");
        }
        let user = UserId::parse(self.sub).map_err(|_fault| "sub is not a valid id")?;
        let tenant = TenantId::parse(self.tenant_id).map_err(|_fault| "tenant_id is not a valid id")?;
        let role = Role::from_name(&self.role).ok_or("role is not a known role")?;
        let until = time(self.exp).ok_or("exp is not a valid time")?;
        Ok(Person { user, tenant, role, until })
    }
}

/// Converts a `NumericDate` value. A date that is too late becomes the latest possible date.
fn time(numeric_date: f64) -> Option<DateTime<Utc>> {
    if numeric_date.is_nan() || numeric_date < 0.0 {
        return None;
    }
    let since = Duration::try_from_secs_f64(numeric_date).unwrap_or(Duration::MAX);
    let since = TimeDelta::from_std(since).unwrap_or(TimeDelta::MAX);
    Some(DateTime::UNIX_EPOCH.checked_add_signed(since).unwrap_or(DateTime::<Utc>::MAX_UTC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_numeric_dates_of_any_size() {
        let at = |seconds| time(seconds).map(|at| at.timestamp_millis());
        assert_eq!(at(1_767_225_600.5), Some(1_767_225_600_500));
        assert_eq!(time(1e300), Some(DateTime::<Utc>::MAX_UTC));
        assert_eq!([at(-1.0), at(f64::NAN)], [None, None]);
    }
}
