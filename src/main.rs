//! The command line.

mod commands;
#[cfg(feature = "failpoints")]
mod failpoints;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = failpoints::set_up();
    commands::Command::parse().run()
}
