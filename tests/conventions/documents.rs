//! That documents, the example of settings and dashboards name what exists, and all of it.

use std::collections::BTreeSet;

use crate::conventions::source::{files_below, read, relative, root};

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
fn every_setting_stands_in_the_example_file_and_in_the_readme() {
    let settings = settings();
    assert!(settings.len() > 20, "only {} settings were found in src/config/settings.rs", settings.len());
    // The readme is in force from the day on which it exists.
    let documents = ["docker/.env.example", "README.md"].map(|name| root().join(name));
    for document in documents.into_iter().filter(|document| document.exists()) {
        let words = words(&read(&document));
        let missing: Vec<_> = settings.iter().filter(|setting| !words.contains(*setting)).collect();
        assert!(missing.is_empty(), "{} does not name {missing:?}", relative(&document));
    }
}

#[test]
fn every_metric_stands_on_a_dashboard_and_every_metric_of_a_dashboard_exists() {
    let dashboards = root().join("dashboards");
    if !dashboards.exists() {
        return;
    }
    let metrics = metrics();
    let files = ["json", "yaml", "yml"].map(|extension| files_below(&dashboards, extension)).concat();
    let shown: BTreeSet<String> =
        files.iter().flat_map(|file| words(&read(file))).filter_map(|word| metric(&word)).collect();
    let unseen: Vec<_> = metrics.difference(&shown).collect();
    let unknown: Vec<_> = shown.difference(&metrics).collect();
    assert!(unseen.is_empty() && unknown.is_empty(), "on no dashboard: {unseen:?}\nnot a metric: {unknown:?}");
}

#[test]
fn the_metrics_of_the_source_are_found() {
    let metrics = metrics();
    for name in ["flametree_events_accepted_total", "flametree_delivery_duration_seconds", "flametree_build_info"] {
        assert!(metrics.contains(name), "{name} is not among {metrics:?}");
    }
}

#[test]
fn source_paths_are_found_without_what_surrounds_them() {
    let text = "see `src/queue/mod.rs`, (src/http) and src/store/. But https://example.com/src/other is not ours";
    assert_eq!(source_paths(text), ["src/queue/mod.rs", "src/http", "src/store/"]);
}

/// `src/...` wherever it begins a word.
fn source_paths(text: &str) -> Vec<String> {
    let is_path = |character: char| character.is_alphanumeric() || "/_-.".contains(character);
    let words = text.split(|character| !is_path(character));
    words.filter(|word| word.starts_with("src/")).map(|word| word.trim_end_matches('.').to_owned()).collect()
}

/// Names of variables and metrics.
fn words(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_').map(str::to_owned).collect()
}

fn settings() -> BTreeSet<String> {
    let source = read(&root().join("src/config/settings.rs"));
    let quoted = source.split('"').skip(1).step_by(2).map(str::to_owned);
    quoted.filter(|text| is_variable(text)).collect()
}

fn is_variable(text: &str) -> bool {
    (text.starts_with("FLAMETREE_") || text.starts_with("DATABASE_"))
        && text.chars().all(|character| character.is_ascii_uppercase() || character == '_')
}

/// The metrics by their definitions, `name: Instrument, by Labels => ...`, and those that are named in full.
fn metrics() -> BTreeSet<String> {
    let source = read(&root().join("src/telemetry/metrics.rs"));
    let definitions = source.lines().filter(|line| line.contains(", by ") && line.contains(" => "));
    let defined =
        definitions.filter_map(|line| line.split_once(": ").map(|(name, _)| format!("flametree_{}", name.trim())));
    let production = source.split("#[cfg(test)]").next().unwrap_or_default();
    defined.chain(production.split('"').skip(1).step_by(2).filter_map(metric)).collect()
}

/// The metric that a word of a query names; a histogram's series are its own.
fn metric(word: impl AsRef<str>) -> Option<String> {
    let word = word.as_ref();
    let is_name = |word: &str| word.chars().all(|character| character.is_ascii_lowercase() || character == '_');
    // Not our Rust crate, which log filters name.
    let ours = word.starts_with("flametree_") && !word.starts_with("flametree_notify") && is_name(word);
    let histogram = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| word.strip_suffix(suffix));
    ours.then(|| histogram.unwrap_or(word).to_owned()).filter(|word| word != "flametree_")
}
