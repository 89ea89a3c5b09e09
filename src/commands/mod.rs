//! The commands of the program. Each command reads the settings first, and reports all faults in them.

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

/// How long the shutdown waits for threads that are blocked in system calls.
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
    /// Migrate the database's schema to this version.
    Migrate,
    /// Check the process that runs with these settings; exit code 0 or 1.
    Health(health::Health),
    /// Run a demonstration on this machine; it needs no setup.
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
    /// Check the settings.
    #[command(subcommand)]
    Config(ConfigAction),
    /// Print the OpenAPI document.
    Openapi,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Check all settings, and the settings of your database if it responds, and print the values in effect. Exit code 0 or 1.
    Check,
}

impl Command {
    pub(crate) fn run(self) -> ExitCode {
        match self.action.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // The Debug output of anyhow shows users the error with its causes.
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

/// Reads the settings from the environment, sets up the logs and runs `work`.
fn with_config<F>(work: impl FnOnce(Config) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let config = Config::from_env()?;
    logging::init(&config.log).context("cannot set up the logs")?;
    run_to_end(work(config))
}

fn run_to_end(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(work);
    // A name look-up cannot be canceled, so the shutdown waits only briefly for the thread that runs it.
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    result
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    let data = Data::migrate(config).await?;
    app::prepare(&data, config).await?;
    data.close().await;
    Ok(())
}

/// Prints the settings of the database as comments, after the settings of the service. An unavailable database is not a fault of
/// the settings.
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
    anyhow::ensure!(refused == 0, "{refused} settings of this database are refused, so the service would not start");
    Ok(())
}

/// Prints to standard output, which contains only the result of the command.
fn print(text: &str) {
    // Ignores errors, because they mean that the reader has closed the pipe.
    drop(writeln!(std::io::stdout(), "{}", text.trim_end()));
}

#[expect(clippy::print_stderr, reason = "the logs might not be set up yet")]
fn complain(text: &str) {
    eprintln!("{text}");
}
