//! The rollup counts batches of outcomes in bounded steps, until all batches are counted.

use super::Operations;
use super::runner::Failure;
use super::steps::Steps;
use crate::store::{stats, with_timeout};

/// The approximate number of outcomes per step. A step is one transaction of about 100 ms.
const DELIVERIES_PER_STEP: u32 = 10_000;

impl Operations {
    pub(super) async fn roll_up(&self) -> Result<(), Failure> {
        let mut steps = Steps::default();
        // The first step only makes the second step read fewer pages. The counts are correct even if the first step fails.
        steps.record("summarize_batches", with_timeout(stats::summarize(&self.db)).await);
        steps.record("roll_up", self.count_batches().await);
        steps.finish()
    }

    async fn count_batches(&self) -> Result<(), sqlx::Error> {
        loop {
            let step = with_timeout(stats::roll_up(&self.db, DELIVERIES_PER_STEP)).await?;
            fail::fail_point!("rollup::step");
            if !step.is_behind {
                return Ok(());
            }
        }
    }
}
