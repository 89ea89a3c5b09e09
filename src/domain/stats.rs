//! Statistics of an agent's deliveries: ranges of whole minutes, counts by outcome, and quantiles from buckets of durations.

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};

use super::delivery::Outcome;

/// Number of buckets for each doubling of a duration, starting at 1 microsecond. The SQL function
/// `flametree.duration_bucket` uses the same number.
const BUCKETS_PER_DOUBLING: f64 = 8.0;
/// The maximum relative error of a quantile: half a bucket, 2^(1/16) - 1.
pub const RELATIVE_ERROR: f64 = 0.045;

/// A range of whole minutes in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Range {
    /// All minutes that overlap the given time range; `None` if the range is empty. The range does not contain its end.
    pub fn new(from: DateTime<Utc>, to: DateTime<Utc>) -> Option<Self> {
        let minute = TimeDelta::minutes(1);
        let from = from.duration_trunc(minute).ok()?;
        let floor = to.duration_trunc(minute).ok()?;
        let to = if floor < to { floor.checked_add_signed(minute)? } else { floor };
        (from < to).then_some(Self { from, to })
    }

    pub fn from(self) -> DateTime<Utc> {
        self.from
    }

    /// The end of the range, exclusive.
    pub fn to(self) -> DateTime<Utc> {
        self.to
    }

    /// The start and the end of the whole hours in the range. They are equal if the range contains no whole hour.
    pub fn whole_hours(self) -> (DateTime<Utc>, DateTime<Utc>) {
        let hour = TimeDelta::hours(1);
        let whole = || {
            let floor = self.from.duration_trunc(hour).ok()?;
            let first = if floor < self.from { floor.checked_add_signed(hour)? } else { floor };
            let end = self.to.duration_trunc(hour).ok()?;
            (first < end).then_some((first, end))
        };
        whole().unwrap_or((self.from, self.from))
    }
}

/// The number of deliveries with this outcome and a duration in this bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub outcome: Outcome,
    /// The number of the bucket, or -1 if nothing was sent.
    pub bucket: i16,
    pub deliveries: u64,
}

/// The quantile of the attempts' durations in milliseconds, with the error [`RELATIVE_ERROR`]; `None` if nothing was sent.
pub fn quantile_ms(counts: &[Count], quantile: f64) -> Option<f64> {
    let mut sent: Vec<_> = counts.iter().filter(|count| count.bucket >= 0).collect();
    sent.sort_unstable_by_key(|count| count.bucket);
    let attempts = attempts(counts);
    #[expect(clippy::cast_precision_loss, reason = "a count above 2^53 is more exact than any quantile")]
    let rank = (attempts as f64 * quantile).ceil().max(1.0);
    let mut seen = 0.0;
    for count in sent {
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        let deliveries = count.deliveries as f64;
        seen += deliveries;
        if seen >= rank {
            let microseconds = ((f64::from(count.bucket) + 0.5) / BUCKETS_PER_DOUBLING).exp2();
            return Some(microseconds / 1_000.0);
        }
    }
    None
}

/// The number of deliveries that sent a request.
pub fn attempts(counts: &[Count]) -> u64 {
    counts.iter().filter(|count| count.bucket >= 0).map(|count| count.deliveries).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn bucket(microseconds: f64) -> i16 {
        (0..256).rev().find(|bucket| (f64::from(*bucket) / BUCKETS_PER_DOUBLING).exp2() <= microseconds).unwrap()
    }

    #[test]
    fn a_range_consists_of_whole_minutes() {
        let range = Range::new(at("2026-01-01T00:00:59Z"), at("2026-01-01T00:02:00.001Z")).unwrap();
        assert_eq!((range.from(), range.to()), (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:03:00Z")));
        let minute = Range::new(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:01:00Z")).unwrap();
        assert_eq!(minute.to() - minute.from(), TimeDelta::minutes(1));
        assert_eq!(Range::new(at("2026-01-01T00:01:00Z"), at("2026-01-01T00:01:00Z")), None);
    }

    #[test]
    fn whole_hours_exclude_partial_hours() {
        let hours = |from, to| Range::new(at(from), at(to)).unwrap().whole_hours();
        let day = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        assert_eq!(hours(day.0, day.1), (at(day.0), at(day.1)));
        let edges = hours("2026-01-01T00:01:00Z", "2026-01-01T02:59:00Z");
        assert_eq!(edges, (at("2026-01-01T01:00:00Z"), at("2026-01-01T02:00:00Z")));
        let (first, end) = hours("2026-01-01T00:01:00Z", "2026-01-01T01:30:00Z");
        assert_eq!(first, end);
    }

    #[test]
    fn a_quantile_has_at_most_the_maximum_relative_error() {
        let mut durations: Vec<f64> = (1..2_000_u32).map(|number| f64::from(number).powf(1.7) + 20.0).collect();
        let counts: Vec<_> = durations
            .iter()
            .map(|duration| Count { outcome: Outcome::Delivered, bucket: bucket(*duration), deliveries: 1 })
            .chain([Count { outcome: Outcome::Canceled, bucket: -1, deliveries: 10_000 }])
            .collect();
        durations.sort_by(f64::total_cmp);
        for (quantile, rank) in [(0.01, 20), (0.5, 1_000), (0.95, 1_900), (0.99, 1_980), (1.0, 1_999)] {
            let exact = durations[rank - 1] / 1_000.0;
            let found = quantile_ms(&counts, quantile).unwrap();
            assert!((found / exact - 1.0).abs() <= RELATIVE_ERROR, "{quantile}: {found} for {exact}");
        }
    }

    #[test]
    fn without_attempts_there_is_no_quantile() {
        assert_eq!(quantile_ms(&[], 0.5), None);
        let canceled = [Count { outcome: Outcome::Canceled, bucket: -1, deliveries: 3 }];
        assert_eq!((quantile_ms(&canceled, 0.5), attempts(&canceled)), (None, 0));
    }
}
