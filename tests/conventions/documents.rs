//! Checks that the documents and the dashboards are complete and name only existing files and metrics.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::conventions::source::{files_below, read, relative, root, rust_files};

#[test]
fn every_source_path_named_in_a_document_exists() {
    let mut missing = Vec::new();
    for document in files_below(root(), "md") {
        for path in source_paths(&read(&document)) {
            if !root().join(&path).exists() {
                missing.push(format!("{} names {path}", relative(&document)));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

#[test]
fn every_test_named_in_a_document_exists() {
    let sources = rust_files(&["src", "tests"]);
    let exists = |name: &str| sources.iter().any(|file| file.text.contains(&format!("fn {name}(")));
    let (mut named, mut missing) = (0, Vec::new());
    for document in files_below(root(), "md") {
        for name in test_names(&read(&document)) {
            named += 1;
            if !exists(&name) {
                missing.push(format!("{} names {name}", relative(&document)));
            }
        }
    }
    assert!(named > 10 && missing.is_empty(), "{named} names of tests\n{}\n", missing.join("\n"));
}

#[test]
fn every_metric_is_on_a_dashboard_and_queries_use_only_existing_metrics() {
    let metrics = metrics();
    let on_dashboards = named_in(&files_below(&root().join("dashboards/grafana"), "json"));
    let in_rules = named_in(&files_below(&root().join("dashboards"), "yaml"));
    assert!(!in_rules.is_empty(), "no rule names a metric");
    let unseen: Vec<_> = metrics.difference(&on_dashboards).collect();
    let unknown: Vec<_> = on_dashboards.union(&in_rules).filter(|name| !metrics.contains(*name)).collect();
    assert!(
        unseen.is_empty() && unknown.is_empty(),
        "metrics on no dashboard: {unseen:?}\nunknown metrics: {unknown:?}"
    );
}

#[test]
fn every_dashboard_shows_restarts_and_alerts_and_links_to_the_others() {
    let dashboards = files_below(&root().join("dashboards/grafana"), "json");
    assert!(dashboards.len() >= 5, "only {dashboards:?} were found");
    for dashboard in dashboards {
        let text = read(&dashboard);
        for part in
            ["flametree_started_timestamp_seconds", "ALERTS{", "\"type\": \"dashboards\"", "\"name\": \"instance\""]
        {
            assert!(text.contains(part), "{} has no {part}", relative(&dashboard));
        }
    }
}

/// The file `tests/deployment/alerts_test.yaml` tests alerts with the time windows of production. The tests in
/// `tests/it/alerts.rs` cause real faults and check that the alerts fire.
#[test]
fn every_alert_is_tested_with_its_time_windows_and_with_a_real_fault() {
    let rules = read(&root().join("dashboards/alerts.yaml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "only {alerts:?} were found");
    let [windows, faults] =
        ["tests/deployment/alerts_test.yaml", "tests/it/alerts.rs"].map(|name| read(&root().join(name)));
    for alert in alerts {
        assert!(windows.contains(&format!("alertname=\"{alert}\"")), "{alert} is not tested with its time windows");
        // One loop tests the three alerts `FlametreeDeliveryFailures...`, so the tests contain only the ends of their names.
        let burn = alert.strip_prefix("FlametreeDeliveryFailures");
        let caused =
            faults.contains(&format!("\"{alert}\"")) || burn.is_some_and(|end| faults.contains(&format!("\"{end}\"")));
        assert!(caused, "{alert} is not tested with a real fault");
    }
}

#[test]
fn finds_the_metrics_in_the_source_code() {
    let metrics = metrics();
    for name in ["flametree_events_accepted_total", "flametree_delivery_duration_seconds", "flametree_build_info"] {
        assert!(metrics.contains(name), "{metrics:?} does not contain {name}");
    }
}

#[test]
fn finds_source_paths_without_the_surrounding_text() {
    let text = "see `src/queue/mod.rs`, (src/http) and src/store/. But https://example.com/src/other is not ours";
    assert_eq!(source_paths(text), ["src/queue/mod.rs", "src/http", "src/store/"]);
}

#[test]
fn finds_test_names_but_ignores_settings() {
    let text = "`a_body_of_8_kib_is_read` (`src/a_b_c_d_e_f.rs`), `idle_in_transaction_session_timeout`, a_b_c_d_e_f";
    assert_eq!(test_names(text), ["a_body_of_8_kib_is_read"]);
}

/// Finds the test names. A test name is in backticks and has at least five underscores. Other names have fewer.
fn test_names(text: &str) -> Vec<String> {
    let is_name = |word: &&str| {
        let has_letters =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
        word.matches('_').count() >= 5 && word.chars().all(has_letters)
    };
    text.split('`').skip(1).step_by(2).filter(is_name).map(str::to_owned).collect()
}

/// The source paths in the text.
fn source_paths(text: &str) -> Vec<String> {
    let is_path = |character: char| character.is_alphanumeric() || "/_-.".contains(character);
    let words = text.split(|character| !is_path(character));
    words.filter(|word| word.starts_with("src/")).map(|word| word.trim_end_matches('.').to_owned()).collect()
}

/// Splits the text into words that may be names of metrics.
fn words(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_').map(str::to_owned).collect()
}

/// The metrics that the source defines as `name: Instrument, by Labels => ...` or mentions in a string literal.
fn metrics() -> BTreeSet<String> {
    let source = read(&root().join("src/telemetry/metrics.rs"));
    let definitions = source.lines().filter(|line| line.contains(", by ") && line.contains(" => "));
    let defined = definitions.filter_map(|line| metric(format!("flametree_{}", line.split_once(": ")?.0.trim())));
    let production = source.split("#[cfg(test)]").next().unwrap_or_default();
    defined.chain(production.split('"').skip(1).step_by(2).filter_map(metric)).collect()
}

/// The metrics that occur in these files.
fn named_in(files: &[PathBuf]) -> BTreeSet<String> {
    files.iter().flat_map(|file| words(&read(file))).filter_map(metric).collect()
}

/// The metric that this word names. For a series of a histogram, returns the histogram.
fn metric(word: impl AsRef<str>) -> Option<String> {
    let word = word.as_ref();
    let is_name = |word: &str| word.chars().all(|character| character.is_ascii_lowercase() || character == '_');
    // The word `flametree_notify` is the name of the Rust crate and not a metric. It occurs in log filters.
    let ours = word.starts_with("flametree_") && !word.starts_with("flametree_notify") && is_name(word);
    let histogram = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| word.strip_suffix(suffix));
    ours.then(|| histogram.unwrap_or(word).to_owned()).filter(|word| word != "flametree_")
}
