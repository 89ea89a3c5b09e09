//! Timestamps in requests.

use chrono::{DateTime, Datelike as _, Utc};

/// Parses an [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339) time. The local time and the time in UTC must both be in the
/// years 1 to 9999, which RFC 3339 and PostgreSQL can both represent.
pub fn parse(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let has_years = |year: i32| (1..=9999).contains(&year);
    DateTime::parse_from_rfc3339(text)
        .ok()
        .filter(|at| has_years(at.year()) && has_years(at.to_utc().year()))
        .map(|at| at.to_utc())
        .ok_or("must be an RFC 3339 time like 2026-01-01T00:00:00.123Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_years_1_to_9999() {
        for text in ["0001-01-01T00:00:00Z", "2026-02-28T23:59:60+05:30", "9999-12-31T23:59:59.999999Z"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        let outside = ["0000-12-31T23:59:59Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-00:01"];
        for text in outside.into_iter().chain(["", "2026-01-01", "2026-01-01T24:00:00Z", "10000-01-01T00:00:00Z"]) {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
