//! Compares the clock of the database server with the clock of this process.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Error;

use super::Db;

/// The time of the database server, and the times of this process before and after the query.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    pub before: DateTime<Utc>,
    pub database: DateTime<Utc>,
    pub after: DateTime<Utc>,
}

impl Clocks {
    /// Reads the server's real clock, not `flametree.clock()`, which tests move.
    pub async fn read(db: &Db, now: impl Fn() -> DateTime<Utc>) -> Result<Self, Error> {
        let before = now();
        let database = sqlx::query_scalar!(
            r#"-- clocks::read
            SELECT clock_timestamp() AS "now!""#
        );
        let database = database.fetch_one(db).await?;
        Ok(Self { before, database, after: now() })
    }

    /// The minimum difference between the two clocks; positive if the process's clock is ahead. If the clocks agree, the
    /// database's time is between the process's times before and after the query, even if the network was slow.
    pub fn difference(&self) -> TimeDelta {
        if self.database < self.before {
            self.before - self.database
        } else if self.database > self.after {
            self.after - self.database
        } else {
            TimeDelta::zero()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_response_is_not_a_clock_difference() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        for (before, database, after, ahead) in [
            (0, 0, 0, 0),
            (0, 1, 30, 0),
            (0, 29, 30, 0),
            // The process's clock is ahead in the first case and behind in the second.
            (60, 0, 90, 60),
            (0, 90, 30, -60),
        ] {
            let clocks = Clocks { before: at(before), database: at(database), after: at(after) };
            assert_eq!(clocks.difference(), TimeDelta::seconds(ahead), "{before} {database} {after}");
        }
    }
}
