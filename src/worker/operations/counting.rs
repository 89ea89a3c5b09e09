//! The rollup: moves the watermark in bounded steps until it is where it may be.

use std::time::Duration;

use super::Operations;
use super::runner::Failure;
use crate::store::stats;

/// What one step counts, where deliveries flow.
const WINDOW: Duration = Duration::from_secs(15);
/// Where none do. Not longer: they may begin to flow in the middle of it.
const LONGEST_WINDOW: Duration = Duration::from_mins(2);

impl Operations {
    pub(super) async fn roll_up(&self) -> Result<(), Failure> {
        stats::summarize(&self.db).await?;
        let mut window = WINDOW;
        loop {
            let step = stats::roll_up(&self.db, window).await?;
            fail::fail_point!("rollup::step");
            if !step.is_behind {
                return Ok(());
            }
            window = if step.spans == 0 { (window * 2).min(LONGEST_WINDOW) } else { WINDOW };
        }
    }
}
