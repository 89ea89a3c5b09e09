//! The rollup: counts batches of outcomes in bounded steps until none is left.

use super::Operations;
use super::runner::Failure;
use crate::store::stats;

/// Outcomes that one step counts: a transaction of about 100 ms.
const DELIVERIES_PER_STEP: u32 = 10_000;

impl Operations {
    pub(super) async fn roll_up(&self) -> Result<(), Failure> {
        stats::summarize(&self.db).await?;
        loop {
            let step = stats::roll_up(&self.db, DELIVERIES_PER_STEP).await?;
            fail::fail_point!("rollup::step");
            if !step.is_behind {
                return Ok(());
            }
        }
    }
}
