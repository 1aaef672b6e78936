//! The metrics registry of a process.
//!
//! Label sets are typed structs, so that cardinality is bounded by the types; metrics never carry asset times parameter
//! as labels (REC-25). Names begin with `sf_` and end in their unit; the crate adds `_total` to counters.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Metric, Registry};

/// Cheap to clone; all clones share one registry.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// A registry whose metrics all carry the label `component`.
    pub fn new(component: &str) -> Self {
        let label = ("component".into(), component.to_owned().into());
        Self(Arc::new(Mutex::new(Registry::with_labels(std::iter::once(label)))))
    }

    /// Registers a metric and hands it back: `let polls = metrics.register("sf_polls", "Polls begun", Counter::default());`
    pub fn register<M: Metric + Clone>(&self, name: &'static str, help: &'static str, metric: M) -> M {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric.clone());
        metric
    }

    /// Registers figures that are read when the metrics are asked for.
    pub fn collect(&self, collector: impl Collector) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(collector));
    }

    /// The OpenMetrics text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn registered_metrics_appear_with_the_component() {
        let metrics = Metrics::new("adapter_1");
        let polls: Counter = metrics.register("sf_polls", "Polls begun", Counter::default());
        polls.inc();
        assert!(metrics.encode().unwrap().contains("sf_polls_total{component=\"adapter_1\"} 1"));
    }
}
