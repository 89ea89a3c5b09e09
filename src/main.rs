//! The command line.

mod commands;
#[cfg(feature = "failpoints")]
mod failpoints;

use std::process::ExitCode;

use clap::Parser as _;
use tikv_jemallocator::Jemalloc;

/// Each delivery makes many small allocations. Other threads free many of these; this is slow with the system's allocator. Of
/// the fast allocators, jemalloc needs the least memory for 5,000 waiting requests.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = failpoints::set_up();
    commands::Command::parse().run()
}
