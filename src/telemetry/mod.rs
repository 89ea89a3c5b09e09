//! Observability: logs, metrics and traces.
//!
//! This module imports only `domain`. Other modules call typed functions of this module to record metrics and traces.
//! Labels never contain payload text, a key, a URL's query or an id.

mod http_labels;
mod instruments;
mod labels;
pub mod logging;
pub mod metrics;
#[cfg(test)]
mod metrics_tests;
pub mod traces;
