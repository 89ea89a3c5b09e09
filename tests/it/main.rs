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
mod embedded_postgres;
mod support;
mod webhook_faults;
mod webhook_http2;
mod webhook_message;
