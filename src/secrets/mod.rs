//! Secrets at rest: the keyring that seals what customers entrust to the service.
//!
//! Knows the domain's names only. Where sealed bytes are kept, and where the keyring's text comes from, is not its affair.

mod associated_data;
mod keyring;
#[cfg(test)]
mod keyring_tests;
mod vapid;

pub use associated_data::AssociatedData;
pub use keyring::{Keyring, KeyringError, OpenError};
pub use vapid::{VapidKeyError, VapidKeyPair};
