//! Runs the real Prometheus with the files of `dashboards/`, but faster. It scrapes metrics and evaluates rules twice a second,
//! and one second replaces each minute in the rules.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use super::client::Client;
use super::service::{Service, own_address};
use super::temp_dir::TempDir;
use super::waiting::within;

const PORT: u16 = 9090;
/// A time limit that is longer than any alert takes to fire or to end. The limit is long because the service still updates its
/// counts at the usual interval.
const PATIENCE: Duration = Duration::from_mins(1);
/// The durations in the rules, and the shorter durations that replace them in the same order.
const FASTER: &[(&str, &str)] = &[
    ("[5m]", "[5s]"),
    ("[15m]", "[5s]"),
    ("[30m]", "[6s]"),
    ("[1h]", "[7s]"),
    ("[6h]", "[8s]"),
    ("[3d]", "[9s]"),
    ("for: 1m\n", "for: 1s\n"),
    ("for: 2m\n", "for: 1s\n"),
    ("for: 5m\n", "for: 1s\n"),
    ("for: 15m\n", "for: 1s\n"),
    ("for: 30m\n", "for: 1s\n"),
    ("for: 1h\n", "for: 1s\n"),
    ("flametree_operation_overdue_seconds) > 2 * 3600\n", "flametree_operation_overdue_seconds) > 5\n"),
    ("flametree_queue_oldest_ready_seconds) > 60\n", "flametree_queue_oldest_ready_seconds) > 2\n"),
];

pub struct Prometheus {
    address: Ipv4Addr,
    child: Child,
    directory: TempDir,
}

impl Prometheus {
    pub async fn of(services: &[&Service]) -> Self {
        let directory = TempDir::new();
        let alerts = read("alerts.yaml");
        std::fs::write(directory.path().join("alerts.yaml"), faster(&alerts)).unwrap();
        std::fs::write(directory.path().join("prometheus.yaml"), scraping(&read("prometheus.yaml"))).unwrap();
        let address = own_address();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let child = Command::new(program())
            .arg(format!("--config.file={}", at("prometheus.yaml")))
            .arg(format!("--storage.tsdb.path={}", at("data")))
            .arg(format!("--web.listen-address={}", SocketAddr::from((address, PORT))))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let prometheus = Self { address, child, directory };
        prometheus.scrape(services);
        let ready = async || {
            let answer = prometheus.client().request(http::Method::GET, "/-/ready", None).await;
            answer.is_ok_and(|answer| answer.status == 200)
        };
        within(PATIENCE, "Prometheus is ready", ready).await;
        prometheus
    }

    /// Scrapes these processes, starting now.
    pub fn scrape(&self, services: &[&Service]) {
        let targets: Vec<String> = services.iter().map(|service| service.metrics_address().to_string()).collect();
        let aside = self.directory.path().join("targets.new");
        std::fs::write(&aside, json!([{ "targets": targets }]).to_string()).unwrap();
        std::fs::rename(aside, self.directory.path().join("targets.json")).unwrap();
    }

    pub async fn query(&self, query: &str) -> Vec<Value> {
        let query: String = byte_serialize(query.as_bytes()).collect();
        let data = self.get(&format!("/api/v1/query?query={query}")).await;
        data["result"].as_array().expect("the query gives a vector").clone()
    }

    /// Every rule as Prometheus has read and evaluated it.
    pub async fn rules(&self) -> Vec<Value> {
        let data = self.get("/api/v1/rules").await;
        let groups = data["groups"].as_array().unwrap().iter();
        groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    pub async fn is_firing(&self, alert: &str) -> bool {
        let data = self.get("/api/v1/alerts").await;
        let alerts = data["alerts"].as_array().unwrap();
        alerts.iter().any(|found| found["labels"]["alertname"] == alert && found["state"] == "firing")
    }

    /// Repeats the fault until the alert fires. An alert that fired in the last minute also counts, because some alerts end soon.
    pub async fn fires(&self, alert: &str, mut fault: impl AsyncFnMut()) {
        let query = format!("count_over_time(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}[1m])");
        let fires = async || {
            fault().await;
            !self.query(&query).await.is_empty()
        };
        within(PATIENCE, &format!("{alert} fires"), fires).await;
    }

    pub async fn ends(&self, alert: &str) {
        within(PATIENCE, &format!("{alert} ends"), async || !self.is_firing(alert).await).await;
    }

    fn client(&self) -> Client {
        Client::new(SocketAddr::from((self.address, PORT)), "")
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client().get(path).await;
        let mut document = answer.json();
        assert_eq!(document["status"], "success", "{path}: {document}");
        document["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            eprintln!("--- Prometheus\n{log}");
        }
    }
}

/// Shortens every duration in the rules, and fails if one remains unchanged.
fn faster(rules: &str) -> String {
    let rules = FASTER.iter().fold(rules.to_owned(), |rules, (real, fast)| {
        assert!(rules.contains(real), "no rule has {real:?}");
        rules.replace(real, fast)
    });
    let windows = rules.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
    let slow: Vec<_> = windows.map(|(window, _)| window).filter(|window| window.ends_with(['m', 'h', 'd'])).collect();
    assert!(slow.is_empty(), "the windows {slow:?} are not shortened");
    rules
}

/// The configuration with targets from a file instead of DNS.
fn scraping(config: &str) -> String {
    let (before, discovery) = config.split_once("    dns_sd_configs:").expect("targets from DNS");
    assert_eq!(discovery.matches("job_name").count(), 0, "the configuration has one job");
    let from_file = "    file_sd_configs:\n      - files: [targets.json]\n        refresh_interval: 1s\n";
    format!("{}{from_file}", before.replace(": 15s", ": 500ms"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards").join(name)).unwrap()
}

fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/deployment/prometheus/usr/bin/prometheus");
    assert!(path.exists(), "{} is missing: run scripts/install prometheus", path.display());
    path
}
