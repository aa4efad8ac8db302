//! From names to numbers.
//!
//! Owns the way from an [`Application`] and a [`Catalog`] to instances, one for each zone. Knows no
//! solver. Tasks that share a machine become one kind, and kinds that are alike become one.

use std::collections::{BTreeMap, HashMap};

use super::instance::{Amounts, Instance, Kind, Machine};
use super::lacking::PackError;
use super::{Application, PackedTask, REPLICAS_MAX, TASKS_MAX};
use crate::catalog::Catalog;
use crate::demand::{CpuKind, Gpu};
use crate::offer::{Microcores, Offer};

/// Instances, and which tasks stand behind each kind.
pub(super) struct Problem {
    pub(super) members: Vec<Members>,
    pub(super) zones: Vec<Zone>,
}

/// The tasks of a kind: for each group that shares a machine its tasks, and how many replicas.
pub(super) type Members = Vec<(Vec<usize>, u32)>;

/// The offers of one zone as an instance.
pub(super) struct Zone {
    pub(super) instance: Instance,
    /// Which offer each machine is, and how it is paid.
    pub(super) rentals: Vec<(usize, Purchase)>,
}

impl Zone {
    /// The kinds that none of its machines takes.
    pub(super) fn kinds_without_machine(&self) -> Vec<usize> {
        let machines = &self.instance.machines;
        let without = |kind: &usize| machines.iter().all(|it| it.fees[*kind].is_none());
        (0..self.instance.kinds.len()).filter(without).collect()
    }

    /// Who rents its machines out, and where.
    pub(super) fn place(&self, catalog: &Catalog) -> String {
        self.rentals.first().map_or_else(String::new, |&(at, _)| catalog.offers()[at].place())
    }
}

/// How an offer is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purchase {
    OnDemand,
    Spot,
    /// On demand, with all of its processors all the time.
    Surplus,
}

/// What replicas of a group need together, beside numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Needs {
    pub(super) weights: Amounts,
    pub(super) gpu: Option<Option<String>>,
    pub(super) mixed_gpus: bool,
    pub(super) disk: u64,
    pub(super) spot: bool,
    pub(super) machine: bool,
    pub(super) run_minutes: u32,
    pub(super) alone: bool,
    pub(super) spread: bool,
    /// Groups that it is kept apart from.
    pub(super) apart: Vec<usize>,
    /// Groups with rules stay kinds of their own.
    pub(super) own: Option<usize>,
}

pub(super) fn problem(application: &Application, catalog: &Catalog) -> Result<Problem, PackError> {
    let groups = groups(application)?;
    let needs = needs(application, &groups)?;
    let (mut kinds, mut members): (Vec<Needs>, Vec<Members>) = (Vec::new(), Vec::new());
    let mut kind_of = HashMap::new();
    for (group, need) in groups.iter().zip(&needs) {
        let count = application.tasks[group[0]].demand.replicas.min();
        let kind = *kind_of.entry(need.clone()).or_insert_with(|| {
            kinds.push(need.clone());
            members.push(Members::new());
            kinds.len() - 1
        });
        members[kind].push((group.clone(), count));
    }
    // Rules name groups; from here on they name kinds.
    let of_group: Vec<usize> = needs.iter().map(|need| kind_of[need]).collect();
    for kind in &mut kinds {
        kind.apart.iter_mut().for_each(|group| *group = of_group[*group]);
    }
    let mut zones: BTreeMap<[&str; 3], Vec<usize>> = BTreeMap::new();
    for (at, offer) in catalog.offers().iter().enumerate() {
        zones.entry([&offer.provider, &offer.region, &offer.zone]).or_default().push(at);
    }
    let zone = |offers: &Vec<usize>| zone(application, catalog, offers, &kinds, &members);
    let zones: Vec<Zone> = zones.values().map(zone).collect();
    let complete = |zone: &Zone| zone.kinds_without_machine().is_empty();
    if !zones.iter().any(complete) {
        return Err(PackError::lacking(application, catalog, &kinds, &members, &zones));
    }
    Ok(Problem { zones: zones.into_iter().filter(complete).collect(), members })
}

/// Tasks that share machines, and every other task alone.
fn groups(application: &Application) -> Result<Vec<Vec<usize>>, PackError> {
    let tasks = &application.tasks;
    let replicas: u64 = tasks.iter().map(|task| u64::from(task.demand.replicas.min())).sum();
    if tasks.is_empty() || tasks.len() > TASKS_MAX || replicas > REPLICAS_MAX {
        return Err(PackError::size(tasks.len(), replicas));
    }
    let mut group_of: Vec<usize> = (0..tasks.len()).collect();
    for names in &application.together {
        let members =
            names.iter().map(|name| index(application, name)).collect::<Result<Vec<_>, _>>()?;
        for pair in members.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|at| tasks[at].demand.replicas.min());
            if a != b {
                return Err(PackError::uneven(&tasks[pair[0]].name, a, &tasks[pair[1]].name, b));
            }
            let (from, to) = (group_of[pair[1]], group_of[pair[0]]);
            group_of.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (task, group) in group_of.into_iter().enumerate() {
        groups.entry(group).or_default().push(task);
    }
    Ok(groups.into_values().collect())
}

fn index(application: &Application, name: &str) -> Result<usize, PackError> {
    let found = application.tasks.iter().position(|task| task.name == name);
    found.ok_or_else(|| PackError::unknown(name, &application.tasks))
}

fn needs(application: &Application, groups: &[Vec<usize>]) -> Result<Vec<Needs>, PackError> {
    let tasks = &application.tasks;
    let mut names = HashMap::new();
    if tasks.iter().any(|task| task.name.trim().is_empty()) {
        return Err(PackError::nameless());
    }
    if let Some(task) = tasks.iter().find(|task| names.insert(&task.name, ()).is_some()) {
        return Err(PackError::twice(&task.name));
    }
    let mut needs: Vec<Needs> =
        groups.iter().map(|group| together(group.iter().map(|&at| &tasks[at]))).collect();
    let mut group_of = vec![0; tasks.len()];
    for (at, group) in groups.iter().enumerate() {
        group.iter().for_each(|&task| group_of[task] = at);
    }
    for [a, b] in &application.apart {
        let (first, second) = (index(application, a)?, index(application, b)?);
        let (one, other) = (group_of[first], group_of[second]);
        if first == second {
            needs[one].spread = true;
        } else if one == other {
            return Err(PackError::contrary(a, b));
        } else {
            for (at, from) in [(one, other), (other, one)] {
                needs[at].own = Some(at);
                if !needs[at].apart.contains(&from) {
                    needs[at].apart.push(from);
                }
            }
        }
    }
    Ok(needs)
}

/// What tasks that share a machine need together.
fn together<'a>(tasks: impl Iterator<Item = &'a PackedTask>) -> Needs {
    let mut needs = Needs {
        weights: [0; _],
        gpu: None,
        mixed_gpus: false,
        disk: 0,
        spot: true,
        machine: false,
        run_minutes: 0,
        alone: false,
        spread: false,
        apart: Vec::new(),
        own: None,
    };
    for task in tasks {
        let demand = &task.demand;
        let cores = Microcores::from(demand.cpu.cores).0;
        let lasting = if demand.cpu.kind == CpuKind::Sustained { cores } else { 0 };
        let gpus = demand.gpu.as_ref().map_or(0, |gpu| u64::from(gpu.count()));
        let network = demand.network.bytes_per_second();
        let weights = [cores, lasting, demand.memory.bytes(), gpus, network];
        for (sum, weight) in needs.weights.iter_mut().zip(weights) {
            *sum = sum.saturating_add(weight);
        }
        if let Some(gpu) = &demand.gpu {
            let kind = gpu.kind().map(String::from);
            match &mut needs.gpu {
                Some(Some(known)) => {
                    needs.mixed_gpus |= kind.is_some_and(|kind| kind != *known);
                }
                other => *other = Some(kind),
            }
        }
        needs.disk = needs.disk.saturating_add(demand.disk.bytes());
        needs.spot &= task.bears_spot();
        needs.machine |= task.serves || task.role != super::Role::Compute;
        needs.run_minutes = needs.run_minutes.max(task.run_minutes.unwrap_or(u32::MAX));
        needs.alone |= task.alone;
    }
    needs
}

fn zone(
    application: &Application,
    catalog: &Catalog,
    offers: &[usize],
    kinds: &[Needs],
    members: &[Members],
) -> Zone {
    let mut instance = Instance { kinds: Vec::new(), ..Instance::default() };
    for (needs, members) in kinds.iter().zip(members) {
        instance.kinds.push(Kind {
            weights: needs.weights,
            count: members.iter().map(|(_, count)| count).sum(),
            spread: needs.spread,
            alone: needs.alone,
            apart: needs.apart.clone(),
        });
    }
    let mut rentals = Vec::new();
    for &at in offers {
        let offer = &catalog.offers()[at];
        let limits = offer.quota.into_iter().chain(application.limits.get(&offer.sku).copied());
        let limit = limits.min().map(|most| {
            instance.limits.push(most);
            instance.limits.len() - 1
        });
        for (purchase, cost, room) in purchases(offer) {
            let fee = |needs: &Needs| fee(offer, purchase, &room, needs);
            let fees = kinds.iter().map(fee).collect();
            instance.machines.push(Machine { cost, room, fees, limit });
            rentals.push((at, purchase));
        }
    }
    Zone { instance, rentals }
}

/// The ways to pay an offer: what each costs, and what it then has.
pub(super) fn purchases(offer: &Offer) -> Vec<(Purchase, u64, Amounts)> {
    let room = Amounts::from([
        offer.cpu.0,
        offer.sustained.0,
        offer.allocatable.bytes(),
        offer.gpu.as_ref().map_or(0, |gpu| u64::from(gpu.count())),
        offer.network.map_or(0, |rate| rate.bytes_per_second()),
    ]);
    let cost = |price: crate::money::UsdPerHour| price.plus(offer.charges).as_micros();
    let mut ways = vec![(Purchase::OnDemand, cost(offer.price), room)];
    if let Some(spot) = offer.spot {
        ways.push((Purchase::Spot, cost(spot), room));
    }
    if let Some(surplus) = offer.surplus {
        let beyond = u128::from(offer.cpu.0.saturating_sub(offer.sustained.0));
        let extra = (u128::from(surplus.as_micros()) * beyond).div_ceil(1_000_000);
        let extra = u64::try_from(extra).unwrap_or(u64::MAX);
        let [cpu, _, memory, gpus, network] = room;
        let cost = cost(offer.price).saturating_add(extra);
        ways.push((Purchase::Surplus, cost, [cpu, cpu, memory, gpus, network]));
    }
    ways
}

/// What one of these costs on the machine besides, for its disk; `None` when it may not stand
/// there or does not fit.
pub(super) fn fee(offer: &Offer, purchase: Purchase, room: &Amounts, needs: &Needs) -> Option<u64> {
    let fits = needs.weights.iter().zip(room).all(|(weight, room)| weight <= room);
    let gpu = match (&needs.gpu, offer.gpu.as_ref().and_then(Gpu::kind)) {
        (Some(Some(wanted)), kind) => kind == Some(wanted) && !needs.mixed_gpus,
        _ => true,
    };
    let spot = needs.spot || purchase != Purchase::Spot;
    let lasts = offer.run_minutes_max.is_none_or(|most| needs.run_minutes <= most);
    let reached = offer.inbound || !needs.machine;
    if !(fits && gpu && spot && lasts && reached) {
        return None;
    }
    if needs.disk == 0 {
        return Some(0);
    }
    // Dollars a GiB a month, in bytes and hours, rounded up.
    let month = u128::from(offer.disk?.as_micros()) * u128::from(needs.disk);
    u64::try_from(month.div_ceil(730 << 30)).ok()
}
