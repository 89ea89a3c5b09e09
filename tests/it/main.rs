//! The integration tests: one binary, a module per topic, real parts.

#![allow(unreachable_pub, reason = "a test binary exports nothing; `pub` says what a module offers to the others")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; clippy.toml's exceptions end at functions that are not tests themselves"
)]

mod embedded_postgres;
mod push_config_races;
mod push_config_secrets;
mod push_configs;
mod signing_secrets;
mod support;
