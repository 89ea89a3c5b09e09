//! The settings for the export of traces, with the names that OpenTelemetry defines.

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::reader::Reader;
use super::settings::{OTLP_ENDPOINT, OTLP_HEADERS, RESOURCE_ATTRIBUTES, SERVICE_NAME, TRACES_SHARE};
use crate::telemetry::traces::{Settings, Share};

/// The path for traces below a collector's base URL.
const PATH: [&str; 2] = ["v1", "traces"];

/// Reads the settings for traces; `None` if they are not exported, or if a fault was reported.
pub(super) fn traces(reader: &mut Reader) -> Option<Settings> {
    let url = reader.parsed(OTLP_ENDPOINT, traces_url);
    let headers = reader.parsed(OTLP_HEADERS, headers).unwrap_or_default();
    let attributes = reader.parsed(RESOURCE_ATTRIBUTES, pairs).unwrap_or_default();
    let service_name = reader.text(SERVICE_NAME);
    let share = reader.parsed(TRACES_SHARE, |text| Share::new(text.parse().ok()?));
    // The service name has a separate setting, which takes precedence.
    let attributes = attributes.into_iter().filter(|(name, _)| name != "service.name");
    let resource = service_name.map(|name| ("service.name".to_owned(), name)).into_iter().chain(attributes).collect();
    Some(Settings { url: url?, headers, resource, share: share? })
}

fn traces_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    let anonymous = url.username().is_empty() && url.password().is_none();
    let bare = url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !anonymous || !bare {
        return None;
    }
    url.path_segments_mut().ok()?.pop_if_empty().extend(PATH);
    Some(url)
}

fn headers(text: &str) -> Option<HeaderMap> {
    let pairs = pairs(text)?.into_iter().map(|(name, value)| {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name).ok()?, value))
    });
    pairs.collect()
}

fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().to_owned(), value.into_owned())).filter(|(name, _)| !name.is_empty())
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_sent_to_a_path_below_the_base_url() {
        let of = |text| traces_url(text).map(|url| url.to_string());
        assert_eq!(of("http://127.0.0.1:4318").as_deref(), Some("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(of("https://otlp.example/base/").as_deref(), Some("https://otlp.example/base/v1/traces"));
        for wrong in ["127.0.0.1:4318", "grpc://collector:4317", "http://me:pw@collector", "http://collector?key=1", ""]
        {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn header_values_are_marked_as_sensitive() {
        let found = headers("api-key=a%20b%3D, x-team = core,").unwrap();
        assert_eq!((&found["api-key"], &found["x-team"]), (&"a b=".parse().unwrap(), &"core".parse().unwrap()));
        assert!(!format!("{found:?}").contains("a b"));
        for wrong in ["api-key", "=x", "a b=c", "a=%0A", "a=%ff"] {
            assert!(headers(wrong).is_none(), "{wrong}");
        }
    }
}
