//! The most that was used, most of the time and ever.
//!
//! Owns [`Peaks`], a histogram for each machine, and percentiles weighted by time. Knows nothing of
//! slots and records.
//! Invariant: a share read from a histogram is never below the true one, and less than 1/128 above.

use crate::record::Micros;

/// Steps of a histogram of shares from 0 to 1.
const STEPS: usize = 128;
/// The share of the time of which the 99th percentile speaks.
const P99: f64 = 0.99;

#[derive(Clone)]
struct Machine {
    /// Time by share of memory used: place k holds shares above (k-1)/128 up to k/128.
    time: Box<[u64; STEPS + 1]>,
    peak: f64,
    /// Memory times microseconds.
    capacity: f64,
}

/// How much of their memory machines used, one by one.
#[derive(Clone, Default)]
pub(crate) struct Peaks {
    /// By index; `None` for those that never counted.
    machines: Vec<Option<Machine>>,
}

/// The share of all memory that is beyond every machine's own peak, and beyond its own p99.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beyond {
    pub(crate) peak: f64,
    pub(crate) p99: f64,
}

impl Peaks {
    /// Adds a machine's slot: the time it was up, its memory and what it used, times microseconds.
    pub(crate) fn add(&mut self, machine: usize, up: Micros, capacity: f64, used: f64) {
        if capacity <= 0.0 {
            return;
        }
        if machine >= self.machines.len() {
            self.machines.resize(machine + 1, None);
        }
        let machine = self.machines[machine].get_or_insert_with(|| Machine {
            time: Box::new([0; STEPS + 1]),
            peak: 0.0,
            capacity: 0.0,
        });
        let share = used / capacity;
        machine.time[step(share)] += up.unsigned_abs();
        machine.peak = machine.peak.max(share);
        machine.capacity += capacity;
    }

    /// What is left over where every machine keeps this share of its memory, and what it uses.
    pub(crate) fn beyond(&self, fraction: f64) -> Option<Beyond> {
        let mut capacity = 0.0;
        let mut beyond = Beyond { peak: 0.0, p99: 0.0 };
        for machine in self.machines.iter().flatten() {
            let left = |share: f64| machine.capacity * (1.0 - share.max(fraction)).max(0.0);
            capacity += machine.capacity;
            beyond.peak += left(machine.peak);
            beyond.p99 += left(machine.p99());
        }
        (capacity > 0.0)
            .then(|| Beyond { peak: beyond.peak / capacity, p99: beyond.p99 / capacity })
    }
}

impl Machine {
    #[expect(clippy::cast_precision_loss, reason = "steps are few; 2^53 µs are 285 years")]
    fn p99(&self) -> f64 {
        let all: u64 = self.time.iter().sum();
        let mut time = 0;
        for (step, of_step) in self.time.iter().enumerate() {
            time += of_step;
            if time as f64 >= P99 * all as f64 {
                return step as f64 / STEPS as f64;
            }
        }
        1.0
    }
}

/// The place of a share in a histogram.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a whole number between 0 and 128"
)]
fn step(share: f64) -> usize {
    (share * STEPS as f64).ceil().clamp(0.0, STEPS as f64) as usize
}

/// Peak, 99th percentile and mean of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Levels {
    pub(crate) peak: f64,
    pub(crate) p99: f64,
    pub(crate) mean: f64,
}

/// Of values that held for times; the percentile is the least value that was not exceeded for 99 % of
/// the time. Values are not below 0.
///
/// It goes over the series some 60 times and copies nothing: among numbers that are not negative the
/// order of the bits is that of the numbers, and the percentile's are found by halving.
#[expect(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
pub(crate) fn levels(series: impl Iterator<Item = (f64, Micros)> + Clone) -> Option<Levels> {
    let all: Micros = series.clone().map(|(_, time)| time).sum();
    if all <= 0 {
        return None;
    }
    let mean = series.clone().map(|(value, time)| value * time as f64).sum::<f64>() / all as f64;
    let peak = series.clone().map(|(value, _)| value).fold(0.0, f64::max);
    let (mut low, mut high) = (0, peak.to_bits());
    while low < high {
        let middle = low + (high - low) / 2;
        let held = series.clone().filter(|(value, _)| value.to_bits() <= middle);
        let until: Micros = held.map(|(_, time)| time).sum();
        match until as f64 >= P99 * all as f64 {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Some(Levels { peak, p99: f64::from_bits(low), mean })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_up_by_less_than_a_step() {
        for share in [0.0, 1e-9, 1.0 / 128.0, 0.0079, 0.5, 0.501, 0.999, 1.0] {
            let up = f64::from(u32::try_from(step(share)).unwrap()) / 128.0;
            assert!(up >= share && up < share + 1.0 / 128.0, "{share} became {up}");
        }
        assert_eq!(step(7.0), 128);
    }

    #[test]
    fn a_machines_peak_is_exact_and_its_p99_holds_for_99_percent_of_its_time() {
        let mut peaks = Peaks::default();
        // 0.25 for 98 units, 0.5 for 1, 0.75 for 1: the 99th percentile is 0.5.
        for (up, share) in [(98, 0.25), (1, 0.5), (1, 0.75)] {
            peaks.add(3, up, 4.0 * up as f64, 4.0 * share * up as f64);
        }
        assert_eq!(peaks.beyond(0.0), Some(Beyond { peak: 0.25, p99: 0.5 }));
        assert_eq!(peaks.beyond(0.625), Some(Beyond { peak: 0.25, p99: 0.375 }));
        assert_eq!(Peaks::default().beyond(0.0), None);
    }

    #[test]
    fn percentiles_are_weighted_by_time() {
        let series = |short| [(1.0, 990 - short), (8.0, short), (4.0, 10)];
        let levels = |short| levels(series(short).into_iter()).unwrap();
        assert_eq!(levels(0), Levels { peak: 8.0, p99: 1.0, mean: 1.03 });
        assert_eq!(levels(5).p99, 4.0);
        assert_eq!(levels(20).p99, 8.0);
        assert_eq!(super::levels([(1.0, 0)].into_iter()), None);
    }
}
