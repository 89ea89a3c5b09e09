//! Writes logs to standard error: text for a terminal, JSON lines for a log collector.
//!
//! Standard output is reserved for the output of commands.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text if standard error is a terminal, else JSON.
    ByTerminal,
    Text,
    Json,
}

/// The log filter and format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Directives like `info,flametree_notify::queue=debug`.
    pub filter: String,
    pub format: Format,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the log filter is not valid")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("logging is already set up in this process")]
    Init(#[from] tracing_subscriber::util::TryInitError),
}

/// Checks a filter without setting up logging.
pub fn check_filter(filter: &str) -> Result<(), Error> {
    parse_filter(filter).map(drop)
}

/// Starts logging for the whole process. Call once.
pub fn init(settings: &Settings) -> Result<(), Error> {
    let registry = tracing_subscriber::registry().with(parse_filter(&settings.filter)?);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let on_terminal = std::io::stderr().is_terminal();
    let json = match settings.format {
        Format::ByTerminal => !on_terminal,
        Format::Text => false,
        Format::Json => true,
    };
    if json {
        registry.with(layer.json().flatten_event(true)).try_init()?;
    } else {
        registry.with(layer.with_ansi(on_terminal)).try_init()?;
    }
    Ok(())
}

fn parse_filter(filter: &str) -> Result<EnvFilter, Error> {
    Ok(EnvFilter::builder().parse(filter)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_filter_contains_only_levels_per_module() {
        assert!(check_filter("info,flametree_notify::queue=debug,sqlx=warn").is_ok());
        assert!(check_filter("flametree_notify=loud").is_err());
    }
}
