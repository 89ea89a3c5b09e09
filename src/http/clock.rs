//! The clock of the request handlers.

use chrono::{DateTime, Utc};

#[expect(clippy::disallowed_methods, reason = "the only place where request handlers read the clock")]
pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}
