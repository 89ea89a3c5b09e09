//! Reads the listed settings from variables and collects all faults.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::secret::Secret;
use super::settings::{SETTINGS, Setting};

/// Prefix of the service's settings. A variable with this prefix that is not in the list is a fault.
const PREFIX: &str = "FLAMETREE_";

/// All faults of the settings. Contains no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigFault>);

/// One fault of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    pub variable: String,
    pub message: String,
}

impl ConfigErrors {
    /// The faults in the order of the settings. There is at least one.
    pub fn faults(&self) -> &[ConfigFault] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings have {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {} {}", fault.variable, fault.message))
    }
}

impl std::error::Error for ConfigErrors {}

pub(super) struct Reader {
    variables: HashMap<String, String>,
    faults: Vec<ConfigFault>,
}

impl Reader {
    /// Treats empty values as unset, because Compose files pass unset variables as empty ones.
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables: HashMap<_, _> = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let mut unknown: Vec<_> = variables.keys().filter(|name| is_unknown(name)).cloned().collect();
        unknown.sort_unstable();
        let faults = unknown
            .into_iter()
            .map(|variable| ConfigFault { variable, message: "is not a setting of flametree-notify".to_owned() })
            .collect();
        Self { variables, faults }
    }

    pub(super) fn fault(&mut self, setting: Setting, message: impl Into<String>) {
        self.faults.push(ConfigFault { variable: setting.name.to_owned(), message: message.into() });
    }

    /// The value that the operator set, or the default.
    pub(super) fn text(&self, setting: Setting) -> Option<String> {
        self.variables.get(setting.name).cloned().or_else(|| setting.default.map(str::to_owned))
    }

    /// True if the operator set the value.
    pub(super) fn is_set(&self, setting: Setting) -> bool {
        self.variables.contains_key(setting.name)
    }

    pub(super) fn secret(&self, setting: Setting) -> Option<Secret> {
        self.text(setting).map(Secret::new)
    }

    /// A variable that belongs to the operating system.
    pub(super) fn system_variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Parses the value of a setting. Returns `None` if the setting is unset or the value is wrong. Reports a wrong value as a
    /// fault.
    pub(super) fn parsed<T>(
        &mut self,
        setting: Setting,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(setting)?;
        let value = parse(&text);
        if value.is_none() {
            let shown = if setting.secret { String::new() } else { format!(", not {text:?}") };
            self.fault(setting, format!("must be {expected}{shown}"));
        }
        value
    }

    pub(super) fn number<T: TryFrom<u64>>(&mut self, setting: Setting, range: RangeInclusive<u64>) -> Option<T> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(setting, &expected, |text| {
            text.parse().ok().filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok())
        })
    }

    pub(super) fn finish(self) -> ConfigErrors {
        ConfigErrors(self.faults)
    }

    pub(super) fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }
}

fn is_unknown(name: &str) -> bool {
    name.starts_with(PREFIX) && SETTINGS.iter().all(|setting| setting.name != name)
}
