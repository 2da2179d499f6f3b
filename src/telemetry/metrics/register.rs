//! Registers metrics under the prefix that all of them have. Names, help texts and labels come in, the metrics go out.

use prometheus::{
    CounterVec, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

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

    /// Histograms with these upper bounds. Each bound costs a series for each set of labels.
    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        bounds: &[f64],
    ) -> HistogramVec {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(bounds.to_vec());
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
