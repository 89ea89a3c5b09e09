//! Failpoints of the crash tests, compiled in by the feature `failpoints` alone: `FAILPOINTS=name=action;...`.
//!
//! The action `panic(crash)` ends the process at exactly that step, as kill -9 would: nothing is written, dropped or
//! said any more. Counts go before it: `20*off->panic(crash)` lets twenty pass.

use std::panic::{PanicHookInfo, set_hook, take_hook};

use fail::FailScenario;
use nix::sys::signal::{Signal, raise};

/// What the action `panic` has to say to end the process.
const CRASH: &str = "crash";

/// Puts the failpoints of the environment in force, as long as the answer is kept.
pub(crate) fn set_up() -> FailScenario<'static> {
    let report = take_hook();
    set_hook(Box::new(move |panic| {
        if is_crash(panic) && raise(Signal::SIGKILL).is_ok() {
            // The signal needs no moment to arrive, but the compiler does not know that.
            std::process::abort();
        }
        report(panic);
    }));
    FailScenario::setup()
}

fn is_crash(panic: &PanicHookInfo<'_>) -> bool {
    panic.payload_as_str() == Some(CRASH)
}
