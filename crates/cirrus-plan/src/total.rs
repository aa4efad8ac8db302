//! What many tasks need together.
//!
//! Owns [`Total`]. Knows no machine: adding up is no plan, for a demand does not split.
//! Every minimum is at most its maximum.

use std::collections::BTreeMap;
use std::fmt;

use cirrus_units::{ByteRate, ByteSize};

use crate::demand::{CpuKind, Demand};

/// The sum over tasks, each with its fewest and with its most replicas.
///
/// Counts of bytes stop at 16 EiB. Costs one step per demand.
///
/// ```
/// use cirrus_plan::{Demand, Replicas, Total};
/// let decode = Demand::default().with_replicas(Replicas::new(1, 64)?);
/// let total = Total::of([&decode, &Demand::default()]);
/// assert_eq!(total.to_string(), "2 to 65 replicas: 2 to 65 cores, 1 GiB to 32.50 GiB memory");
/// # Ok::<(), cirrus_plan::ReplicasError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Total {
    /// Copies of tasks.
    pub replicas: Span<u64>,
    /// Processors used all the time, in thousandths.
    pub sustained_millicores: Span<u64>,
    /// Processors used now and then, in thousandths.
    pub burst_millicores: Span<u64>,
    /// Main memory.
    pub memory: Span<ByteSize>,
    /// Accelerators by kind; the kind `None` is "any".
    pub gpus: BTreeMap<Option<String>, Span<u64>>,
    /// Local disk.
    pub disk: Span<ByteSize>,
    /// Network bandwidth.
    pub network: Span<ByteRate>,
}

impl Total {
    /// Adds up these demands.
    pub fn of<'a>(demands: impl IntoIterator<Item = &'a Demand>) -> Self {
        let mut total = Self::default();
        for demand in demands {
            total.add(demand);
        }
        total
    }

    fn add(&mut self, demand: &Demand) {
        let replicas =
            Span { min: u64::from(demand.replicas.min()), max: u64::from(demand.replicas.max()) };
        let more = |old: u64, each: u64, times: u64| old.saturating_add(each.saturating_mul(times));
        let grow = |old: &mut Span<u64>, each: u64| {
            *old = old.with(replicas, |old, times| more(old, each, times));
        };
        grow(&mut self.replicas, 1);
        let cores = match demand.cpu.kind {
            CpuKind::Sustained => &mut self.sustained_millicores,
            CpuKind::Burst => &mut self.burst_millicores,
        };
        grow(cores, u64::from(demand.cpu.cores.as_milli()));
        if let Some(gpu) = &demand.gpu {
            let kind = gpu.kind().map(String::from);
            grow(self.gpus.entry(kind).or_default(), u64::from(gpu.count()));
        }
        for (old, each) in [(&mut self.memory, demand.memory), (&mut self.disk, demand.disk)] {
            *old = old
                .with(replicas, |old, times| ByteSize::new(more(old.bytes(), each.bytes(), times)));
        }
        let each = demand.network.bytes_per_second();
        self.network = self.network.with(replicas, |old, times| {
            ByteRate::per_second(more(old.bytes_per_second(), each, times))
        });
    }
}

impl fmt::Display for Total {
    /// One line; what no task asks for is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:", self.replicas, plural(self.replicas, 1, "replica", "replicas"))?;
        let mut separator = " ";
        let mut item = |text: fmt::Arguments<'_>| {
            let result = write!(f, "{separator}{text}");
            separator = ", ";
            result
        };
        for (cores, burst) in [(self.sustained_millicores, ""), (self.burst_millicores, "burst ")] {
            if cores.max > 0 {
                let noun = plural(cores, 1000, "core", "cores");
                item(format_args!("{} {burst}{noun}", cores.map(Millicores)))?;
            }
        }
        if self.memory.max > ByteSize::default() {
            item(format_args!("{} memory", self.memory))?;
        }
        for (kind, count) in &self.gpus {
            let noun = plural(*count, 1, "GPU", "GPUs");
            match kind {
                Some(kind) => item(format_args!("{count} {kind} {noun}"))?,
                None => item(format_args!("{count} {noun}"))?,
            }
        }
        if self.disk.max > ByteSize::default() {
            item(format_args!("{} disk", self.disk))?;
        }
        if self.network.max > ByteRate::default() {
            item(format_args!("{} network", self.network))?;
        }
        Ok(())
    }
}

/// The least and the most of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span<T> {
    /// With every task at its fewest replicas.
    pub min: T,
    /// With every task at its most replicas.
    pub max: T,
}

impl<T: Copy> Span<T> {
    fn map<U>(self, to: impl Fn(T) -> U) -> Span<U> {
        Span { min: to(self.min), max: to(self.max) }
    }

    fn with<U: Copy>(self, other: Span<U>, join: impl Fn(T, U) -> T) -> Self {
        Self { min: join(self.min, other.min), max: join(self.max, other.max) }
    }
}

impl<T: fmt::Display + PartialEq> fmt::Display for Span<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            self.min.fmt(f)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

/// Thousandths of a core beyond what [`cirrus_units::Cores`] holds: it ends at four million cores.
#[derive(PartialEq)]
struct Millicores(u64);

impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 / 1000)?;
        match self.0 % 1000 {
            0 => Ok(()),
            rest => write!(f, ".{}", format!("{rest:03}").trim_end_matches('0')),
        }
    }
}

fn plural(
    count: Span<u64>,
    one: u64,
    singular: &'static str,
    plural: &'static str,
) -> &'static str {
    if count == (Span { min: one, max: one }) { singular } else { plural }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::demand::{Cpu, Gpu, Replicas};
    use cirrus_units::Cores;
    use proptest::prelude::*;

    #[test]
    fn kinds_are_added_up_apart() {
        let burst = Demand::default().with_cpu(Cpu::burst(Cores::milli(250)));
        let any = Demand::default().with_gpu(Gpu::new(NonZeroU32::MIN));
        let h100 = any.clone().with_gpu(Gpu::new(NonZeroU32::MIN).of_kind("h100"));
        let h100 = h100.with_replicas(Replicas::new(2, 2).unwrap());
        assert_eq!(
            Total::of([&burst, &any, &h100]).to_string(),
            "4 replicas: 3 cores, 0.25 burst cores, 2 GiB memory, 1 GPU, 2 h100 GPUs"
        );
    }

    #[test]
    fn absurd_demands_stop_at_the_largest_number() {
        let absurd = Demand::default()
            .with_cpu(Cpu::sustained(Cores::milli(u32::MAX)))
            .with_memory(ByteSize::new(u64::MAX))
            .with_replicas(Replicas::new(1, Replicas::LIMIT).unwrap());
        let total = Total::of([&absurd, &absurd]);
        assert_eq!(total.memory.max, ByteSize::new(u64::MAX));
        assert_eq!(total.sustained_millicores.max, 2 * 65_536 * u64::from(u32::MAX));
    }

    proptest! {
        #[test]
        fn the_total_is_the_sum_of_each_replica(
            tasks in proptest::collection::vec((1u32..5000, 0u64..1 << 40, 1u32..9, 0u32..9), 0..6)
        ) {
            let demands: Vec<Demand> = tasks
                .iter()
                .map(|&(milli, bytes, min, more)| {
                    Demand::default()
                        .with_cpu(Cpu::sustained(Cores::milli(milli)))
                        .with_memory(ByteSize::new(bytes))
                        .with_replicas(Replicas::new(min, min + more).unwrap())
                })
                .collect();
            let total = Total::of(&demands);
            let (mut milli, mut bytes) = (0, 0);
            for demand in &demands {
                for _ in 0..demand.replicas.max() {
                    milli += u64::from(demand.cpu.cores.as_milli());
                    bytes += demand.memory.bytes();
                }
            }
            prop_assert_eq!(total.sustained_millicores.max, milli);
            prop_assert_eq!(total.memory.max, ByteSize::new(bytes));
            prop_assert!(total.memory.min <= total.memory.max);
        }
    }
}
