//! Converts configured headers to HTTP headers.

use http::HeaderMap;

use crate::domain::push_config::Header;

/// Converts the headers and marks their values as sensitive. Returns `None` if HTTP does not allow a name or value, although
/// both were checked before they were stored.
pub fn configured_headers(configured: &[Header]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(configured.len());
    for header in configured {
        let name = http::HeaderName::try_from(header.name.as_str()).ok()?;
        let mut value = http::HeaderValue::try_from(header.value.text().expose()).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}
