//! The integration tests: one binary, a module per topic, real parts.

#![allow(unreachable_pub, reason = "a test binary exports nothing; `pub` says what a module offers to the others")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; clippy.toml's exceptions end at functions that are not tests themselves"
)]

mod address_guard;
mod address_rules;
mod crash_database;
mod crash_embedded;
mod crash_isolation;
mod crash_rolling;
mod crash_steps;
mod crash_workers;
mod embedded_postgres;
mod idempotency;
mod secrets;
mod sql_events;
mod sql_rules;
mod support;
mod webhook_faults;
mod webhook_http2;
mod webhook_message;
