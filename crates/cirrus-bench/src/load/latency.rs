//! How long requests took.
//!
//! Owns the histogram. Invariant: no latency is left out; one beyond the histogram's range counts
//! as its largest.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told apart from longer ones.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Latencies in nanoseconds, to three digits.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(100, LATENCY_NS_MAX, 3);
        Self(histogram.expect("the bounds are in order and three digits are allowed"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// The latency in microseconds that `percent` of the requests did not exceed.
    #[expect(clippy::cast_precision_loss, reason = "a minute in ns fits 52 bits")]
    pub(crate) fn percentile_us(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::new();
        for us in 1..=1000 {
            latency.record(Duration::from_micros(us));
        }
        assert!((latency.percentile_us(50.0) - 500.0).abs() < 1.0);
        assert!((latency.percentile_us(99.0) - 990.0).abs() < 1.5);
    }
}
