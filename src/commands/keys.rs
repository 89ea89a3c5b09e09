//! `keys rotate`: re-encrypts stored values with the first key, while the service runs.

use clap::Subcommand;
use flametree_notify::app::{self, Data};
use flametree_notify::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum KeysAction {
    /// Re-encrypt, with the first key, every stored value that uses another key. Every process must use this first key already.
    Rotate,
}

impl KeysAction {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        match self {
            Self::Rotate => rotate(config).await,
        }
    }
}

async fn rotate(config: &Config) -> anyhow::Result<()> {
    let data = Data::visit(config).await?;
    let rotated = match app::keyring(config) {
        Ok(keyring) => app::rotate(&data.db, &keyring).await,
        Err(error) => Err(error),
    };
    data.close().await;
    let app::Rotated { active, values, unused } = rotated?;
    super::print(&format!("{values} stored values were re-encrypted; all are encrypted with `{active}`"));
    for id in unused {
        super::print(&format!("nothing is encrypted with `{id}` any more: you may remove it"));
    }
    Ok(())
}
