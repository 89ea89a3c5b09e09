//! What must hold of every message and of whatever an endpoint answers; `crate::fuzzing` feeds them.

mod answers;
mod messages;

pub use answers::answer;
pub use messages::{message, sent_headers};
