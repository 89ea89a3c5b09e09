//! Invariants of every list of faults.

use crate::domain::fault::Fault;

/// The most faults of one object, whatever was sent: otherwise a response could be larger than the request.
const MOST_FAULTS: usize = 250;

/// A rejection states the reason and the location within bounds, and never reveals a stored secret.
pub fn assert_told(faults: &[Fault], prefix: &str) {
    assert!(!faults.is_empty(), "refused without a reason");
    assert!(faults.len() <= MOST_FAULTS, "{} faults", faults.len());
    for fault in faults {
        assert!(fault.pointer.starts_with(prefix), "{fault:?} is not below {prefix:?}");
        assert!(is_pointer(&fault.pointer), "{fault:?} has no JSON Pointer");
        assert!(!fault.message.is_empty(), "{fault:?} has no message");
    }
}

/// RFC 6901, 3.
fn is_pointer(text: &str) -> bool {
    let starts = text.is_empty() || text.starts_with('/');
    starts && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}
