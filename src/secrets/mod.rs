//! Encryption of stored secrets: the keyring encrypts the secrets that customers store in the service.
//!
//! This module imports only ids and names of the domain. Other modules store the sealed bytes and read the keyring's text
//! from the settings.

mod associated_data;
mod keyring;
#[cfg(test)]
mod keyring_tests;
mod vapid;

pub use associated_data::AssociatedData;
pub use keyring::{Keyring, KeyringError, OpenError};
pub use vapid::{VapidKeyError, VapidKeyPair};
