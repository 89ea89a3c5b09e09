//! Reads the listed settings from variables and collects all faults.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

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
    /// The faults, unknown settings first. There is at least one.
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
        self.variables.get(setting.name).cloned().or_else(|| setting.default().map(str::to_owned))
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
    pub(super) fn parsed<T>(&mut self, setting: Setting, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(setting)?;
        let value = parse(&text);
        if value.is_none() {
            let shown = if setting.secret { String::new() } else { format!(", not {text:?}") };
            self.fault(setting, format!("must be {}{shown}", setting.expected()));
        }
        value
    }

    /// Parses values separated by commas. Returns an empty list if the setting is unset.
    pub(super) fn list<T>(&mut self, setting: Setting, parse: fn(&str) -> Option<T>) -> Vec<T> {
        let values = self.parsed(setting, |text| text.split(',').map(|part| parse(part.trim())).collect());
        values.unwrap_or_default()
    }

    /// A number without a default.
    pub(super) fn optional_number<T: TryFrom<u64>>(&mut self, setting: Setting) -> Option<T> {
        self.parsed(setting, |text| T::try_from(setting.number(text)?).ok())
    }

    /// A number with a default; 0 after a fault.
    pub(super) fn number<T: TryFrom<u64> + Default>(&mut self, setting: Setting) -> T {
        self.optional_number(setting).unwrap_or_default()
    }

    /// A duration with a default; 0 after a fault.
    pub(super) fn duration(&mut self, setting: Setting) -> Duration {
        setting.duration(self.number(setting))
    }

    /// Reports a fault if the first number exceeds the second. A wrong number is already a fault.
    pub(super) fn at_most(&mut self, setting: Setting, limit: Setting) {
        if self.exceeds(setting, limit) {
            self.fault(setting, format!("must be at most {}", limit.name));
        }
    }

    /// Reports a fault if the second number exceeds the first. A wrong number is already a fault.
    pub(super) fn at_least(&mut self, setting: Setting, limit: Setting) {
        if self.exceeds(limit, setting) {
            self.fault(setting, format!("must be at least {}", limit.name));
        }
    }

    fn exceeds(&self, setting: Setting, limit: Setting) -> bool {
        let number = |setting: Setting| setting.number(&self.text(setting)?);
        number(setting).zip(number(limit)).is_some_and(|(number, limit)| number > limit)
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
