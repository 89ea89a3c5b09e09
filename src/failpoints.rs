//! Failpoints for crash tests, compiled only with the feature `failpoints`: `FAILPOINTS=name=action;...`.
//!
//! The action `panic(crash)` ends the process at exactly that step, like kill -9, so that the process writes, drops and logs
//! nothing more. An action may have a count. For example, `20*off->panic(crash)` ends the process at the 21st time.

use std::panic::{PanicHookInfo, set_hook, take_hook};

use fail::FailScenario;
use nix::sys::signal::{Signal, raise};

/// The text of the action `panic` that ends the process.
const CRASH: &str = "crash";

/// Activates the failpoints of the variable `FAILPOINTS` until the returned value is dropped.
pub(crate) fn set_up() -> FailScenario<'static> {
    let report = take_hook();
    set_hook(Box::new(move |panic| {
        if is_crash(panic) && raise(Signal::SIGKILL).is_ok() {
            // The signal takes effect at once, but the compiler does not know that.
            std::process::abort();
        }
        report(panic);
    }));
    FailScenario::setup()
}

fn is_crash(panic: &PanicHookInfo<'_>) -> bool {
    panic.payload_as_str() == Some(CRASH)
}
