//! A packing with its names.
//!
//! Owns [`Plan`]. Knows how kinds and machines are called again. Displays in one screen, money
//! first; what is cut there is in the JSON.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::Serialize;

use super::compile::{Members, Purchase, Zone};
use super::instance::{Amounts, Instance, PARTS, Packing, Pattern};
use super::{Application, Demanded, Solved};
use crate::catalog::Catalog;
use crate::money::UsdPerHour;
use crate::pool::{gap, to_f64};
use crate::simplex::{Program, Sense};

/// The most machines, and the most placements, that are shown in a terminal.
const SHOWN_MAX: usize = 12;

/// Machines, and which task goes where.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// What is rented.
    pub machines: Vec<Rented>,
    /// What is on them.
    pub placements: Vec<Placement>,
    /// What all of it costs.
    pub usd_hour: UsdPerHour,
    /// What of that is paid for the tasks' disks.
    pub disk_usd_hour: UsdPerHour,
    /// What no packing of these tasks onto these offers costs less than.
    pub bound: UsdPerHour,
    /// The share of the cost above the bound.
    pub gap: f64,
    /// The resource that most is paid for.
    pub binding: Option<Resource>,
    /// How much of each resource is used, and what one more of it would cost.
    pub uses: Vec<Use>,
    /// What first fit decreasing would pay.
    pub first_fit_usd_hour: Option<UsdPerHour>,
    /// What the best single type would cost.
    pub one_type_usd_hour: Option<UsdPerHour>,
    /// What one more replica of each task would cost.
    pub replica_usd_hour: BTreeMap<String, f64>,
    /// What was asked for.
    pub tasks: Vec<Demanded>,
}

/// Machines of one offer that are paid alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rented {
    /// The offer's name.
    pub offer: String,
    /// Who rents it out, and where.
    pub place: String,
    /// `on demand`, `spot`, or `surplus CPU`: all of a burstable machine's processors all the time.
    pub paid: &'static str,
    /// How many.
    pub count: u32,
    /// What one costs, with its charges and without its tasks' disks.
    pub usd_hour: UsdPerHour,
}

/// What is on machines that hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Placement {
    /// The offer's name.
    pub offer: String,
    /// How it is paid.
    pub paid: &'static str,
    /// How many machines hold this.
    pub count: u32,
    /// Replicas of each task on one of them.
    pub tasks: BTreeMap<String, u32>,
}

/// What tasks share on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Processors, in bursts.
    Cpu,
    /// Processors, all the time.
    SustainedCpu,
    /// Main memory.
    Memory,
    /// Accelerators.
    Gpu,
    /// Network bandwidth.
    Network,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RESOURCES[*self as usize].1)
    }
}

const RESOURCES: [(Resource, &str, f64); PARTS] = [
    (Resource::Cpu, "vCPU", 1e6),
    (Resource::SustainedCpu, "sustained vCPU", 1e6),
    (Resource::Memory, "GiB memory", (1u64 << 30) as f64),
    (Resource::Gpu, "GPU", 1.0),
    (Resource::Network, "Gbit/s network", 125e6),
];

/// How a resource is used by a plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Use {
    /// Which.
    pub resource: Resource,
    /// What the tasks need of it: processors, GiB, accelerators, Gbit/s.
    pub needed: f64,
    /// The share of what the machines have.
    pub used: f64,
    /// What one more of it would cost if tasks divided at will; 0: it is there in plenty.
    pub shadow_usd_hour: f64,
}

pub(super) fn name(
    application: &Application,
    catalog: &Catalog,
    members: &[Members],
    zone: &Zone,
    solved: Solved,
    bound: u64,
) -> Plan {
    let instance = &zone.instance;
    let usd_hour = UsdPerHour::micros(instance.total(&solved.packing));
    let bare = |(pattern, copies): &(Pattern, u32)| {
        instance.machines[pattern.machine].cost * u64::from(*copies)
    };
    let bare = solved.packing.iter().map(bare).sum();
    let disk_usd_hour = UsdPerHour::micros(usd_hour.as_micros().saturating_sub(bare));
    let bound = UsdPerHour::micros(bound);
    let uses = uses(instance, &solved.packing);
    let paid = |it: &&Use| it.shadow_usd_hour * it.needed;
    let binding =
        uses.iter().filter(|it| paid(it) > 0.0).max_by(|a, b| paid(a).total_cmp(&paid(b)));
    let mut replica_usd_hour = BTreeMap::new();
    for (members, &price) in members.iter().zip(&solved.prices) {
        // Tasks that share a machine share its price by what is known: together.
        for (group, _) in members {
            let names = group.iter().map(|&at| application.tasks[at].name.as_str());
            replica_usd_hour.insert(names.collect::<Vec<_>>().join(" + "), price);
        }
    }
    Plan {
        machines: rented(catalog, zone, &solved.packing),
        placements: placements(application, catalog, members, zone, &solved.packing),
        usd_hour,
        disk_usd_hour,
        bound,
        gap: gap(usd_hour, bound),
        binding: binding.map(|it| it.resource),
        uses,
        first_fit_usd_hour: solved.first_fit.map(UsdPerHour::micros),
        one_type_usd_hour: solved.one_type.map(UsdPerHour::micros),
        replica_usd_hour,
        tasks: application.tasks.iter().map(Demanded::new).collect(),
    }
}

fn words(purchase: Purchase) -> &'static str {
    match purchase {
        Purchase::OnDemand => "on demand",
        Purchase::Spot => "spot",
        Purchase::Surplus => "surplus CPU",
    }
}

fn rented(catalog: &Catalog, zone: &Zone, packing: &Packing) -> Vec<Rented> {
    let mut counts = BTreeMap::new();
    for (pattern, copies) in packing {
        *counts.entry(pattern.machine).or_insert(0) += copies;
    }
    let machine = |(at, count): (usize, u32)| {
        let (offer, purchase) = zone.rentals[at];
        let offer = &catalog.offers()[offer];
        Rented {
            offer: offer.sku.clone(),
            place: offer.place(),
            paid: words(purchase),
            count,
            usd_hour: UsdPerHour::micros(zone.instance.machines[at].cost),
        }
    };
    counts.into_iter().map(machine).collect()
}

/// Hands the replicas of every kind out to the machines that have a place for it.
fn placements(
    application: &Application,
    catalog: &Catalog,
    members: &[Members],
    zone: &Zone,
    packing: &Packing,
) -> Vec<Placement> {
    let mut left: Vec<VecDeque<(&[usize], u32)>> = members
        .iter()
        .map(|members| members.iter().map(|(group, count)| (group.as_slice(), *count)).collect())
        .collect();
    let mut counts: BTreeMap<(usize, BTreeMap<&str, u32>), u32> = BTreeMap::new();
    for (pattern, copies) in packing {
        for _ in 0..*copies {
            let mut tasks = BTreeMap::new();
            for &(kind, count) in &pattern.items {
                let mut wanted = count;
                while let Some((group, there)) = left[kind].front_mut().filter(|_| wanted > 0) {
                    let taken = wanted.min(*there);
                    for &task in *group {
                        *tasks.entry(application.tasks[task].name.as_str()).or_insert(0) += taken;
                    }
                    (wanted, *there) = (wanted - taken, *there - taken);
                    if *there == 0 {
                        left[kind].pop_front();
                    }
                }
            }
            *counts.entry((pattern.machine, tasks)).or_insert(0) += 1;
        }
    }
    let placement = |((at, tasks), count): ((usize, BTreeMap<&str, u32>), u32)| {
        let (offer, purchase) = zone.rentals[at];
        Placement {
            offer: catalog.offers()[offer].sku.clone(),
            paid: words(purchase),
            count,
            tasks: tasks.into_iter().map(|(name, count)| (name.to_string(), count)).collect(),
        }
    };
    counts.into_iter().map(placement).collect()
}

fn uses(instance: &Instance, packing: &Packing) -> Vec<Use> {
    let sum = |part: usize, amounts: &mut dyn Iterator<Item = (&Amounts, u32)>| {
        let amounts = amounts.map(|(amounts, count)| u128::from(amounts[part]) * u128::from(count));
        u64::try_from(amounts.sum::<u128>()).unwrap_or(u64::MAX)
    };
    let needed: Amounts = std::array::from_fn(|part| {
        sum(part, &mut instance.kinds.iter().map(|kind| (&kind.weights, kind.count)))
    });
    let there: Amounts = std::array::from_fn(|part| {
        let machines = packing.iter();
        sum(part, &mut machines.map(|(it, copies)| (&instance.machines[it.machine].room, *copies)))
    });
    let shadow = shadow(instance, needed, instance.total(packing));
    let used = (0..PARTS).filter(|&part| needed[part] > 0).map(|part| {
        let (resource, _, unit) = RESOURCES[part];
        Use {
            resource,
            needed: to_f64(needed[part]) / unit,
            used: to_f64(needed[part]) / to_f64(there[part].max(1)),
            shadow_usd_hour: shadow[part] * unit,
        }
    });
    used.collect()
}

/// The dual prices of covering the sums with parts of machines. Costs are shares of what the plan
/// costs, so that no sum is dear beyond the penalty of leaving it out.
fn shadow(instance: &Instance, needed: Amounts, total: u64) -> [f64; PARTS] {
    let total = to_f64(total.max(1)) / 1e6;
    let parts: Vec<usize> = (0..PARTS).filter(|&part| needed[part] > 0).collect();
    let mut program = Program::new(&vec![(Sense::AtLeast, 1.0); parts.len()]);
    for machine in &instance.machines {
        if machine.fees.iter().any(Option::is_some) {
            let share = |part: usize| to_f64(machine.room[part]) / to_f64(needed[part]);
            let entries = parts.iter().enumerate().map(|(row, &part)| (row, share(part)));
            program.push(to_f64(machine.cost) / 1e6 / total, entries.collect());
        }
    }
    program.solve();
    let mut prices = [0.0; PARTS];
    for (&part, dual) in parts.iter().zip(program.duals()) {
        prices[part] = dual.max(0.0) * total / to_f64(needed[part]);
    }
    prices
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.4} $/h; no packing costs less than {:.4} $/h (gap {:.2} %)",
            self.usd_hour,
            self.bound,
            100.0 * self.gap
        )?;
        for (cost, what) in [
            (self.first_fit_usd_hour, "first fit decreasing"),
            (self.one_type_usd_hour, "one type for all"),
        ] {
            if let Some(cost) = cost {
                let more = 100.0 * (cost.as_dollars() / self.usd_hour.as_dollars() - 1.0);
                writeln!(f, "{what}: {cost:.4} $/h ({more:+.1} %)")?;
            }
        }
        writeln!(f, "\n{:>6}  {:<22}{:<12}{:>10}  place", "count", "machine", "paid", "$/h each")?;
        for it in self.machines.iter().take(SHOWN_MAX) {
            let Rented { offer, place, paid, count, usd_hour } = it;
            writeln!(f, "{count:>6}  {offer:<22}{paid:<12}{usd_hour:>10.4}  {place}")?;
        }
        more(f, self.machines.len(), "types of machines")?;
        if self.disk_usd_hour > UsdPerHour::default() {
            writeln!(
                f,
                "{:>6}  {:<34}{:>10.4}",
                "", "the tasks' disks, together", self.disk_usd_hour
            )?;
        }
        writeln!(f, "\n{:<16}{:>12}{:>8}{:>14}", "resource", "needed", "used", "$/h one more")?;
        for it in &self.uses {
            let binds = if self.binding == Some(it.resource) { "  binds" } else { "" };
            let unit = it.resource.to_string();
            write!(f, "{unit:<16}{:>12.2}{:>7.0}%", it.needed, 100.0 * it.used)?;
            writeln!(f, "{:>14.5}{binds}", it.shadow_usd_hour)?;
        }
        let mut prices: Vec<_> = self.replica_usd_hour.iter().collect();
        prices.sort_by(|a, b| a.1.total_cmp(b.1));
        let mut line = "one more replica, $/h:".to_string();
        for (at, (name, price)) in prices.into_iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            let more = format!("{separator} {name} {price:.4}");
            if at > 0 && line.chars().count() + more.chars().count() > 80 {
                break;
            }
            line.push_str(&more);
        }
        writeln!(f, "{line}")?;
        writeln!(f, "\n{:>6}  {:<22}holds", "count", "machine")?;
        for it in self.placements.iter().take(SHOWN_MAX) {
            let tasks = it.tasks.iter().map(|(name, count)| format!("{count} {name}"));
            writeln!(f, "{:>6}  {:<22}{}", it.count, it.offer, folded(tasks))?;
        }
        more(f, self.placements.len(), "placements")
    }
}

/// What is not shown, and where it is.
fn more(f: &mut fmt::Formatter<'_>, count: usize, what: &str) -> fmt::Result {
    match count.saturating_sub(SHOWN_MAX) {
        0 => Ok(()),
        more => writeln!(f, "        and {more} more {what} (`--json`)"),
    }
}

/// Words with commas, in lines that end before the 80th column; the first begins at the 31st.
fn folded(words: impl Iterator<Item = String>) -> String {
    let (mut text, mut room) = (String::new(), 49usize);
    for word in words {
        let len = word.chars().count() + 2;
        match text.is_empty() {
            true => {}
            false if len > room => {
                text.push_str(&format!(",\n{:30}", ""));
                room = 49;
            }
            false => text.push_str(", "),
        }
        text.push_str(&word);
        room = room.saturating_sub(len);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_folded_within_eighty_columns() {
        let words = || (0..20).map(|at| format!("{at} preprocess"));
        let text = format!("{:30}{}", "", folded(words()));
        assert!(text.lines().count() > 4 && text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(text.split_whitespace().count() == 40, "{text}");
        assert_eq!(folded(["1 a".to_string(), "2 b".into()].into_iter()), "1 a, 2 b");
    }
}
