//! The URL at which a push service accepts messages for one browser. Any sender who knows the URL can use it, so logs show a
//! hash.

use std::fmt;

use sha2::{Digest as _, Sha256};
use url::Url;

use super::push_hosts::PushHosts;

/// Maximum length of an endpoint, in bytes.
pub const MAX_ENDPOINT_BYTES: usize = 2_048;

/// The reason why a text is not a valid push endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushEndpointError {
    #[error("must be at most {MAX_ENDPOINT_BYTES} bytes")]
    TooLong,
    #[error("must be a URL as browsers write it, without user name, password and fragment")]
    Malformed,
    #[error("must be an endpoint of a known push service, by its host and path")]
    HostNotAllowed,
}

/// The URL at which a push service accepts messages for one browser. The service uses exactly the bytes that the browser sent.
#[derive(Clone, PartialEq, Eq)]
pub struct PushEndpoint(Url);

impl PushEndpoint {
    pub fn parse(text: &str, hosts: &PushHosts) -> Result<Self, PushEndpointError> {
        Self::read(text)?.allowed(hosts)
    }

    /// Checks that the operator allows the host.
    pub fn allowed(self, hosts: &PushHosts) -> Result<Self, PushEndpointError> {
        if hosts.allow(&self.0) { Ok(self) } else { Err(PushEndpointError::HostNotAllowed) }
    }

    /// Parses an endpoint with any host. An endpoint from the database may have a host that the operator no longer allows.
    pub fn read(text: &str) -> Result<Self, PushEndpointError> {
        if text.len() > MAX_ENDPOINT_BYTES {
            return Err(PushEndpointError::TooLong);
        }
        let url = Url::parse(text).map_err(|_no_url| PushEndpointError::Malformed)?;
        // A text that changes when it is parsed as a URL cannot be used byte for byte.
        let is_exact = url.as_str() == text && url.host_str().is_some();
        let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if is_exact && is_bare { Ok(Self(url)) } else { Err(PushEndpointError::Malformed) }
    }

    pub fn url(&self) -> &Url {
        &self.0
    }

    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Scheme, host and port: the audience of a VAPID token (RFC 8292, section 2).
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Identifies an endpoint without storing it in plaintext. A hash without a key is enough, because an endpoint contains a
    /// random part that cannot be guessed. A keyed hash would change with the key, so the endpoint's row would not be found
    /// again.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_str()).into()
    }
}

/// Shows the host and the first eight hex digits of the hash, which identify an endpoint in the logs without revealing it.
impl fmt::Display for PushEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.hash();
        write!(f, "{}/{:08x}", self.host(), u32::from_be_bytes(std::array::from_fn(|at| hash[at])))
    }
}

impl fmt::Debug for PushEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PushEndpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_exact_urls_of_push_services() {
        let hosts = PushHosts::new(Vec::new(), false);
        for (text, error) in [
            ("https://example.net/x", PushEndpointError::HostNotAllowed),
            ("/x", PushEndpointError::Malformed),
            ("https://FCM.googleapis.com/x", PushEndpointError::Malformed),
            ("https://fcm.googleapis.com:443/x", PushEndpointError::Malformed),
            ("https://fcm.googleapis.com/a/../x", PushEndpointError::Malformed),
            ("https://fcm.googleapis.com/x ", PushEndpointError::Malformed),
            ("https://fcm.googleapis.com/x#y", PushEndpointError::Malformed),
            ("https://me:pw@fcm.googleapis.com/x", PushEndpointError::Malformed),
            ("https://fcm.googleapis.com@example.net/x", PushEndpointError::Malformed),
        ] {
            assert_eq!(PushEndpoint::parse(text, &hosts), Err(error), "{text}");
        }
        let long = format!("https://fcm.googleapis.com/{}", "x".repeat(MAX_ENDPOINT_BYTES));
        assert_eq!(PushEndpoint::parse(&long, &hosts), Err(PushEndpointError::TooLong));
    }
}
