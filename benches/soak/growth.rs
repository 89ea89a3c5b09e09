//! Detects growth: compares the median of an early part of the run with the median of the last part, so that single peaks do not
//! count.
//!
//! The first tenth of the run is ignored, because caches fill and tables reach their usual size. The next fifth is compared
//! with the last fifth. In a short run, more than a tenth is ignored, and the compared parts are shorter than a fifth.

/// The limit for the late median: the early median times `factor`, plus `slack`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) factor: f64,
    /// An absolute amount, so small values can vary more.
    pub(crate) slack: f64,
}

/// The two medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Growth {
    pub(crate) early: f64,
    pub(crate) late: f64,
}

impl Growth {
    /// Compares the medians of equally spaced values. Ignores at least the first `start` values. Returns `None` if there are
    /// too few.
    pub(crate) fn of(values: &[f64], start: usize) -> Option<Self> {
        let first = values.len().div_ceil(10).max(start);
        let rest = values.get(first..)?;
        let part = (values.len() / 5).min(rest.len() / 2);
        (part > 0).then(|| Self { early: median(&rest[..part]), late: median(&rest[rest.len() - part..]) })
    }

    pub(crate) fn is_within(&self, tolerance: Tolerance) -> bool {
        self.late <= tolerance.most(self.early)
    }
}

impl Tolerance {
    pub(crate) fn most(self, early: f64) -> f64 {
        early * self.factor + self.slack
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
