//! Steps of an operation that do not depend on each other: each one runs, whatever happened to the steps before it.

use super::runner::Failure;

/// Collects the results of the steps. The operation fails with the first error, after every step has run.
#[derive(Default)]
pub(super) struct Steps {
    first_failure: Option<Failure>,
}

impl Steps {
    /// Takes the result of a step and logs its error; `None`: the step failed.
    pub(super) fn record<T>(&mut self, step: &'static str, result: Result<T, impl Into<Failure>>) -> Option<T> {
        result
            .map_err(|error| {
                let error = error.into();
                tracing::warn!(%error, step, "a step of an operation failed");
                self.first_failure.get_or_insert(error);
            })
            .ok()
    }

    /// Succeeds if every step did.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.first_failure.map_or(Ok(()), Err)
    }
}
