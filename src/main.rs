//! The command line.

mod commands;
#[cfg(feature = "failpoints")]
mod failpoints;

use std::process::ExitCode;

use clap::Parser as _;
use tikv_jemallocator::Jemalloc;

/// Each delivery allocates many small blocks, which other threads free. The system's allocator is slow in this case. Of
/// the fast allocators, jemalloc needs the least memory for 5,000 waiting requests.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = failpoints::set_up();
    commands::Command::parse().run()
}
