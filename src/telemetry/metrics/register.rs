//! Registers metrics under the prefix that all of them have. Names, help texts and labels come in, the metrics go out.

use prometheus::{
    CounterVec, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// The upper bounds of histograms, in seconds. They reach from a decode on a fast machine to a stream that hardly lives.
const SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5,
    1.0, 2.5,
];

/// The registry that metrics are added to.
pub(super) struct Register<'a> {
    pub(super) registry: &'a Registry,
}

impl Register<'_> {
    pub(super) fn add(&self, collector: impl prometheus::core::Collector + 'static) {
        self.registry
            .register(Box::new(collector))
            .expect("names are registered once, because each is written once above");
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("twinsight_{name}"), help)
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let vector = IntCounterVec::new(Self::opts(name, help), labels)
            .expect("the name is valid, because it is a literal above");
        self.add(vector.clone());
        vector
    }

    pub(super) fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        let vector = CounterVec::new(Self::opts(name, help), labels)
            .expect("the name is valid, because it is a literal above");
        self.add(vector.clone());
        vector
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let vector = IntGaugeVec::new(Self::opts(name, help), labels)
            .expect("the name is valid, because it is a literal above");
        self.add(vector.clone());
        vector
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(SECONDS.to_vec());
        let vector = HistogramVec::new(opts, labels)
            .expect("the name is valid, because it is a literal above");
        self.add(vector.clone());
        vector
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        let counter = IntCounter::with_opts(Self::opts(name, help))
            .expect("the name is valid, because it is a literal above");
        self.add(counter.clone());
        counter
    }

    pub(super) fn number(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::with_opts(Self::opts(name, help))
            .expect("the name is valid, because it is a literal above");
        self.add(gauge.clone());
        gauge
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let gauge = IntGauge::with_opts(Self::opts(name, help))
            .expect("the name is valid, because it is a literal above");
        self.add(gauge.clone());
        gauge
    }
}
