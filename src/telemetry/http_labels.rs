//! The metric labels of HTTP requests: the route template, the method and the status class.

use super::labels::Labels;

/// The labels of one HTTP response.
#[derive(Debug, Clone, Copy)]
pub(super) struct HttpAnswer<'a> {
    route: &'a str,
    method: &'static str,
    status_class: &'static str,
}

impl<'a> HttpAnswer<'a> {
    /// A client can send any method, so unknown methods become `other`.
    pub(super) fn new(route: &'a str, method: &str, status: u16) -> Self {
        let methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
        let method = methods.into_iter().find(|known| *known == method).unwrap_or("other");
        let status_class = match status {
            0..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        Self { route, method, status_class }
    }
}

impl Labels for HttpAnswer<'_> {
    const NAMES: &'static [&'static str] = &["route", "method", "status_class"];

    fn values(&self) -> impl AsRef<[&str]> {
        [self.route, self.method, self.status_class]
    }

    fn all() -> Vec<Self> {
        Vec::new()
    }
}
