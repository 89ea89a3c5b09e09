//! The duration, the event rate and the fault interval, from the environment.

use std::path::PathBuf;
use std::time::Duration;

/// The maximum number of rows in the report's table. In a longer run, a row covers several minutes.
const MOST_ROWS: u32 = 90;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) minutes: u32,
    /// Minutes between two faults.
    pub(crate) fault_minutes: u32,
    pub(crate) per_second: u32,
}

impl Plan {
    pub(crate) fn from_environment() -> Self {
        Self {
            minutes: number("SOAK_MINUTES", 60),
            fault_minutes: number("SOAK_FAULT_MINUTES", 5),
            per_second: number("SOAK_RATE", 1_000),
        }
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_mins(u64::from(self.minutes))
    }

    /// How many events are posted to the API. The events of the SQL caller, one per minute, have higher numbers.
    pub(crate) const fn posted(&self) -> u32 {
        self.minutes * 60 * self.per_second
    }

    pub(crate) const fn events(&self) -> u32 {
        self.posted() + self.minutes
    }

    pub(crate) fn row_minutes(&self) -> u32 {
        self.minutes.div_ceil(MOST_ROWS)
    }
}

fn number(name: &str, default: u32) -> u32 {
    match std::env::var(name).ok().filter(|text| !text.is_empty()) {
        Some(text) => {
            text.parse().ok().filter(|number| *number > 0).unwrap_or_else(|| panic!("{name} must be a number above 0"))
        }
        None => default,
    }
}

/// The folder of the report and the logs.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/soak")
}
