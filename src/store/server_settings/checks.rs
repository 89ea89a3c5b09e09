//! The settings to check. [`CHECKS`] has one entry per setting, with its verdict, reason and remedy.
//!
//! docs/operating.md explains the settings in a table. A test compares the table with [`CHECKS`].

use std::str::FromStr;

use super::{Finding, Value, Verdict};
use crate::store::pool::STATEMENT_TIMEOUT;

/// PostgreSQL's default for `max_locks_per_transaction`. All tests use it.
const DEFAULT_MAX_LOCKS: u32 = 64;
/// The oldest major version that supports the SQL of the schema.
const OLDEST_VERSION: u32 = 15;
/// The newest major version that was released before this build.
const NEWEST_VERSION: u32 = 18;

/// A migration fails if one of these settings has a wrong value.
pub(super) const NEEDED_BY_MIGRATIONS: [&str; 2] = ["server_version", "server_encoding"];

const CANCELS_OUTCOMES: &str = "the service waits 10 s for outcomes to be recorded; a batch that needs longer than this \
                                timeout is repeated without end";

pub(super) struct Check {
    pub(super) setting: &'static str,
    /// Returns the verdict on a value that is passed without its unit. Timeouts are in milliseconds.
    judge: fn(&str) -> Verdict,
    reason: &'static str,
    remedy: Remedy,
}

/// How to correct a setting.
enum Remedy {
    /// Set the default for sessions of our role. The role itself may set it.
    OfRole(&'static str),
    /// Set it for the server. The value takes effect after a reload.
    OfServer(&'static str),
    /// Set it for the server. The value takes effect after a restart.
    OfServerStart(&'static str),
    Text(&'static str),
}

pub(super) const CHECKS: &[Check] = &[
    Check {
        setting: "server_version",
        judge: |value| match major_version(value) {
            ..OLDEST_VERSION => Verdict::Refused,
            OLDEST_VERSION..=NEWEST_VERSION => Verdict::Ok,
            _ => Verdict::Warning,
        },
        reason: "this release supports PostgreSQL 15 to 18",
        remedy: Remedy::Text("use one of these versions"),
    },
    Check {
        setting: "server_encoding",
        judge: |value| refused_unless(value == "UTF8"),
        reason: "the database cannot store every character of a message, and migrations fail",
        remedy: Remedy::Text(
            "an encoding cannot be changed: run `CREATE DATABASE notify ENCODING 'UTF8' TEMPLATE template0` and name that \
             database in DATABASE_URL",
        ),
    },
    Check {
        setting: "fsync",
        judge: |value| refused_unless(value == "on"),
        reason: "a crash of the machine loses accepted events and sends deliveries twice",
        remedy: Remedy::OfServer("on"),
    },
    Check {
        setting: "synchronous_commit",
        judge: |value| refused_unless(value != "off"),
        reason: "a crash of PostgreSQL loses accepted events and sends deliveries twice",
        remedy: Remedy::OfRole("on"),
    },
    Check {
        setting: "full_page_writes",
        judge: |value| warned_unless(value == "on"),
        reason: "a crash of the machine can destroy pages, unless the file system writes pages whole (ZFS, Btrfs)",
        remedy: Remedy::OfServer("on"),
    },
    Check {
        setting: "default_transaction_isolation",
        // PostgreSQL treats `read uncommitted` as `read committed`.
        judge: |value| refused_unless(value.starts_with("read ")),
        reason: "claims fail with serialization errors",
        remedy: Remedy::OfRole("read committed"),
    },
    Check {
        setting: "statement_timeout",
        judge: |value| refused_unless(is_long_enough(value)),
        reason: CANCELS_OUTCOMES,
        remedy: Remedy::OfRole("0"),
    },
    Check {
        setting: "transaction_timeout",
        judge: |value| refused_unless(is_long_enough(value)),
        reason: CANCELS_OUTCOMES,
        remedy: Remedy::OfRole("0"),
    },
    Check {
        setting: "lock_timeout",
        judge: |value| warned_unless(is_long_enough(value)),
        reason: "a statement that waits longer than this for a lock fails: the API returns 503 and workers try again",
        remedy: Remedy::OfRole("0"),
    },
    Check {
        setting: "idle_in_transaction_session_timeout",
        judge: |value| warned_unless(is_long_enough(value)),
        reason: "a process that gets no CPU time for longer than this loses its transactions and repeats them",
        remedy: Remedy::OfRole("1min"),
    },
    Check {
        setting: "max_locks_per_transaction",
        judge: |value| warned_unless(number::<u32>(value) >= DEFAULT_MAX_LOCKS),
        reason: "a statement that reads many partitions can fail with `out of shared memory`",
        remedy: Remedy::OfServerStart("64"),
    },
    Check {
        setting: "autovacuum",
        judge: |value| warned_unless(value == "on"),
        reason: "dead rows remain in the queue's tables, so that they grow and claims become slow",
        remedy: Remedy::OfServer("on"),
    },
];

impl Check {
    pub(super) fn find(&self, value: &Value) -> Finding {
        Finding {
            setting: self.setting,
            value: value.shown.clone(),
            source: Some(value.source.clone()),
            verdict: (self.judge)(&value.raw),
            reason: self.reason,
            remedy: self.remedy(value),
        }
    }

    fn remedy(&self, Value { role, database, source, .. }: &Value) -> String {
        let setting = self.setting;
        match (&self.remedy, source.as_str()) {
            (Remedy::Text(text), _) => (*text).to_owned(),
            // The statements below have no effect on values from the client and from the command line.
            (_, "client") => "remove it from the options in DATABASE_URL or PGOPTIONS".to_owned(),
            (_, "command line") => "remove it from PostgreSQL's command line and restart PostgreSQL".to_owned(),
            (Remedy::OfRole(right), _) => format!(
                "run `ALTER ROLE {role} IN DATABASE {database} SET {setting} = '{right}'`, and `RECONNECT` in pgbouncer if \
                 you use it"
            ),
            (Remedy::OfServer(right), _) => {
                format!("run `ALTER SYSTEM SET {setting} = '{right}'` and `SELECT pg_reload_conf()`")
            }
            (Remedy::OfServerStart(right), _) => {
                format!("run `ALTER SYSTEM SET {setting} = '{right}'` and restart PostgreSQL")
            }
        }
    }
}

fn refused_unless(is_right: bool) -> Verdict {
    if is_right { Verdict::Ok } else { Verdict::Refused }
}

fn warned_unless(is_right: bool) -> Verdict {
    if is_right { Verdict::Ok } else { Verdict::Warning }
}

fn major_version(value: &str) -> u32 {
    number(value.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default())
}

/// True if the timeout is long enough. A timeout of 0 means no timeout.
fn is_long_enough(milliseconds: &str) -> bool {
    let milliseconds: u128 = number(milliseconds);
    milliseconds == 0 || milliseconds >= STATEMENT_TIMEOUT.as_millis()
}

fn number<N: FromStr + Default>(text: &str) -> N {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn check(setting: &str) -> &'static Check {
        CHECKS.iter().find(|check| check.setting == setting).unwrap()
    }

    fn value(source: &str) -> Value {
        Value {
            name: String::new(),
            raw: "5000".to_owned(),
            shown: "5s".to_owned(),
            source: source.to_owned(),
            role: "app".to_owned(),
            database: "\"Notify\"".to_owned(),
            read_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_value_gets_the_verdict_that_the_guarantees_require() {
        use Verdict::{Ok, Refused, Warning};
        for (setting, expected) in [
            ("server_version", vec![("9.6.24", Refused), ("14.19 (Debian 14.19-1)", Refused), ("15.18", Ok)]),
            ("server_version", vec![("18.1", Ok), ("18beta1", Ok), ("19devel", Warning)]),
            ("server_encoding", vec![("UTF8", Ok), ("SQL_ASCII", Refused), ("LATIN1", Refused)]),
            ("fsync", vec![("on", Ok), ("off", Refused)]),
            ("synchronous_commit", vec![("on", Ok), ("off", Refused)]),
            ("synchronous_commit", vec![("local", Ok), ("remote_write", Ok), ("remote_apply", Ok)]),
            ("full_page_writes", vec![("on", Ok), ("off", Warning)]),
            ("default_transaction_isolation", vec![("read committed", Ok), ("read uncommitted", Ok)]),
            ("default_transaction_isolation", vec![("repeatable read", Refused), ("serializable", Refused)]),
            ("statement_timeout", vec![("0", Ok), ("1", Refused), ("9999", Refused), ("10000", Ok)]),
            ("transaction_timeout", vec![("0", Ok), ("9999", Refused), ("10000", Ok)]),
            ("lock_timeout", vec![("0", Ok), ("9999", Warning), ("10000", Ok)]),
            ("idle_in_transaction_session_timeout", vec![("0", Ok), ("9999", Warning), ("60000", Ok)]),
            ("max_locks_per_transaction", vec![("64", Ok), ("256", Ok), ("63", Warning)]),
            ("autovacuum", vec![("on", Ok), ("off", Warning)]),
        ] {
            for (value, verdict) in expected {
                assert_eq!((check(setting).judge)(value), verdict, "{setting} = {value}");
            }
        }
    }

    #[test]
    fn the_remedy_depends_on_the_source_of_the_value() {
        let found = check("statement_timeout").find(&value("database")).to_string();
        assert!(
            found.starts_with("statement_timeout = 5s (source: database): refused: the service waits 10 s"),
            "{found}"
        );
        let command = "; run `ALTER ROLE app IN DATABASE \"Notify\" SET statement_timeout = '0'`";
        assert!(found.contains(command), "{found}");
        let of_connection = check("statement_timeout").find(&value("client")).remedy;
        assert!(of_connection.contains("DATABASE_URL"), "{of_connection}");
        let of_command_line = check("fsync").find(&value("command line")).remedy;
        assert!(of_command_line.contains("command line"), "{of_command_line}");
    }

    #[test]
    fn the_reasons_and_the_guide_name_the_checked_limits() {
        assert_eq!(STATEMENT_TIMEOUT.as_secs(), 10);
        let guide = include_str!("../../../docs/operating.md");
        for check in CHECKS {
            assert!(
                guide.contains(&format!("\n| `{}` ", check.setting)),
                "{}: no row in docs/operating.md",
                check.setting
            );
        }
    }
}
