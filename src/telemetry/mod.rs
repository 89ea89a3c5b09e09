//! Observability: logs, metrics and traces.
//!
//! This module imports only `domain`. Other modules record here with typed functions. Labels never contain payload text, a key, a
//! URL's query or an id.

mod http_labels;
mod instruments;
mod labels;
pub mod logging;
pub mod metrics;
#[cfg(test)]
mod metrics_tests;
pub mod traces;
