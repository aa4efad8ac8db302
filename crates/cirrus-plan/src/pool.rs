//! The cheapest machines for processors and memory that divide at will.
//!
//! Owns [`Pool`] and its plan: the paper's question, where only sums count. Knows no task.
//! A plan of whole machines covers the demand, exactly; its bound never exceeds its cost.

mod cover;
mod figure;

use std::fmt;

use cirrus_units::{ByteSize, Cores};
use serde::Serialize;

use crate::catalog::Catalog;
use crate::money::UsdPerHour;
use crate::offer::{Microcores, Offer};
use crate::packing::Resource;
use cover::Cover;
pub(crate) use cover::micros;
pub use figure::{Mix, compare, pool_figure};

/// So many processors, so much memory, so many accelerators, in pieces of any size.
///
/// ```
/// use cirrus_plan::{Catalog, Pool};
/// let paper = Catalog::built_in("paper").expect("built in");
/// let mix = paper.only(&["r4.large".into(), "t2.nano".into()])?;
/// let plan = Pool::new("100".parse()?, "100GiB".parse()?).plan(&mix)?;
/// assert_eq!(format!("{:.3}", plan.usd_hour), "1.042");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pool {
    /// Processors.
    pub cpu: Cores,
    /// Memory.
    pub memory: ByteSize,
    /// Accelerators of any kind.
    pub gpus: u32,
    /// Whether parts of machines may be rented: the figure that papers quote, nothing to buy.
    pub fractional: bool,
    /// Whether the processors are used all the time.
    pub sustained: bool,
}

impl Pool {
    /// Whole machines, used in bursts.
    pub fn new(cpu: Cores, memory: ByteSize) -> Self {
        Self { cpu, memory, gpus: 0, fractional: false, sustained: false }
    }

    /// The same, in parts of machines or in whole ones.
    #[must_use]
    pub fn with_fractional(mut self, fractional: bool) -> Self {
        self.fractional = fractional;
        self
    }

    /// The same, with processors used all the time or now and then.
    #[must_use]
    pub fn with_sustained(mut self, sustained: bool) -> Self {
        self.sustained = sustained;
        self
    }

    /// The same, with so many accelerators.
    #[must_use]
    pub fn with_gpus(mut self, gpus: u32) -> Self {
        self.gpus = gpus;
        self
    }

    /// The cheapest mix of the catalogue's offers on demand. Functions are left out but where the
    /// paper counts them. A mix beyond the quotas of its offers says so as a warning.
    ///
    /// # Errors
    /// When a part of the demand is in no offer.
    pub fn plan(&self, catalog: &Catalog) -> Result<PoolPlan, PoolError> {
        let cover = self.cover(catalog, self.sustained)?;
        let offers = self.offers(catalog);
        let parts: Vec<PoolPart> = (cover.counts.iter().zip(&offers))
            .filter(|(count, _)| **count > 0.0)
            .map(|(&count, offer)| PoolPart::new(count, offer))
            .collect();
        let need =
            [Microcores::from(self.cpu).0, self.memory.bytes(), u64::from(self.gpus)].map(to_f64);
        let cpu = if self.sustained { Resource::SustainedCpu } else { Resource::Cpu };
        let paid = |at: usize| cover.prices[at] * need[at];
        let dearest = (0..need.len()).max_by(|&a, &b| paid(a).total_cmp(&paid(b)));
        Ok(PoolPlan {
            demand: self.to_string(),
            binding: dearest.map(|at| [cpu, Resource::Memory, Resource::Gpu][at]),
            usd_hour: cover.cost,
            bound: cover.bound,
            gap: gap(cover.cost, cover.bound),
            warning: join(self.warning(catalog, &parts), over_quota(&cover.counts, &offers)),
            shadow: Shadow {
                usd_hour_vcpu: cover.prices[0] * 1e6,
                usd_hour_gib: cover.prices[1] * gib(1),
                usd_hour_gpu: cover.prices[2],
            },
            parts,
        })
    }

    fn offers<'a>(&self, catalog: &'a Catalog) -> Vec<&'a Offer> {
        let counts = |offer: &&Offer| offer.is_machine() || catalog.pools_functions();
        catalog.offers().iter().filter(counts).collect()
    }

    fn cover(&self, catalog: &Catalog, sustained: bool) -> Result<Cover, PoolError> {
        let need = [Microcores::from(self.cpu).0, self.memory.bytes(), u64::from(self.gpus)];
        let holds = |offer: &&Offer| {
            let cpu = if sustained { offer.sustained } else { offer.cpu };
            let gpus = offer.gpu.as_ref().map_or(0, |gpu| u64::from(gpu.count()));
            (offer.price.plus(offer.charges), [cpu.0, offer.allocatable.bytes(), gpus])
        };
        let types: Vec<_> = self.offers(catalog).iter().map(holds).collect();
        let names = ["processors", "memory", "GPUs"];
        for (at, name) in names.iter().enumerate() {
            if need[at] > 0 && !types.iter().any(|(_, holds)| holds[at] > 0) {
                return Err(PoolError { part: name, catalog: catalog.name().into() });
            }
        }
        Ok(Cover::new(&types, need, self.fractional))
    }

    /// What is said before anyone pays: how much of the processors lasts, and what all would cost.
    fn warning(&self, catalog: &Catalog, parts: &[PoolPart]) -> Option<String> {
        let lasting: f64 = parts.iter().map(|part| part.count * part.sustained_vcpu).sum();
        if self.sustained || lasting >= Microcores::from(self.cpu).as_cores() {
            return None;
        }
        let first =
            format!("these machines have {} vCPUs in bursts and sustain {lasting:.1}", self.cpu);
        let lasting = self.clone().with_sustained(true);
        let Ok(plan) = lasting.plan(catalog) else {
            return Some(format!("{first}; no machine here sustains any (`--sustained`)"));
        };
        Some(format!(
            "{first}; all the time, the demand costs {:.2} $/h: {} (`--sustained`)",
            plan.usd_hour,
            plan.mix()
        ))
    }
}

/// Which quotas a mix exceeds.
fn over_quota(counts: &[f64], offers: &[&Offer]) -> Option<String> {
    let over = counts.iter().zip(offers).filter_map(|(&count, offer)| {
        let quota = offer.quota.filter(|&quota| count > f64::from(quota))?;
        Some(format!("{} {offer} are beyond its quota of {quota}", round(count)))
    });
    let over: Vec<String> = over.collect();
    (!over.is_empty()).then(|| over.join("; "))
}

fn join(first: Option<String>, second: Option<String>) -> Option<String> {
    let both: Vec<String> = first.into_iter().chain(second).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.sustained { "sustained vCPUs" } else { "vCPUs" };
        write!(f, "{} {kind}, {}", self.cpu, self.memory)?;
        if self.gpus > 0 {
            write!(f, ", {} GPUs", self.gpus)?;
        }
        Ok(())
    }
}

/// What to rent for a [`Pool`]. Displays as money first, then the paper's Table 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolPlan {
    /// The demand, in words.
    pub demand: String,
    /// What the mix costs an hour.
    pub usd_hour: UsdPerHour,
    /// What no mix costs less than.
    pub bound: UsdPerHour,
    /// How much of the cost lies above the bound.
    pub gap: f64,
    /// The resource that most is paid for.
    pub binding: Option<Resource>,
    /// What is rented.
    #[serde(rename = "machines")]
    pub parts: Vec<PoolPart>,
    /// What one more of each would cost, in parts of machines.
    pub shadow: Shadow,
    /// Why the mix may not do what is meant.
    pub warning: Option<String>,
}

impl PoolPlan {
    /// `3 r4.large + 109 t2.nano`
    pub fn mix(&self) -> String {
        let part = |part: &PoolPart| format!("{} {}", round(part.count), part.offer);
        self.parts.iter().map(part).collect::<Vec<_>>().join(" + ")
    }
}

impl fmt::Display for PoolPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:.3} $/h: {}", self.usd_hour, self.mix())?;
        writeln!(f, "for {}; no mix costs less than {:.3} $/h", self.demand, self.bound)?;
        if let Some(warning) = &self.warning {
            // Within eighty columns.
            writeln!(f, "warning: {}", warning.replace("; ", ";\n  "))?;
        }
        writeln!(
            f,
            "\n{:<16}{:>8}{:>8}{:>11}{:>9}{:>10}{:>9}{:>9}",
            "offer", "count", "vCPU", "sustained", "GiB", "$/h", "$/vCPU", "$/GiB"
        )?;
        for part in &self.parts {
            let (offer, count, price) = (&part.offer, round(part.count), part.usd_hour);
            write!(f, "{offer:<16}{count:>8}{:>8}{:>11.2}", part.vcpu, part.sustained_vcpu)?;
            write!(f, "{:>9}{price:>10}", round(part.memory_gib))?;
            writeln!(f, "{:>9.4}{:>9.4}", part.usd_hour_vcpu, part.usd_hour_gib)?;
        }
        let Shadow { usd_hour_vcpu, usd_hour_gib, usd_hour_gpu } = self.shadow;
        write!(f, "\none more vCPU {usd_hour_vcpu:.4} $/h, one more GiB {usd_hour_gib:.4} $/h")?;
        if usd_hour_gpu > 0.0 {
            write!(f, ", one more GPU {usd_hour_gpu:.4} $/h")?;
        }
        match self.binding {
            Some(binding) => writeln!(f, "\nmost is paid for {binding}"),
            None => writeln!(f),
        }
    }
}

/// One offer of a mix: the paper's Table 1 for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolPart {
    /// The offer's name.
    pub offer: String,
    /// How many; whole unless parts were asked for.
    pub count: f64,
    /// Processors of one, in bursts.
    pub vcpu: f64,
    /// Processors of one, all the time.
    pub sustained_vcpu: f64,
    /// Memory of one that is left for tasks.
    pub memory_gib: f64,
    /// The price of one, with charges.
    pub usd_hour: UsdPerHour,
    /// The price of one by processor.
    pub usd_hour_vcpu: f64,
    /// The price of one by GiB.
    pub usd_hour_gib: f64,
}

impl PoolPart {
    fn new(count: f64, offer: &Offer) -> Self {
        let price = offer.price.plus(offer.charges);
        let memory_gib = 1.0 / gib(1) * to_f64(offer.allocatable.bytes());
        Self {
            offer: offer.sku.clone(),
            count,
            vcpu: offer.cpu.as_cores(),
            sustained_vcpu: offer.sustained.as_cores(),
            memory_gib,
            usd_hour: price,
            usd_hour_vcpu: price.as_dollars() / offer.cpu.as_cores(),
            usd_hour_gib: price.as_dollars() / memory_gib,
        }
    }
}

/// What one more of each resource would cost an hour; 0 for what is there in plenty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Shadow {
    /// One more processor.
    pub usd_hour_vcpu: f64,
    /// One more GiB of memory.
    pub usd_hour_gib: f64,
    /// One more accelerator.
    pub usd_hour_gpu: f64,
}

/// A part of a demand that no offer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolError {
    part: &'static str,
    catalog: String,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, catalog } = self;
        write!(f, "no offer of the catalogue `{catalog}` has {part} for this demand; try another")
    }
}

impl std::error::Error for PoolError {}

/// The share of `cost` above `bound`.
pub(crate) fn gap(cost: UsdPerHour, bound: UsdPerHour) -> f64 {
    if cost <= bound { 0.0 } else { (cost.as_dollars() - bound.as_dollars()) / cost.as_dollars() }
}

/// Bytes in so many GiB.
fn gib(count: u64) -> f64 {
    to_f64(count << 30)
}

#[expect(clippy::cast_precision_loss, reason = "amounts of machines are far below 2^52")]
pub(crate) fn to_f64(amount: u64) -> f64 {
    amount as f64
}

/// At most two decimals, none for a whole number.
fn round(count: f64) -> f64 {
    (count * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(skus: &[&str], fractional: bool, sustained: bool) -> PoolPlan {
        let skus: Vec<String> = skus.iter().map(ToString::to_string).collect();
        let catalog = Catalog::built_in("paper").unwrap().only(&skus).unwrap();
        Pool::new(Cores::milli(100_000), ByteSize::gib(100))
            .with_fractional(fractional)
            .with_sustained(sustained)
            .plan(&catalog)
            .unwrap()
    }

    fn cost(skus: &[&str], fractional: bool, sustained: bool) -> String {
        format!("{:.3}", plan(skus, fractional, sustained).usd_hour)
    }

    #[test]
    fn the_papers_figure_comes_out() {
        assert_eq!(cost(&["m4.large"], false, false), "5.400");
        let lambdas = ["r4.large", "lambda-128"];
        assert_eq!([cost(&lambdas, true, false), cost(&lambdas, false, false)], ["1.437", "1.457"]);
        let nanos = ["r4.large", "t2.nano"];
        assert_eq!([cost(&nanos, true, false), cost(&nanos, false, false)], ["1.015", "1.042"]);
        let whole = plan(&nanos, false, false);
        assert_eq!(whole.mix(), "3 r4.large + 109 t2.nano");
        assert!(whole.bound <= whole.usd_hour && whole.bound.as_micros() > 1_041_000);
    }

    #[test]
    fn sustained_processors_turn_the_answer_round() {
        assert_eq!(cost(&["m4.large"], false, true), "5.400");
        assert_eq!(cost(&["r4.large"], false, true), "6.650");
        assert_eq!(cost(&["lambda-128"], false, true), "10.356");
        assert_eq!(cost(&["t2.nano"], false, true), "11.800");
        assert_eq!(plan(&["r4.large", "t2.nano"], false, true).mix(), "50 r4.large");
        assert_eq!(plan(&["r4.large", "t2.nano", "m4.large"], false, true).mix(), "50 m4.large");
    }

    #[test]
    fn who_would_pay_for_bursts_is_told_first() {
        let warning = plan(&["r4.large", "t2.nano"], false, false).warning.unwrap();
        assert_eq!(
            warning,
            "these machines have 100 vCPUs in bursts and sustain 11.4; all the time, the demand \
             costs 6.65 $/h: 50 r4.large (`--sustained`)"
        );
        assert_eq!(plan(&["m4.large"], false, false).warning, None);
        assert_eq!(plan(&["t2.nano"], false, true).warning, None);
    }

    #[test]
    fn a_mix_beyond_its_quotas_is_warned_of() {
        let head = "provider,sku,vcpu,memory_gib,usd_hour,quota,as_of,source";
        let plan = |rows: &str| {
            let catalog = Catalog::read("own", &format!("{head}\n{rows}")).unwrap();
            Pool::new(Cores::milli(4000), ByteSize::gib(4)).plan(&catalog).unwrap()
        };
        let warning = plan("p,small,1,1,0.1,3,2026-11-23,test").warning.unwrap();
        assert_eq!(warning, "4 small (p) are beyond its quota of 3");
        assert_eq!(plan("p,small,1,1,0.1,4,2026-11-23,test").warning, None);
    }

    #[test]
    fn the_text_is_money_first_and_table_one() {
        let text = plan(&["r4.large", "t2.nano"], false, false).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1.042 $/h: 3 r4.large + 109 t2.nano");
        let header = ["offer", "count", "vCPU", "sustained", "GiB", "$/h", "$/vCPU", "$/GiB"];
        assert!(lines[5].split_whitespace().eq(header), "{text}");
        let row: Vec<&str> = lines[6].split_whitespace().collect();
        assert_eq!(row, ["r4.large", "3", "2", "2.00", "15.25", "0.133", "0.0665", "0.0087"]);
        let row: Vec<&str> = lines[7].split_whitespace().collect();
        assert_eq!(row, ["t2.nano", "109", "1", "0.05", "0.5", "0.0059", "0.0059", "0.0118"]);
    }

    #[test]
    fn the_whole_catalogue_is_planned_within_its_bound() {
        for name in Catalog::built_in_names() {
            let catalog = Catalog::built_in(name).unwrap();
            for sustained in [false, true] {
                let pool = Pool::new(Cores::milli(100_000), ByteSize::gib(400));
                let plan = pool.with_sustained(sustained).plan(&catalog).unwrap();
                assert!(plan.gap < 0.02, "{name}: {plan}");
            }
        }
        let aws = Catalog::built_in("aws").unwrap();
        let plan = Pool::new(Cores::milli(1_000_000), ByteSize::gib(10)).plan(&aws).unwrap();
        assert!(plan.parts.iter().all(|part| !part.offer.starts_with("lambda")), "{plan}");
        let gpus =
            Pool::new(Cores::milli(8000), ByteSize::gib(64)).with_gpus(4).plan(&aws).unwrap();
        assert!(gpus.shadow.usd_hour_gpu > 0.0, "{gpus}");
    }

    #[test]
    fn the_shadow_prices_add_up_to_the_cost_of_parts() {
        let plan = plan(&["r4.large", "t2.nano"], true, false);
        let shadow = plan.shadow;
        let sum = 100.0 * (shadow.usd_hour_vcpu + shadow.usd_hour_gib);
        assert!((sum - plan.usd_hour.as_dollars()).abs() < 1e-5, "{shadow:?}");
    }

    #[test]
    fn a_demand_that_nobody_has_is_named() {
        let catalog = Catalog::built_in("paper").unwrap().only(&["m4.large".into()]).unwrap();
        let pool = Pool::new(Cores::milli(1000), ByteSize::gib(1)).with_gpus(1);
        let error = pool.plan(&catalog).unwrap_err().to_string();
        assert_eq!(
            error,
            "no offer of the catalogue `paper` has GPUs for this demand; try another"
        );
    }
}
