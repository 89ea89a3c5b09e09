//! The command line.

mod commands;
#[cfg(feature = "failpoints")]
mod failpoints;

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;

/// A delivery is some hundred small allocations that cross threads, from which the system's allocator suffers.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = failpoints::set_up();
    commands::Command::parse().run()
}
