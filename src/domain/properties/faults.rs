//! Invariants of every list of faults.

use crate::domain::fault::Fault;

/// Maximum number of faults of any object. Without a maximum, a response could be larger than the request.
const MOST_FAULTS: usize = 250;

/// Asserts that the number of faults is within bounds, and that each fault has a message and a location with this prefix.
pub fn assert_told(faults: &[Fault], prefix: &str) {
    assert!(!faults.is_empty(), "refused without a reason");
    assert!(faults.len() <= MOST_FAULTS, "{} faults", faults.len());
    for fault in faults {
        assert!(fault.pointer.starts_with(prefix), "{fault:?} is not below {prefix:?}");
        assert!(is_pointer(&fault.pointer), "{fault:?} has no JSON Pointer");
        assert!(!fault.message.is_empty(), "{fault:?} has no message");
    }
}

/// True if the text is a JSON Pointer (RFC 6901, section 3).
fn is_pointer(text: &str) -> bool {
    let starts = text.is_empty() || text.starts_with('/');
    starts && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}
