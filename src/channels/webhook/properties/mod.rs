//! Properties of every message and of every response of an endpoint. `crate::fuzzing` runs them.

mod answers;
mod messages;

pub use answers::answer;
pub use messages::{message, sent_headers};
