//! What a cluster's demand costs to rent.
//!
//! Owns what is priced: the machines that were up, and what they used, as sums that divide at
//! will. Knows no trace and no solver.

use std::fmt;
use std::str::FromStr;

use cirrus::plan::{Catalog, Pool, PoolPlan};
use cirrus::{ByteSize, Cores};
use cirrus_trace::report::Report;
use serde::Serialize;

use crate::failure::Failure;

/// The most columns of a line, and where in it the mix begins.
const WIDTH: usize = 100;
const MIX: usize = 48;

/// What 1.0 is in a trace whose amounts are shares of the largest machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Largest {
    cpu: Cores,
    memory: ByteSize,
}

impl FromStr for Largest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected CPU,MEMORY, such as 64,512GiB".to_owned();
        let (cpu, memory) = text.split_once(',').ok_or_else(expected)?;
        let cpu: Cores = cpu.trim().parse().map_err(|error| format!("{error}; {}", expected()))?;
        let memory: ByteSize =
            memory.trim().parse().map_err(|error| format!("{error}; {}", expected()))?;
        match cpu.as_milli() > 0 && memory.bytes() > 0 {
            true => Ok(Self { cpu, memory }),
            false => Err(expected()),
        }
    }
}

impl Largest {
    /// So many of the largest machine, rounded up.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "what is beyond the largest number is refused before"
    )]
    fn times(self, cpu: f64, memory: f64) -> Result<Pool, Failure> {
        let milli = (cpu * f64::from(self.cpu.as_milli())).ceil();
        let bytes = (memory * self.memory.bytes() as f64).ceil();
        if !(milli <= f64::from(u32::MAX) && bytes < u64::MAX as f64) {
            let text = format!(
                "{cpu:.0} times {} and {memory:.0} times {} are more than can be planned; is \
                 --largest what 1.0 is in this trace?",
                self.cpu, self.memory
            );
            return Err(Failure::input(text));
        }
        Ok(Pool::new(Cores::milli(milli as u32), ByteSize::new(bytes as u64)))
    }
}

/// The cheapest mixes. Displays as a table.
#[derive(Debug, Serialize)]
pub(super) struct Priced {
    largest_vcpu: f64,
    largest_memory_bytes: u64,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    plan: PoolPlan,
}

impl Priced {
    /// # Errors
    /// When the trace has no processors, and when a part of the demand is in no offer.
    pub(super) fn new(
        report: &Report,
        largest: Largest,
        catalog: &Catalog,
    ) -> Result<Self, Failure> {
        let (demand, capacity) = (&report.demand, &report.mean.capacity);
        let (Some(cpu), Some(memory)) = (demand.cpu, demand.memory) else {
            let text = "the demand has no price: what processors and memory machines used is not in \
                        this trace; leave out --largest";
            return Err(Failure::input(text));
        };
        let levels = [
            ("machines that were up", capacity.cpu, capacity.memory),
            ("used at most", Some(cpu.peak), Some(memory.peak)),
            ("used for 99 % of the time", Some(cpu.p99), Some(memory.p99)),
            ("used on the mean", Some(cpu.mean), Some(memory.mean)),
        ];
        let mut rows = Vec::new();
        for (what, cpu, memory) in levels {
            if let (Some(cpu), Some(memory)) = (cpu, memory) {
                // A cluster's processors are used all the time, bursts are no use to it.
                let pool = largest.times(cpu, memory)?.with_sustained(true);
                let plan = pool.plan(catalog).map_err(|it| Failure::input(it.to_string()))?;
                rows.push(Row { what, plan });
            }
        }
        let largest_vcpu = f64::from(largest.cpu.as_milli()) / 1000.0;
        Ok(Self { largest_vcpu, largest_memory_bytes: largest.memory.bytes(), rows })
    }
}

/// A mix, in the columns beside what it is for.
fn wrapped(f: &mut fmt::Formatter<'_>, mix: &str) -> fmt::Result {
    let mut column = MIX;
    for (place, part) in mix.split(" + ").enumerate() {
        let plus = if place == 0 { " " } else { " + " };
        if place > 0 && column + plus.len() + part.len() > WIDTH {
            write!(f, "\n{:MIX$}", "")?;
            column = MIX;
        }
        write!(f, "{plus}{part}")?;
        column += plus.len() + part.len();
    }
    Ok(())
}

impl fmt::Display for Priced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The cheapest mix of machines for")?;
        for Row { what, plan } in &self.rows {
            write!(f, "\n  {what:<27}{:>14.2} $/h ", plan.usd_hour)?;
            wrapped(f, &plan.mix())?;
        }
        Ok(())
    }
}
