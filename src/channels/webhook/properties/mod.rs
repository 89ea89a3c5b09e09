//! Properties that must hold for every message and every response of an endpoint. `crate::fuzzing` checks them.

mod answers;
mod messages;

pub use answers::answer;
pub use messages::{message, sent_headers};
