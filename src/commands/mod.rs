//! What the program can be told to do. Each command reads the settings first, and says all that is wrong with them.

mod demo;
mod health;
mod keys;
mod serve;
mod token;
mod vapid;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use flametree_notify::app::{self, Data, Part};
use flametree_notify::config::{Config, Database};
use flametree_notify::store::server_settings::Verdict;
use flametree_notify::telemetry::logging;
use tokio::runtime::Runtime;

/// How long the end waits for threads that are stuck in the system.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(1);

/// Durable delivery of session events: webhooks and browser push.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the API and the workers in one process.
    Run,
    /// Run the API only.
    Api,
    /// Run the workers only.
    Worker,
    /// Bring the database's schema to this version.
    Migrate,
    /// Ask the process that runs with these settings whether it does its work; exit code 0 or 1.
    Health(health::Health),
    /// Show the service at work on this machine: nothing needs to be set up.
    Demo(demo::Demo),
    /// Manage API tokens.
    #[command(subcommand)]
    Token(token::TokenAction),
    /// Manage the keys that stored values are encrypted with.
    #[command(subcommand)]
    Keys(keys::KeysAction),
    /// Manage the key pair of browser push.
    #[command(subcommand)]
    Vapid(vapid::VapidAction),
    /// Look at the settings.
    #[command(subcommand)]
    Config(ConfigAction),
    /// Print the OpenAPI document.
    Openapi,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Check all settings, and those of a database of yours if it answers; print what is in force. Exit code 0 or 1.
    Check,
}

impl Command {
    /// Runs the command to its end.
    pub(crate) fn run(self) -> ExitCode {
        match self.action.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Debug of anyhow is the error and its causes, to read.
                complain(&format!("{error:?}"));
                ExitCode::FAILURE
            }
        }
    }
}

impl Action {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Run => with_config(|config| serve::run(config, Part::All)),
            Self::Api => with_config(|config| serve::run(config, Part::Api)),
            Self::Worker => with_config(|config| serve::run(config, Part::Worker)),
            Self::Migrate => with_config(|config| async move { migrate(&config).await }),
            Self::Health(health) => with_config(|config| async move { health.run(&config).await }),
            Self::Demo(demo) => run_to_end(demo.run()),
            Self::Token(action) => with_config(|config| async move { action.run(&config).await }),
            Self::Keys(action) => with_config(|config| async move { action.run(&config).await }),
            Self::Vapid(action) => action.run(),
            Self::Config(ConfigAction::Check) => {
                let config = Config::from_env()?;
                print(&Config::in_force());
                run_to_end(check_database(&config))
            }
            Self::Openapi => {
                print(&flametree_notify::http::openapi_json(None));
                Ok(())
            }
        }
    }
}

/// Runs `work` with the settings of the environment, and with logs.
fn with_config<F>(work: impl FnOnce(Config) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let config = Config::from_env()?;
    logging::init(&config.log).context("the logs cannot be set up")?;
    run_to_end(work(config))
}

fn run_to_end(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("the runtime cannot start")?;
    let result = runtime.block_on(work);
    // A look-up of a name cannot be canceled; nobody needs its answer any more.
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    result
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    let data = Data::migrate(config).await?;
    app::prepare(&data, config).await?;
    data.close().await;
    Ok(())
}

/// Prints the settings of the database as comments below our own. A database that is away is no fault of the settings.
async fn check_database(config: &Config) -> anyhow::Result<()> {
    let Database::External { url, .. } = &config.database else { return Ok(()) };
    let findings = match app::look(url).await {
        Ok(findings) => findings,
        Err(error) => {
            print(&format!("# the database was not checked: {error}"));
            return Ok(());
        }
    };
    for finding in &findings {
        print(&format!("# {finding}"));
    }
    let refused = findings.iter().filter(|finding| finding.verdict == Verdict::Refused).count();
    anyhow::ensure!(refused == 0, "the service does not start on this database: {refused} of its settings are refused");
    Ok(())
}

/// Standard output is only for what was asked for.
fn print(text: &str) {
    // Whoever has stopped to read needs no more.
    drop(writeln!(std::io::stdout(), "{}", text.trim_end()));
}

#[expect(clippy::print_stderr, reason = "the logs may not be set up yet")]
fn complain(text: &str) {
    eprintln!("{text}");
}
