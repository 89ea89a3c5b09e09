//! `vapid generate`: a key pair for browser push, as the settings and browsers want it.

use anyhow::Context as _;
use clap::Subcommand;
use flametree_notify::secrets::VapidKeyPair;

#[derive(Debug, Subcommand)]
pub(super) enum VapidAction {
    /// Make a key pair and print it; it is kept nowhere.
    Generate,
}

impl VapidAction {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Generate => {
                let pair = VapidKeyPair::generate().context("no key pair could be made")?;
                super::print(&format!("private key: {}", pair.private_key.as_str()));
                super::print(&format!("public key:  {}", pair.public_key));
                Ok(())
            }
        }
    }
}
