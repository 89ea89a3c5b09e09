//! The portal's pages, its client module and its service worker, embedded in the binary without a build step.
//!
//! This module provides the names, types and bytes of the files, which the HTTP API serves.

use std::borrow::Cow;
use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

/// Embeds each file with its path below `src/portal/assets/`.
macro_rules! files {
    ($($path:literal,)+) => {
        [$(($path, include_bytes!(concat!("assets/", $path)).as_slice()),)+]
    };
}

const FILES: &[(&str, &[u8])] = &files![
    "api.js",
    "app.js",
    "app.webmanifest",
    "dom.js",
    "frame.js",
    "icon.svg",
    "icons/app.png",
    "icons/notification.png",
    "index.html",
    "notifications.js",
    "notifications/api.js",
    "notifications/events.js",
    "notifications/favicon.js",
    "notifications/listening.js",
    "notifications/memory.js",
    "notifications/options.js",
    "notifications/shown.js",
    "notifications/state.js",
    "notifications/subscription.js",
    "notifications/workspace.js",
    "notifying.js",
    "pages/advanced-card.js",
    "pages/agent.js",
    "pages/agents.js",
    "pages/browsers.js",
    "pages/deliveries.js",
    "pages/delivery-window.js",
    "pages/endpoint-test.js",
    "pages/figures.js",
    "pages/head.js",
    "pages/human-agents.js",
    "pages/other.js",
    "pages/profile.js",
    "pages/push-config-draft.js",
    "pages/push-config-headers.js",
    "pages/push-config-window.js",
    "pages/session.js",
    "pages/sign-in.js",
    "pages/signing-secret.js",
    "pages/words.js",
    "router.js",
    "session.js",
    "sign-in.json",
    "styles/agent.css",
    "styles/base.css",
    "styles/controls.css",
    "styles/deliveries.css",
    "styles/layout.css",
    "styles/pages.css",
    "styles/tokens.css",
    "styles/windows.css",
    "sw.js",
    "time.js",
    "windows.js",
];

/// Forbids other origins, inline scripts, and scripts from strings. The only allowed Trusted Types policy is for the service
/// worker's URL. Data URLs are allowed for images, because the client module draws the icon with the red dot.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
    trusted-types flametree-notifications";

/// The page at `/portal/`.
pub const INDEX: &str = "index.html";
/// The service worker. Other pages on this origin can register it, too.
pub const WORKER: &str = "sw.js";
/// The users that the sign-in page offers.
pub const SIGN_IN: &str = "sign-in.json";

/// A file of the portal, as the API serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub content_type: &'static str,
    /// A strong entity tag, including the quotes. Equal bytes have the same tag in every process.
    pub etag: String,
    pub bytes: Cow<'static, [u8]>,
}

impl File {
    fn new(path: &str, bytes: Cow<'static, [u8]>) -> Self {
        let digest = Sha256::digest(&bytes);
        let half = digest.first_chunk::<16>().map_or(0, |half| u128::from_be_bytes(*half));
        Self { content_type: content_type(path), etag: format!("\"{half:032x}\""), bytes }
    }
}

/// All files, with their tags precomputed.
#[derive(Debug)]
pub struct Portal {
    files: HashMap<&'static str, File>,
    /// If set, replaces the embedded `sign-in.json`.
    sign_in: Option<File>,
}

impl Portal {
    /// `sign_in_choices` are the users that the sign-in page offers, as JSON; `None` means no users.
    pub fn new(sign_in_choices: Option<&str>) -> Self {
        let files = FILES.iter().map(|(path, bytes)| (*path, File::new(path, Cow::Borrowed(bytes))));
        let sign_in = sign_in_choices.map(|json| File::new(SIGN_IN, Cow::Owned(json.as_bytes().to_vec())));
        Self { files: files.collect(), sign_in }
    }

    /// The file at this path below `/portal/`.
    pub fn file(&self, path: &str) -> Option<File> {
        if let Some(choices) = self.sign_in.as_ref().filter(|_| path == SIGN_IN) {
            return Some(choices.clone());
        }
        let (path, file) = self.files.get_key_value(path)?;
        Some(as_edited(path).unwrap_or_else(|| file.clone()))
    }
}

/// In a development build, reads the file from the source tree, so that edits show after a reload.
fn as_edited(path: &str) -> Option<File> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/portal/assets").join(path);
    std::fs::read(source).ok().map(|bytes| File::new(path, Cow::Owned(bytes)))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        Some(_) | None => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn below(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
    }

    fn assets() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/portal/assets")
    }

    #[test]
    fn every_asset_is_in_the_binary_with_a_content_type() {
        let mut found: Vec<_> = below(&assets()).iter().map(|path| relative(path)).collect();
        let mut listed: Vec<_> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        found.sort();
        listed.sort();
        assert_eq!(found, listed);
        for path in listed {
            assert_ne!(content_type(&path), "application/octet-stream", "{path}");
        }
    }

    #[test]
    fn the_sign_in_page_offers_no_users_by_default() {
        let offered = |choices| String::from_utf8(Portal::new(choices).file(SIGN_IN).unwrap().bytes.into_owned());
        assert_eq!(offered(None).unwrap().trim(), r#"{ "people": [] }"#);
        assert_eq!(offered(Some("other")).unwrap(), "other");
    }

    /// Rust files have the same limits (`tests/tidy.rs`).
    #[test]
    fn assets_have_at_most_300_lines_and_begin_with_a_comment() {
        for path in below(&assets()).iter().filter(|path| matches!(extension(path), "js" | "css" | "html")) {
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.lines().count() <= 300, "{path:?}");
            assert!(extension(path) != "js" || text.starts_with("//"), "{path:?}");
        }
    }

    #[test]
    fn pages_contain_no_inline_styles_or_scripts() {
        for path in below(&assets()).iter().filter(|path| extension(path) == "html") {
            let text = std::fs::read_to_string(path).unwrap().to_lowercase();
            for forbidden in ["<style", " style=", " onclick=", " onload=", "javascript:", "http://", "https://"] {
                assert!(!text.contains(forbidden), "{path:?} has {forbidden}");
            }
            for script in text.split("<script").skip(1) {
                let (tag, rest) = script.split_once('>').unwrap();
                assert!(tag.contains("src=") && rest.starts_with("</script>"), "{path:?} has a script in the page");
            }
        }
    }

    #[test]
    fn the_entity_tag_of_a_file_depends_on_its_bytes() {
        let file = |bytes: &'static str| File::new("a.js", Cow::Borrowed(bytes.as_bytes()));
        assert_eq!(file("a").etag, file("a").etag);
        assert_ne!(file("a").etag, file("b").etag);
        let portal = Portal::new(None);
        assert_eq!(portal.file("index.html"), Some(portal.files["index.html"].clone()));
        assert_eq!(portal.file("mod.rs"), None);
        assert_eq!(portal.file("../mod.rs"), None);
    }

    fn relative(path: &Path) -> String {
        path.strip_prefix(assets()).unwrap().to_str().unwrap().to_owned()
    }

    fn extension(path: &Path) -> &str {
        path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
    }
}
