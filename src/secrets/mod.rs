//! Encryption of stored secrets: the keyring encrypts the secrets that customers store in the service.
//!
//! Imports only the names of the domain. Does not know where sealed bytes are stored or where the keyring's text comes from.

mod associated_data;
mod keyring;
#[cfg(test)]
mod keyring_tests;
mod vapid;

pub use associated_data::AssociatedData;
pub use keyring::{Keyring, KeyringError, OpenError};
pub use vapid::{VapidKeyError, VapidKeyPair};
