//! Counters, gauges and histograms whose labels are closed enums.
//!
//! These types wrap the types of `prometheus`. At the start they create a series with the value 0 for every combination of
//! labels, so that an alert on a rate includes the first increment. Callers pass a `Duration`; the metric is in seconds.

use std::marker::PhantomData;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::labels::Labels;

/// Fails only if the definition of the metric is not valid.
type Registered<T> = Result<T, prometheus::Error>;

#[derive(Debug)]
pub(super) struct Counter(IntCounterVec);

impl Counter {
    pub(super) fn register<L: Labels>(registry: &Registry, name: &str, help: &str) -> Registered<Self> {
        let counter = registered(registry, IntCounterVec::new(Opts::new(name, help), L::NAMES)?)?;
        for labels in L::all() {
            counter.with_label_values(labels.values().as_ref());
        }
        Ok(Self(counter))
    }

    pub(super) fn add<L: Labels>(&self, labels: L, count: u64) {
        self.0.with_label_values(labels.values().as_ref()).inc_by(count);
    }
}

#[derive(Debug)]
pub(super) struct Gauge(GaugeVec);

impl Gauge {
    pub(super) fn register<L: Labels>(registry: &Registry, name: &str, help: &str) -> Registered<Self> {
        let gauge = registered(registry, GaugeVec::new(Opts::new(name, help), L::NAMES)?)?;
        for labels in L::all() {
            gauge.with_label_values(labels.values().as_ref());
        }
        Ok(Self(gauge))
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus values are f64; these counts stay far below 2^53")]
    pub(super) fn set<L: Labels>(&self, labels: L, value: i64) {
        self.0.with_label_values(labels.values().as_ref()).set(value as f64);
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus values are f64; these counts stay far below 2^53")]
    pub(super) fn change<L: Labels>(&self, labels: L, by: i64) {
        self.0.with_label_values(labels.values().as_ref()).add(by as f64);
    }

    pub(super) fn set_duration<L: Labels>(&self, labels: L, value: Duration) {
        self.0.with_label_values(labels.values().as_ref()).set(value.as_secs_f64());
    }
}

/// The upper bounds of a histogram's buckets.
pub(super) trait Scale {
    const SECONDS: &'static [f64];
}

/// Buckets for actions that callers wait for, from 0.5 ms to 10 s, which is the maximum timeout of an attempt.
#[derive(Debug)]
pub(super) struct Action;

impl Scale for Action {
    const SECONDS: &'static [f64] = &[
        0.0005, 0.001, 0.002, 0.004, 0.006, 0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 5.0, 7.0, 10.0,
    ];
}

/// Buckets for time in a queue, from 1 ms to 7 days, which is the maximum time that a delivery may wait.
#[derive(Debug)]
pub(super) struct Wait;

impl Scale for Wait {
    const SECONDS: &'static [f64] = &[
        0.001, 0.002, 0.004, 0.006, 0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
        3_600.0, 86_400.0, 604_800.0,
    ];
}

#[derive(Debug)]
pub(super) struct Histogram<S>(HistogramVec, PhantomData<S>);

impl<S: Scale> Histogram<S> {
    pub(super) fn register<L: Labels>(registry: &Registry, name: &str, help: &str) -> Registered<Self> {
        let options = HistogramOpts::new(name, help).buckets(S::SECONDS.to_vec());
        let histogram = registered(registry, HistogramVec::new(options, L::NAMES)?)?;
        for labels in L::all() {
            histogram.with_label_values(labels.values().as_ref());
        }
        Ok(Self(histogram, PhantomData))
    }

    pub(super) fn observe<L: Labels>(&self, labels: L, duration: Duration) {
        self.0.with_label_values(labels.values().as_ref()).observe(duration.as_secs_f64());
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Registered<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Registers a series that is always 1, and whose labels describe the process.
pub(super) fn register_info<const N: usize>(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: [(&str, &str); N],
) -> Registered<()> {
    let info = IntGaugeVec::new(Opts::new(name, help), &labels.map(|(name, _)| name))?;
    info.with_label_values(&labels.map(|(_, value)| value)).set(1);
    registry.register(Box::new(info))
}
