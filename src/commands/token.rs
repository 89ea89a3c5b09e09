//! `token create`: creates the first token of a deployment. Standard output contains only the token.

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use flametree_notify::app::{self, Data};
use flametree_notify::config::Config;
use flametree_notify::domain::names::TenantId;
use flametree_notify::domain::role::Role;
use flametree_notify::domain::token::{NewToken, TokenName, TokenScope, TokenSecret};
use flametree_notify::store::tokens;

#[derive(Debug, Subcommand)]
pub(super) enum TokenAction {
    /// Create a token and print it. The token cannot be shown again.
    Create(Create),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The name that users see.
    #[arg(long)]
    name: String,
    #[arg(long, value_parser = role, help = "The role of the token: service, admin, agent_editor, operator or viewer")]
    role: Role,
    /// The tenant of the token.
    #[arg(long, required_unless_present = "all_tenants", conflicts_with = "all_tenants")]
    tenant: Option<String>,
    /// Make the token valid for all tenants.
    #[arg(long)]
    all_tenants: bool,
    /// How long the token is valid, like 30d, 12h or 90m. Without this option, the token is valid until it is revoked.
    #[arg(long, value_parser = lifetime)]
    expires_in: Option<Duration>,
}

impl TokenAction {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run(config).await,
        }
    }
}

impl Create {
    async fn run(self, config: &Config) -> anyhow::Result<()> {
        let tenant = self.tenant.map(TenantId::parse).transpose().context("--tenant")?;
        let new = NewToken {
            name: TokenName::parse(self.name).context("--name")?,
            role: self.role,
            scope: TokenScope::from_tenant(tenant),
            expires_at: self.expires_in.map(|lifetime| app::now() + lifetime),
            created_by: None,
        };
        super::print(&create(config, &new).await?.expose());
        Ok(())
    }
}

/// Creates a token in the database. The service does not need to run.
pub(super) async fn create(config: &Config, new: &NewToken) -> anyhow::Result<TokenSecret> {
    let data = Data::visit(config).await?;
    let created = tokens::create(&data.db, new).await;
    data.close().await;
    Ok(created.context("cannot store the token")?.1)
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| format!("must be one of {}", Role::names()))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let seconds_of = |unit: &str| match unit {
        "d" => Some(24 * 3600),
        "h" => Some(3600),
        "m" => Some(60),
        "s" => Some(1),
        _ => None,
    };
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = number.parse::<u64>().ok().zip(seconds_of(unit)).and_then(|(number, unit)| number.checked_mul(unit));
    // The maximum is a century, so that the expiry is always a valid date.
    seconds
        .filter(|seconds| (1..=100 * 365 * 24 * 3600).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "must be a number with d, h, m or s, like 30d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_must_have_a_unit() {
        assert_eq!(lifetime("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(lifetime("90m"), Ok(Duration::from_mins(90)));
        for wrong in ["", "30", "d", "0d", "-1d", "1w", "99999999999999999999d", "200000d"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
