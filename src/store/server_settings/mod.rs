//! Reads and checks the PostgreSQL settings on which the guarantees depend. Uses the same kind of session as the service.

mod checks;

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use self::checks::{CHECKS, Check, NEEDED_BY_MIGRATIONS};
use super::clocks::Clocks;

/// The maximum tolerated clock difference. It is far more than the usual difference between two machines that use NTP, and far
/// less than the 5 minutes after which receivers reject a signature.
const MAX_CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(5);

/// The verdict on the value of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Every guarantee holds, but the value has a risk or a cost that the operator should know.
    Warning,
    /// A guarantee does not hold with this value.
    Refused,
}

/// A setting with its value and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub setting: &'static str,
    /// The value with its unit.
    pub value: String,
    /// The source of the value, such as `default`, `database`, `user` or `client`; `None` if it is not a PostgreSQL setting.
    pub source: Option<String>,
    pub verdict: Verdict,
    /// The effect of a value whose verdict is not `Ok`.
    pub reason: &'static str,
    /// How to correct the setting.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.setting, self.value)?;
        if let Some(source) = &self.source {
            write!(f, " (source: {source})")?;
        }
        match self.verdict {
            Verdict::Ok => write!(f, ": ok"),
            Verdict::Warning => write!(f, ": warning: {}; {}", self.reason, self.remedy),
            Verdict::Refused => write!(f, ": refused: {}; {}", self.reason, self.remedy),
        }
    }
}

/// The PostgreSQL settings of one session.
#[derive(Debug)]
pub struct ServerSettings {
    values: Vec<Value>,
    /// How far this process's clock is ahead of the database's clock.
    clock_difference: TimeDelta,
}

/// A setting as reported by PostgreSQL.
#[derive(Debug)]
struct Value {
    name: String,
    /// The value without its unit.
    raw: String,
    /// The value with its unit.
    shown: String,
    source: String,
    /// The role and the database of the session, quoted for SQL.
    role: String,
    database: String,
    /// The database's clock when it read the settings.
    read_at: DateTime<Utc>,
}

impl ServerSettings {
    /// Reads all settings in one statement, because behind a pooler the next statement may use another session.
    pub async fn read(connection: &mut PgConnection, now: impl Fn() -> DateTime<Utc>) -> Result<Self, sqlx::Error> {
        let names: Vec<_> = CHECKS.iter().map(|check| check.setting.to_owned()).collect();
        let before = now();
        let values = sqlx::query_as!(
            Value,
            r#"-- server_settings::read
            SELECT s.name AS "name!", s.setting AS "raw!", current_setting(s.name) AS "shown!", s.source AS "source!",
                   quote_ident(session_user) AS "role!", quote_ident(current_database()) AS "database!",
                   clock_timestamp() AS "read_at!"
            FROM pg_catalog.pg_settings AS s WHERE s.name = ANY($1)"#,
            &names,
        )
        .fetch_all(connection)
        .await?;
        let after = now();
        let clocks = values.first().map(|value| Clocks { before, database: value.read_at, after });
        let clock_difference = clocks.map(|clocks| clocks.difference());
        Ok(Self { values, clock_difference: clock_difference.unwrap_or_default() })
    }

    /// All findings. The last one is the clock difference. Skips settings that this version of PostgreSQL does not have.
    pub fn findings(&self) -> Vec<Finding> {
        let of =
            |check: &Check| self.values.iter().find(|value| value.name == check.setting).map(|value| check.find(value));
        CHECKS.iter().filter_map(of).chain([self.clock()]).collect()
    }

    /// Only the findings about settings that migrations need. Omits other settings, because the role that migrates can
    /// have its own session settings.
    pub fn findings_before_migration(&self) -> Vec<Finding> {
        let is_needed = |finding: &Finding| NEEDED_BY_MIGRATIONS.contains(&finding.setting);
        self.findings().into_iter().filter(is_needed).collect()
    }

    fn clock(&self) -> Finding {
        let is_right = self.clock_difference.abs() <= MAX_CLOCK_DIFFERENCE;
        Finding {
            setting: "clock difference",
            value: format!("{} ms", self.clock_difference.num_milliseconds()),
            source: None,
            verdict: if is_right { Verdict::Ok } else { Verdict::Warning },
            reason: "with a wrong clock, this process makes signatures that receivers refuse and accepts tokens that have \
                     expired",
            remedy: "synchronize both machines by NTP".to_owned(),
        }
    }
}
