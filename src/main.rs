//! The command line.

mod commands;
#[cfg(feature = "failpoints")]
mod failpoints;

use std::process::ExitCode;

use clap::Parser as _;
use tikv_jemallocator::Jemalloc;

/// A delivery makes some hundred small allocations that cross threads, which is slow with the system's allocator. Of the fast
/// allocators, jemalloc holds 5,000 waiting requests in the least memory.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = failpoints::set_up();
    commands::Command::parse().run()
}
