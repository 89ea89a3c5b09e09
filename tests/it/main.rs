//! The integration tests: one binary, a module per topic, real parts.

#![allow(unreachable_pub, reason = "a test binary exports nothing; `pub` says what a module offers to the others")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; clippy.toml's exceptions end at functions that are not tests themselves"
)]

mod api_access;
mod api_batches;
mod api_deliveries;
mod api_events;
mod api_service;
mod embedded_postgres;
mod support;
