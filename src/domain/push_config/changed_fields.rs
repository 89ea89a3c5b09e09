//! The settings of a push config, and how two configs differ. The lists for the history contain names, but no values.

use super::{Header, PushConfig};
use crate::domain::closed_set::closed_set;

/// A setting of a push config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Setting {
    Enabled,
    Url,
    TimeoutMs,
    Signing,
    Headers,
    Events,
}

closed_set!(Setting);

/// The settings in which the configs differ.
pub(super) fn changed_settings(current: Option<&PushConfig>, next: &PushConfig) -> Vec<Setting> {
    let differs = |setting: Setting| {
        let Some(current) = current else { return true };
        match setting {
            Setting::Enabled => current.enabled != next.enabled,
            Setting::Url => current.url != next.url,
            Setting::TimeoutMs => current.timeout != next.timeout,
            Setting::Signing => current.signing != next.signing,
            Setting::Headers => current.headers != next.headers,
            Setting::Events => current.events != next.events,
        }
    };
    Setting::ALL.into_iter().filter(|setting| differs(*setting)).collect()
}

/// The API names of the settings, and a path such as `headers/X-Name` for each added, removed or changed header.
pub(super) fn changed_fields(current: Option<&PushConfig>, next: &PushConfig, settings: &[Setting]) -> Vec<String> {
    let mut fields = Vec::new();
    for setting in settings {
        match setting {
            Setting::Headers => {
                let headers = changed_headers(current.map_or(&[], |config| &config.headers), &next.headers);
                // The headers are equal: only their order changed, or both lists are empty.
                if headers.is_empty() && current.is_some() {
                    fields.push(setting.as_str().to_owned());
                }
                fields.extend(headers.into_iter().map(|name| format!("{}/{name}", setting.as_str())));
            }
            Setting::Enabled | Setting::Url | Setting::TimeoutMs | Setting::Signing | Setting::Events => {
                fields.push(setting.as_str().to_owned());
            }
        }
    }
    fields
}

fn changed_headers<'a>(before: &'a [Header], after: &'a [Header]) -> Vec<&'a str> {
    let gone = before.iter().filter(|header| !after.iter().any(|other| other.name == header.name));
    let new = after.iter().filter(|header| !before.contains(header));
    gone.chain(new).map(|header| header.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::push_config::{HeaderName, HeaderValue};
    use crate::domain::secret_text::SecretText;

    fn header(name: &str, value: &str) -> Header {
        Header { name: HeaderName::from_stored(name.to_owned()), value: HeaderValue::Secret(SecretText::new(value)) }
    }

    fn config(headers: &[Header]) -> PushConfig {
        PushConfig {
            enabled: false,
            disabled_reason: None,
            url: None,
            timeout: None,
            signing: true,
            headers: headers.to_vec(),
            events: Vec::new(),
        }
    }

    #[test]
    fn names_each_changed_header() {
        let (a, b, c) = (header("X-A", "1"), header("X-B", "1"), header("X-C", "1"));
        let before = config(&[a.clone(), b.clone()]);
        let fields = |next: &PushConfig| changed_fields(Some(&before), next, &[Setting::Url, Setting::Headers]);
        assert_eq!(fields(&config(&[a.clone(), header("X-B", "2"), c])), ["url", "headers/X-B", "headers/X-C"]);
        assert_eq!(fields(&config(std::slice::from_ref(&b))), ["url", "headers/X-A"]);
        assert_eq!(fields(&config(&[b, a])), ["url", "headers"]);
        assert_eq!(changed_fields(None, &config(&[]), &[Setting::Headers]), Vec::<String>::new());
    }
}
