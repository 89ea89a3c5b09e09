//! What operators see: logs, metrics and traces.
//!
//! Knows the words of the domain and nothing else. Whoever does something tells it here by a typed function; what is
//! recorded never holds payload text, a key, a URL's query or an id as a label.

mod http_labels;
mod instruments;
mod labels;
pub mod logging;
pub mod metrics;
#[cfg(test)]
mod metrics_tests;
pub mod traces;
