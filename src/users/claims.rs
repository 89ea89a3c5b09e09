//! What a token says, and the person that this makes.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::LEEWAY_SECONDS;
use crate::domain::names::{TenantId, UserId};
use crate::domain::role::Role;

/// Longest lifetime of a token, with the leeway of clocks: nothing revokes a token, so a stolen one opens until it ends, and a
/// day covers a working day's session.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600 + LEEWAY_SECONDS);

/// The claims that are used; those about validity are checked before.
#[derive(Deserialize)]
pub(super) struct Claims {
    /// Seconds since 1970, perhaps with a fraction (RFC 7519, 2, `NumericDate`).
    exp: f64,
    /// In the same form.
    iat: Option<f64>,
    sub: String,
    tenant_id: String,
    role: String,
}

/// Somebody who works at the portal, as the identity provider vouches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub user: UserId,
    pub tenant: TenantId,
    pub role: Role,
    /// When the token ends, without leeway.
    pub until: DateTime<Utc>,
}

impl Claims {
    /// `now` in seconds since 1970.
    pub(super) fn person(self, now: u64) -> Result<Person, &'static str> {
        let now = Duration::from_secs(now).as_secs_f64();
        // A token without `iat` may have been issued now at the latest.
        let issued_at = self.iat.map_or(now, |iat| iat.min(now));
        if self.exp - issued_at > MAX_LIFETIME.as_secs_f64() {
            return Err("the token lives for more than 24 hours");
        }
        let user = UserId::parse(self.sub).map_err(|_fault| "sub is no name")?;
        let tenant = TenantId::parse(self.tenant_id).map_err(|_fault| "tenant_id is no name")?;
        let role = Role::from_name(&self.role).ok_or("role is none of the roles")?;
        let until = time(self.exp).ok_or("exp is no time")?;
        Ok(Person { user, tenant, role, until })
    }
}

/// A time that is too far away to be written is as good as the last one that can be.
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
    fn a_numeric_date_is_a_time_however_far_away() {
        let at = |seconds| time(seconds).map(|at| at.timestamp_millis());
        assert_eq!(at(1_767_225_600.5), Some(1_767_225_600_500));
        assert_eq!(time(1e300), Some(DateTime::<Utc>::MAX_UTC));
        assert_eq!([at(-1.0), at(f64::NAN)], [None, None]);
    }
}
