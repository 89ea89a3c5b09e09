//! `vapid generate`: prints a private key in the format of the settings, and its public key in the format of browsers.

use anyhow::Context as _;
use clap::Subcommand;
use flametree_notify::secrets::VapidKeyPair;

#[derive(Debug, Subcommand)]
pub(super) enum VapidAction {
    /// Generate a key pair and print it. The key pair is not stored.
    Generate,
}

impl VapidAction {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Generate => {
                let pair = VapidKeyPair::generate().context("cannot generate a key pair")?;
                super::print(&format!("private key: {}", pair.private_key.as_str()));
                super::print(&format!("public key:  {}", pair.public_key));
                Ok(())
            }
        }
    }
}
