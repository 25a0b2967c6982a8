//! Writes single figures as OpenMetrics.

use std::{fmt, time::Duration};

use greenprof_runtime::world::Distribution;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeMetric, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

pub(super) struct Writer<'e>(DescriptorEncoder<'e>);

impl<'e> Writer<'e> {
    pub fn new(encoder: DescriptorEncoder<'e>) -> Self {
        Self(encoder)
    }

    /// A number that only grows; `_total` is added to its name.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counter_with(name, help, None, value)
    }

    /// The same, of another type or with a unit, which is added to the name.
    pub fn counter_with<N: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: N,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// Several of them, told apart by a label.
    pub fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, usize)]) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (which, value) in values {
            ConstGauge::new(*value as f64).encode(encoder.encode_family(&[(label, *which)])?)?;
        }
        Ok(())
    }

    /// Counters, told apart by a label.
    pub fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (which, value) in values {
            ConstCounter::new(*value).encode(encoder.encode_family(&[(label, *which)])?)?;
        }
        Ok(())
    }

    /// Durations in seconds. Of the distribution's buckets, four are told as one: bounds are powers of two of a
    /// microsecond, more or less.
    pub fn histogram(&mut self, name: &str, help: &str, of: &Distribution) -> fmt::Result {
        let mut buckets = Vec::new();
        let mut open = 0;
        for (index, (bound, count)) in of.buckets().enumerate() {
            open += count;
            if bound == Duration::MAX || index % 4 == 0 {
                let bound = if bound == Duration::MAX { f64::INFINITY } else { bound.as_secs_f64() };
                buckets.push((bound, std::mem::take(&mut open)));
            }
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut encoder = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        encoder.encode_histogram::<NoLabelSet>(of.sum().as_secs_f64(), count, &buckets, None)
    }
}
