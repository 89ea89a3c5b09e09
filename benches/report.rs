//! The results: a printed table, and a JSON file to keep.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// There is no goal. The figure is shown only for comparison.
    Shown,
}

#[derive(Debug)]
struct Figure {
    name: String,
    measured: f64,
    unit: &'static str,
    goal: Goal,
}

impl Figure {
    fn verdict(&self) -> &'static str {
        match self.goal {
            Goal::AtLeast(goal) if self.measured >= goal => "ok",
            Goal::AtMost(goal) if self.measured <= goal => "ok",
            Goal::AtLeast(_) | Goal::AtMost(_) => "SHORT",
            Goal::Shown => "",
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::AtLeast(goal) => format!(">= {}", number(goal)),
            Goal::AtMost(goal) => format!("<= {}", number(goal)),
            Goal::Shown => String::new(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure and prints it at once, because a run takes minutes.
    pub(crate) fn add(&mut self, name: impl Into<String>, measured: f64, unit: &'static str, goal: Goal) {
        let figure = Figure { name: name.into(), measured, unit, goal };
        eprintln!("{}: {} {} {}", figure.name, number(measured), unit, figure.verdict());
        self.figures.push(figure);
    }

    pub(crate) fn is_short(&self) -> bool {
        self.figures.iter().any(|figure| figure.verdict() == "SHORT")
    }

    pub(crate) fn print(&self) {
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
        println!("\n{:width$}  {:>10}  {:12}  {:>11}", "figure", "measured", "unit", "must reach");
        for figure in &self.figures {
            let Figure { name, measured, unit, .. } = figure;
            println!(
                "{name:width$}  {:>10}  {unit:12}  {:>11}  {}",
                number(*measured),
                figure.goal(),
                figure.verdict()
            );
        }
    }

    /// Writes `benches/results/<date>.json`, or `<date>-quick.json`.
    pub(crate) fn write(&self, postgres: &str, date: &str, quick: bool) {
        let figure = |figure: &Figure| {
            json!({ "figure": figure.name, "measured": figure.measured, "unit": figure.unit, "must_reach": figure.goal(),
                "verdict": figure.verdict() })
        };
        let figures: Vec<Value> = self.figures.iter().map(figure).collect();
        let peers: Vec<&str> = crate::peers::PEERS.iter().map(|peer| peer.name).collect();
        let result = json!({
            "date": date, "quick": quick,
            "machine": machine(),
            "versions": { "postgresql": postgres, "rustc": output("rustc", &["--version"]),
                "node": output("node", &["--version"]), "peers": peers, "commit": output("git", &["rev-parse", "--short", "HEAD"]) },
            "figures": figures,
        });
        let name = if quick { format!("{date}-quick.json") } else { format!("{date}.json") };
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/results").join(name);
        std::fs::write(&path, serde_json::to_string_pretty(&result).unwrap() + "\n").unwrap();
        println!("\nwritten to {}", path.display());
    }
}

fn machine() -> Value {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "cpu": model.trim_start_matches([' ', '\t', ':']), "cores": std::thread::available_parallelism().unwrap().get(),
        "memory_mib": kibibytes.map(|kibibytes| kibibytes / 1024), "load_at_end": load.trim(),
    })
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Formats a number of at least 100 without decimals, and a smaller one with two.
fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
