//! Secrets at rest: the keyring that seals what customers entrust to the service.
//!
//! Knows the domain's names only. Where sealed bytes are kept, and where the keyring's text comes from, is not its affair.

mod associated_data;
mod keyring;

pub use associated_data::AssociatedData;
pub use keyring::{Keyring, KeyringError, OpenError};
