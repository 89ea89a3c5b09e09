//! Classifies statement errors: an unavailable database, a conflict with other transactions, a timeout, or rejected rows.
//!
//! After an outage or a conflict, the caller repeats the statement. After a timeout or a refusal, repeating the whole statement
//! would delay valid rows. So the caller retries with fewer rows at a time and sets aside the rows that fail.

use std::borrow::Cow;

use sqlx::Error;

/// Why a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The database cannot be reached, is stopping, or lacks resources. The statement is not the cause.
    Outage,
    /// Another transaction changed the same rows first. The statement may succeed when it is repeated.
    Conflict,
    /// A lock was not granted in time, or the statement exceeded its timeout. Statements with other rows may not need that lock.
    TimeLimit,
    /// The database rejected the values or could not read a row.
    Refusal,
}

impl FailureKind {
    /// True if the statement may succeed with other rows or with fewer rows.
    pub fn concerns_rows(self) -> bool {
        matches!(self, Self::TimeLimit | Self::Refusal)
    }
}

/// Why the statement failed.
pub fn failure_kind(error: &Error) -> FailureKind {
    match error {
        Error::Configuration(_)
        | Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed
        | Error::BeginFailed => FailureKind::Outage,
        // Errors that a later sqlx version adds count as refusals. This is safe, because set-aside rows are also retried.
        _ => sqlstate(error).map_or(FailureKind::Refusal, |code| kind_of_code(&code)),
    }
}

/// Uses the error classes of <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn kind_of_code(code: &str) -> FailureKind {
    match (code.get(..2).unwrap_or(code), code) {
        // The server rolled back this transaction so that other transactions could continue.
        (_, "40001" | "40P01") => FailureKind::Conflict,
        // A `lock_timeout`, a `statement_timeout` or an operator canceled the statement.
        (_, "55P03" | "57014") => FailureKind::TimeLimit,
        // Errors of connections, credentials, resources, operator actions and the system; a read-only standby; session timeouts.
        ("08" | "28" | "53" | "57" | "58", _) | (_, "3D000" | "25006" | "25P03" | "25P04") => FailureKind::Outage,
        _ => FailureKind::Refusal,
    }
}

/// The SQLSTATE, if the database returned an error response.
pub fn sqlstate(error: &Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code)
}

/// True if a stored value is damaged or has a form that this release does not know. Every read then fails.
pub fn is_of_what_is_stored(error: &Error) -> bool {
    let is_damaged = |code: Cow<'_, str>| code.starts_with("22") || code == "XX001" || code == "XX002";
    matches!(error, Error::Decode(_) | Error::ColumnDecode { .. }) || sqlstate(error).is_some_and(is_damaged)
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;
    use std::io::ErrorKind;

    use sqlx::error::DatabaseError;

    use super::FailureKind::{Conflict, Outage, Refusal, TimeLimit};
    use super::*;

    /// An error response of the database with this SQLSTATE.
    #[derive(Debug, thiserror::Error)]
    #[error("the database responded with {0}")]
    struct Answered(&'static str);

    impl DatabaseError for Answered {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(Cow::Borrowed(self.0))
        }

        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    fn answered(code: &'static str) -> Error {
        Error::Database(Box::new(Answered(code)))
    }

    #[test]
    fn the_sqlstate_determines_the_kind_of_failure() {
        let table: [(FailureKind, &[&str]); 4] = [
            (
                Outage,
                &[
                    "08000", "08006", "08P01", "25006", "25P03", "25P04", "28P01", "3D000", "53000", "53100", "53200",
                    "53300", "57P01", "57P02", "57P03", "57P05", "58000", "58030",
                ],
            ),
            (Conflict, &["40001", "40P01"]),
            (TimeLimit, &["55P03", "57014"]),
            (
                Refusal,
                &[
                    "22001", "22003", "22021", "22P02", "23502", "23503", "23505", "23514", "42501", "42703", "42883",
                    "42P01", "0A000", "P0001", "FT001", "XX000", "XX001", "XX002",
                ],
            ),
        ];
        for (kind, codes) in table {
            for code in codes {
                assert_eq!(failure_kind(&answered(code)), kind, "{code}");
            }
        }
    }

    #[test]
    fn a_failed_connection_is_an_outage_and_an_unreadable_row_is_a_refusal() {
        let outages = [
            Error::Io(ErrorKind::ConnectionReset.into()),
            Error::Tls("no certificate".into()),
            Error::Protocol("an unexpected message".into()),
            Error::PoolTimedOut,
            Error::PoolClosed,
            Error::WorkerCrashed,
        ];
        for error in outages {
            assert_eq!(failure_kind(&error), Outage, "{error:?}");
        }
        let refusals = [
            Error::RowNotFound,
            Error::Decode("no number".into()),
            Error::Encode("no JSON".into()),
            Error::ColumnNotFound("a".into()),
            Error::ColumnDecode { index: "a".into(), source: "no number".into() },
        ];
        for error in refusals {
            assert_eq!(failure_kind(&error), Refusal, "{error:?}");
        }
    }

    #[test]
    fn only_a_damaged_or_unknown_value_counts_as_an_error_of_a_stored_value() {
        for error in [Error::Decode("no number".into()), answered("22P02"), answered("XX001"), answered("XX002")] {
            assert!(is_of_what_is_stored(&error), "{error:?}");
        }
        for error in [Error::PoolTimedOut, answered("42501"), answered("57014"), answered("XX000")] {
            assert!(!is_of_what_is_stored(&error), "{error:?}");
        }
    }
}
