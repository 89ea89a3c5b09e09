//! Independent steps of an operation: each step runs even if earlier steps failed.

use super::runner::Failure;

/// Collects the results of steps. The operation fails with the first error, after every step has run.
#[derive(Default)]
pub(super) struct Steps {
    first_failure: Option<Failure>,
}

impl Steps {
    /// Records the result of a step. If the step failed, logs its error and returns `None`.
    pub(super) fn record<T>(&mut self, step: &'static str, result: Result<T, impl Into<Failure>>) -> Option<T> {
        result
            .map_err(|error| {
                let error = error.into();
                tracing::warn!(%error, step, "a step of an operation failed");
                self.first_failure.get_or_insert(error);
            })
            .ok()
    }

    /// Succeeds if every step succeeded.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.first_failure.map_or(Ok(()), Err)
    }
}
