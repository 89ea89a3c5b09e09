//! What tenant B felt: its figures quiet and under an attack, side by side.

use crate::report::Goal::AtMost;
use crate::report::Report;

/// In milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
}

impl Spread {
    /// Of nothing all is infinite: it did not end.
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

/// What B's events met in one measurement.
#[derive(Debug)]
pub(crate) struct Measured {
    /// From the post to its answer.
    pub(crate) accept: Spread,
    /// From the answer to the request at the receiver.
    pub(crate) receive: Spread,
    /// Events that were refused or never came.
    pub(crate) lost: usize,
}

/// B without and with an attack.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) quiet: Measured,
    pub(crate) attacked: Measured,
    /// Deliveries of B with another outcome than `delivered`.
    pub(crate) other_outcomes: usize,
    /// Other requests of B that were refused during the attack.
    pub(crate) refused: usize,
    /// The most that an event of B may wait, where this has a goal.
    pub(crate) longest_goal: Option<f64>,
    /// What A got.
    pub(crate) note: String,
}

/// How far a p99 under attack may be above the quiet one.
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

    /// A line of the table.
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
