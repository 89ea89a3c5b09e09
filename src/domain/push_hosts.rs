//! The hosts of push services: those of browser vendors, and those that the operator adds.
//!
//! A subscription's endpoint comes from a browser and names the host to which the service sends. The service sends only to the
//! hosts in this list. The service checks the list when a subscription is registered, and again at every send.

use url::{Position, Url};

/// The push service hosts of current browsers. Each has prefixes for the path and query of its endpoints. Sources: Firefox
/// (autopush, "HTTP Endpoints"), Chrome and other builds of Chromium (`push_messaging_constants.cc`), Safari (Apple
/// documents no path), Edge ("WNS channel URI").
const VENDORS: [(&str, &[&str]); 5] = [
    ("updates.push.services.mozilla.com", &["/wpush/"]),
    ("fcm.googleapis.com", &["/fcm/send/", "/wp/"]),
    ("jmt17.google.com", &["/fcm/send/", "/wp/"]),
    ("web.push.apple.com", &["/"]),
    ("*.notify.windows.com", &["/w/?token=", "/?token="]),
];

/// One host, or all subdomains of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushHost {
    name: String,
    /// True for all subdomains of the host, without the host itself.
    below: bool,
    /// The port of the URL; `None` means the default port of its scheme.
    port: Option<u16>,
}

impl PushHost {
    /// Parses a host as written in a URL, with an optional port, or with the prefix `*.` for its subdomains.
    pub fn parse(text: &str) -> Option<Self> {
        let (below, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let url = Url::parse(&format!("https://{rest}/")).ok()?;
        let is_bare = rest.parse::<u16>().is_err() && !rest.contains(['/', '?', '#', '@', '*', '\\']);
        let name = url.host_str().filter(|_| is_bare)?.to_owned();
        Some(Self { name, below, port: url.port() })
    }

    fn includes(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let is_named = if self.below {
            host.strip_suffix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.name
        };
        is_named && url.port() == self.port
    }
}

/// The allowed push services.
#[derive(Debug, Clone)]
pub struct PushHosts {
    vendors: Vec<(PushHost, &'static [&'static str])>,
    added: Vec<PushHost>,
    /// True if plain http is allowed for the hosts that the operator added.
    allow_http: bool,
}

impl PushHosts {
    pub fn new(added: Vec<PushHost>, allow_http: bool) -> Self {
        let vendors = VENDORS.into_iter().filter_map(|(host, starts)| Some((PushHost::parse(host)?, starts)));
        Self { vendors: vendors.collect(), added, allow_http }
    }

    pub fn allow(&self, url: &Url) -> bool {
        let is_added = || self.added.iter().any(|host| host.includes(url));
        match url.scheme() {
            "https" => self.is_vendors(url) || is_added(),
            "http" => self.allow_http && is_added(),
            _ => false,
        }
    }

    /// True if the URL has the form of a vendor's endpoints. Other paths on a vendor's host belong to other services.
    fn is_vendors(&self, url: &Url) -> bool {
        let rest = &url[Position::BeforePath..];
        let fits = |starts: &[&str]| starts.iter().any(|start| rest.len() > start.len() && rest.starts_with(start));
        self.vendors.iter().any(|(host, starts)| host.includes(url) && fits(starts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(hosts: &PushHosts, url: &str) -> bool {
        hosts.allow(&Url::parse(url).unwrap())
    }

    #[test]
    fn allows_endpoints_of_vendors_and_rejects_similar_urls() {
        let hosts = PushHosts::new(Vec::new(), true);
        for good in [
            "https://updates.push.services.mozilla.com/wpush/v2/x",
            "https://fcm.googleapis.com/fcm/send/x",
            "https://fcm.googleapis.com/wp/x",
            "https://jmt17.google.com/fcm/send/x",
            "https://web.push.apple.com/x",
            "https://wns2-par02p.notify.windows.com/w/?token=x",
            "https://bn1.notify.windows.com/?token=x",
        ] {
            assert!(allow(&hosts, good), "{good}");
        }
        for wrong in [
            "http://fcm.googleapis.com/fcm/send/x",
            "https://fcm.googleapis.com:8443/fcm/send/x",
            "https://fcm.googleapis.com.example.net/fcm/send/x",
            "https://notfcm.googleapis.com/fcm/send/x",
            "https://notify.windows.com/w/?token=x",
            "https://.notify.windows.com/w/?token=x",
            "https://evilnotify.windows.com/w/?token=x",
            "https://fcm.googleapis.com/v1/projects/x/messages:send",
            "https://fcm.googleapis.com/fcm/send/",
            "https://fcm.googleapis.com/fcm/sendx",
            "https://jmt17.google.com/video/license/x",
            "https://updates.push.services.mozilla.com/v1/fcm/x/registration",
            "https://web.push.apple.com/",
            "https://wns2-par02p.notify.windows.com/w/?x=token",
            "https://example.net/fcm.googleapis.com",
            "https://127.0.0.1/x",
        ] {
            assert!(Url::parse(wrong).is_err() || !allow(&hosts, wrong), "{wrong}");
        }
    }

    #[test]
    fn the_operator_can_add_hosts_with_ports() {
        let added = ["push.internal:8443", "127.0.0.1:9000", "[::1]:9000", "*.up.internal"];
        let hosts = |allow_http| PushHosts::new(added.map(|text| PushHost::parse(text).unwrap()).to_vec(), allow_http);
        for good in [
            "https://push.internal:8443/x",
            "http://127.0.0.1:9000/x",
            "https://[::1]:9000/x",
            "https://a.b.up.internal/x",
        ] {
            assert!(allow(&hosts(true), good), "{good}");
        }
        for wrong in ["https://push.internal/x", "https://127.0.0.1:9001/x", "https://up.internal/x"] {
            assert!(!allow(&hosts(true), wrong), "{wrong}");
        }
        assert!(!allow(&hosts(false), "http://127.0.0.1:9000/x"));
        assert!(allow(&hosts(false), "https://127.0.0.1:9000/x"));
    }

    #[test]
    fn rejects_invalid_hosts() {
        for wrong in ["", "https://push.internal", "a/b", "user@host", "*", "*.*", "8080", "a:b", "a b", "host?x"] {
            assert_eq!(PushHost::parse(wrong), None, "{wrong}");
        }
    }
}
