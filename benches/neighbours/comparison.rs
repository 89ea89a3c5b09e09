//! Compares the figures of tenant B without an attack ("quiet") and under an attack.

use crate::report::Goal::AtMost;
use crate::report::Report;

/// The distribution of a duration, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
}

impl Spread {
    /// If `values` is empty, no event arrived, so all durations are infinite.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        if values.is_empty() {
            values.push(f64::INFINITY);
        }
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        Self { p50: values[last / 2], p99: values[last * 99 / 100], longest: values[last] }
    }

    fn text(&self) -> String {
        format!("{:.1} / {:.1}", self.p50, self.p99)
    }
}

/// The results of B's events in one measurement.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The time from the post of an event to the API's response.
    pub(crate) accept: Spread,
    /// The time from the API's response until the event's request arrived at the receiver.
    pub(crate) receive: Spread,
    /// How many events were refused, or did not arrive at the receiver.
    pub(crate) lost: usize,
}

/// Tenant B's results without an attack and under an attack.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) quiet: Measured,
    pub(crate) attacked: Measured,
    /// How many deliveries of B have an outcome other than `delivered`.
    pub(crate) other_outcomes: usize,
    /// How many requests of B, other than events, were refused during the attack.
    pub(crate) refused: usize,
    /// The longest allowed wait for an event of tenant B, in milliseconds; absent if the attack has no limit.
    pub(crate) longest_goal: Option<f64>,
    /// A remark for the report, such as the responses that A received.
    pub(crate) note: String,
}

/// The maximum p99 under an attack, if the p99 without the attack is `quiet`. Both values are in milliseconds.
fn bound(quiet: f64) -> f64 {
    1.5 * quiet + 10.0
}

impl Comparison {
    pub(crate) fn add_to(&self, report: &mut Report, name: &str) {
        let (quiet, attacked) = (&self.quiet, &self.attacked);
        report.add(format!("{name}: accept p99"), attacked.accept.p99, "ms", AtMost(bound(quiet.accept.p99)));
        report.add(format!("{name}: receive p99"), attacked.receive.p99, "ms", AtMost(bound(quiet.receive.p99)));
        if let Some(goal) = self.longest_goal {
            report.add(format!("{name}: longest wait"), attacked.receive.longest, "ms", AtMost(goal));
        }
        let failed = quiet.lost + attacked.lost + self.other_outcomes + self.refused;
        report.add(format!("{name}: lost, refused or not delivered"), failed as f64, "", AtMost(0.0));
    }

    /// The comparison as a row of the report's table.
    pub(crate) fn row(&self, number: &str, name: &str) -> String {
        let (quiet, attacked) = (&self.quiet, &self.attacked);
        format!(
            "| {number} | {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            quiet.accept.text(),
            attacked.accept.text(),
            quiet.receive.text(),
            attacked.receive.text(),
            attacked.receive.longest.round(),
            quiet.lost + attacked.lost,
            self.other_outcomes,
            self.refused,
            self.note,
        )
    }
}

pub(crate) fn print(rows: &[String]) {
    println!("\nTenant B, p50 / p99 in ms\n");
    println!(
        "| row | attack of A | accept, quiet | accept | receive, quiet | receive | longest | lost | other outcomes | \
         refused | A |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for row in rows {
        println!("{row}");
    }
}
