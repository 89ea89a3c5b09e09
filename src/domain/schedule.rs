//! The schedule of an operation: a cron expression in UTC.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};

/// Number of fields of a cron expression without seconds.
const STANDARD_FIELDS: usize = 5;
const FIELDS_WITH_SECONDS: usize = 6;

/// A cron expression: minute, hour, day, month and weekday, preceded by seconds if there are six fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Arc<cron::Schedule>);

/// The reason why a text is not a valid schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("does not have exactly five fields")]
    Fields,
    /// Weekday numbers are rejected, because cron implementations disagree whether 1 is Sunday or Monday.
    #[error("names a weekday by its number")]
    WeekdayNumber,
    #[error("is not a cron expression")]
    Expression,
}

impl Schedule {
    /// Parses a cron expression. Weekdays must be names, as in `0 3 * * MON-FRI`, not numbers.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<_> = text.split_whitespace().collect();
        if fields.last().is_some_and(|weekday| weekday.contains(|character: char| character.is_ascii_digit())) {
            return Err(ScheduleError::WeekdayNumber);
        }
        let expression = match fields.len() {
            STANDARD_FIELDS => format!("0 {}", fields.join(" ")),
            FIELDS_WITH_SECONDS => fields.join(" "),
            _ => return Err(ScheduleError::Fields),
        };
        let schedule = cron::Schedule::from_str(&expression).map_err(|_error| ScheduleError::Expression)?;
        Ok(Self(Arc::new(schedule)))
    }

    /// The latest tick that is not later than now; `None` if no tick was due yet.
    pub fn latest(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let second = now.duration_trunc(TimeDelta::seconds(1)).ok()?;
        self.0.after(&(second + TimeDelta::seconds(1))).next_back()
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latest(schedule: &str, now: &str) -> String {
        let now = DateTime::parse_from_rfc3339(now).unwrap().to_utc();
        Schedule::parse(schedule).unwrap().latest(now).unwrap().to_rfc3339()
    }

    #[test]
    fn the_latest_tick_is_at_or_before_now() {
        for (schedule, now, expected) in [
            ("* * * * *", "2026-11-24T10:07:30.5Z", "2026-11-24T10:07:00+00:00"),
            ("* * * * *", "2026-11-24T10:07:00Z", "2026-11-24T10:07:00+00:00"),
            ("*/10 * * * *", "2026-11-24T10:07:59.999Z", "2026-11-24T10:00:00+00:00"),
            ("0 3 * * *", "2026-11-24T02:59:59Z", "2026-11-23T03:00:00+00:00"),
            ("0 0 * * SUN", "2026-11-24T12:00:00Z", "2026-11-22T00:00:00+00:00"),
            ("0 0 1 1 *", "2026-11-24T12:00:00Z", "2026-01-01T00:00:00+00:00"),
            ("*/2 * * * * *", "2026-11-24T10:07:03.2Z", "2026-11-24T10:07:02+00:00"),
        ] {
            assert_eq!(latest(schedule, now), expected, "{schedule} at {now}");
        }
    }

    #[test]
    fn rejects_invalid_schedules() {
        for (text, expected) in [
            ("", ScheduleError::Fields),
            ("hourly", ScheduleError::Fields),
            ("* * * *", ScheduleError::Fields),
            ("* * * * * * *", ScheduleError::Fields),
            ("0 0 * * 1", ScheduleError::WeekdayNumber),
            ("61 * * * *", ScheduleError::Expression),
            ("a b c d e", ScheduleError::Expression),
        ] {
            assert_eq!(Schedule::parse(text), Err(expected), "{text}");
        }
    }
}
