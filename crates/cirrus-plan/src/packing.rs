//! Which machines for which tasks.
//!
//! Owns [`Application`] and [`pack`]: demands and rules made into a packing problem, solved, and
//! named again. Knows no price list's format. A plan is never dearer than first fit decreasing,
//! and its bound holds for every packing of the same demands.
//!
//! Tasks that are alike are one kind, so that the work goes with kinds and not with tasks. The
//! configuration program (`columns`) gives the bound and parts of machines, `round` makes whole
//! ones of them, `exact` closes small instances.

mod columns;
mod compile;
mod demanded;
mod exact;
mod first_fit;
#[cfg(feature = "highs")]
mod highs;
mod instance;
mod knapsack;
mod lacking;
mod plan;
mod round;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::demand::Demand;
use crate::money::UsdPerHour;
use columns::{Columns, Depth, Relaxed};
pub use demanded::Demanded;
use instance::{Instance, Packing};
use knapsack::Effort;
pub use lacking::PackError;
pub use plan::{Placement, Plan, Rented, Resource, Use};
use round::Way;

/// The most tasks of an application.
pub(crate) const TASKS_MAX: usize = 10_000;
/// The most replicas of all tasks together.
pub(crate) const REPLICAS_MAX: u64 = 1_000_000;

/// Tasks, and where they may stand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Application {
    /// What runs.
    pub tasks: Vec<PackedTask>,
    /// Tasks of which the first replicas share a machine, and the second, and so on. They have
    /// equally many.
    pub together: Vec<Vec<String>>,
    /// Pairs of tasks of which no replicas share a machine; a task with itself: its own.
    pub apart: Vec<[String; 2]>,
    /// The most machines of an offer, by its name.
    pub limits: BTreeMap<String, u32>,
}

/// A task and what it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PackedTask {
    /// Its name in the application.
    pub name: String,
    /// What each replica needs; as many as its fewest replicas are placed.
    pub demand: Demand,
    /// What it is to the application.
    #[serde(default)]
    pub role: Role,
    /// Nothing else on its machines.
    #[serde(default)]
    pub alone: bool,
    /// Whether others connect to it.
    #[serde(default)]
    pub serves: bool,
    /// How long it runs at most; `None`: as long as the application.
    #[serde(default)]
    pub run_minutes: Option<u32>,
}

impl PackedTask {
    /// A task that computes, for as long as the application runs.
    pub fn new(name: impl Into<String>, demand: Demand) -> Self {
        Self {
            name: name.into(),
            demand,
            role: Role::default(),
            alone: false,
            serves: false,
            run_minutes: None,
        }
    }

    /// Whether it may run on a machine that can be taken away: storage, the coordinator and
    /// memory that nobody else has never do.
    fn bears_spot(&self) -> bool {
        match self.role {
            Role::Compute => self.demand.spot,
            Role::Memory => self.demand.spot && self.demand.replicas.min() > 1,
            Role::Storage | Role::Coordinator => false,
        }
    }
}

/// What a task is to its application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It computes.
    #[default]
    Compute,
    /// It keeps objects in memory.
    Memory,
    /// It keeps objects on a disk.
    Storage,
    /// It keeps the account of a run.
    Coordinator,
}

/// Finds the cheapest machines of one zone for the whole application.
///
/// Stages share channels, so that all of it stays in one zone; every zone of the catalogue is
/// tried. Costs seconds for 10,000 tasks of 50 kinds over 800 types, milliseconds for ten.
///
/// ```
/// use cirrus_plan::{Application, Catalog, Demand, PackedTask, pack};
/// let mut application = Application::default();
/// application.tasks.push(PackedTask::new("decode", Demand::default()));
/// let plan = pack(&application, &Catalog::built_in("gcp").expect("built in"))?;
/// assert!(plan.bound <= plan.usd_hour);
/// # Ok::<(), cirrus_plan::PackError>(())
/// ```
///
/// # Errors
/// When a task fits no machine, naming what the nearest one lacks; when a rule names no task; when
/// the limits leave too few machines.
pub fn pack(application: &Application, catalog: &Catalog) -> Result<Plan, PackError> {
    Ok(packed(application, catalog)?.plan(application, catalog))
}

/// The packing of the cheapest zone, without names.
pub(crate) fn packed(application: &Application, catalog: &Catalog) -> Result<Packed, PackError> {
    let problem = compile::problem(application, catalog)?;
    let mut best: Option<(u64, usize, Solved)> = None;
    let mut bound = u64::MAX;
    for (at, zone) in problem.zones.iter().enumerate() {
        let Some(solved) = solve(&zone.instance) else { continue };
        bound = bound.min(solved.bound);
        let cost = zone.instance.total(&solved.packing);
        if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
            best = Some((cost, at, solved));
        }
    }
    let Some((_, at, solved)) = best else { return Err(PackError::limits(application)) };
    Ok(Packed { problem, at, solved, bound })
}

/// A packing, its zone, and what no zone costs less than.
pub(crate) struct Packed {
    problem: compile::Problem,
    at: usize,
    solved: Solved,
    bound: u64,
}

impl Packed {
    pub(crate) fn usd_hour(&self) -> UsdPerHour {
        UsdPerHour::micros(self.problem.zones[self.at].instance.total(&self.solved.packing))
    }

    fn plan(self, application: &Application, catalog: &Catalog) -> Plan {
        let Self { problem, at, solved, bound } = self;
        plan::name(application, catalog, &problem.members, &problem.zones[at], solved, bound)
    }

    /// What stays of this packing when `application`, which differs in having fewer replicas,
    /// takes its own; `None` unless that is cheaper than its plan.
    pub(crate) fn without_others(
        self,
        application: &Application,
        catalog: &Catalog,
        plan: &Plan,
    ) -> Option<Plan> {
        let problem = compile::problem(application, catalog).ok()?;
        let instance = &problem.zones.get(self.at)?.instance;
        let larger = &self.problem.zones[self.at].instance;
        let mut packing = self.solved.packing;
        for (kind, (it, more)) in instance.kinds.iter().zip(&larger.kinds).enumerate() {
            for _ in it.count..more.count {
                packing = round::without_one(instance, &packing, kind)?;
            }
        }
        let cost = UsdPerHour::micros(instance.total(&packing));
        if cost >= plan.usd_hour || !instance.holds(&packing) {
            return None;
        }
        let solved = Solved {
            packing,
            bound: plan.bound.as_micros(),
            first_fit: plan.first_fit_usd_hour.map(UsdPerHour::as_micros),
            one_type: plan.one_type_usd_hour.map(UsdPerHour::as_micros),
            prices: self.solved.prices,
        };
        let bound = solved.bound;
        let found = Self { problem, at: self.at, solved, bound };
        let replica_usd_hour = plan.replica_usd_hour.clone();
        Some(Plan { replica_usd_hour, ..found.plan(application, catalog) })
    }
}

/// A packing, what is proven about it, and what it is compared with; money in micro-dollars.
struct Solved {
    packing: Packing,
    bound: u64,
    first_fit: Option<u64>,
    one_type: Option<u64>,
    prices: Vec<f64>,
}

const DEEP: Depth = Depth {
    rounds: 200,
    effort: Effort { nodes: 1_000, slack: 2e-4, labels_max: 80_000, rounds: 10, contents: 4 },
    gap: 3e-3,
    step: 5e-4,
};
/// For few replicas, of which a machine more is a large share of the cost: nearer, by less work
/// for each machine.
const CAREFUL: Depth = Depth {
    effort: Effort { nodes: 500, slack: 2e-4, labels_max: 2_000, rounds: 10, contents: 2 },
    gap: 3e-4,
    ..DEEP
};
const SHALLOW: Depth = Depth {
    rounds: 4,
    effort: Effort { nodes: 300, slack: 1e-2, labels_max: 0, rounds: 4, contents: 4 },
    gap: 2e-3,
    step: 5e-4,
};
/// The least parts of machines that are rounded up together.
const NEARLY_WHOLE: [f64; 3] = [0.85, 0.6, 0.4];
/// So many ways of rounding are tried with one kind, and the fewer the more kinds there are: at
/// most so many.
const WAYS_KINDS: usize = 300;
const WAYS_MAX: usize = 12;
/// A gap beyond which the answer is searched for cheaper places.
const GOOD: f64 = 1e-3;
const REPAIRS_MAX: u32 = 40;
/// So many replicas are few.
const SMALL_MAX: u32 = 500;
/// So many replicas are searched through for a proof.
const PROVEN_MAX: u32 = 60;
/// A distance of the linear program's cost and bound that is no answer yet.
const FAR: f64 = 5e-2;
/// So often it is asked again.
const AGAIN_MAX: u32 = 50;

/// `None` when the limits leave too few machines.
fn solve(full: &Instance) -> Option<Solved> {
    let (instance, kept) = full.without_dominated();
    let (first, single) = first_fit::best(&instance);
    let starts: Vec<Packing> = first.iter().chain(&single).cloned().collect();
    let mut columns = Columns::new(&instance, &starts);
    let counts = instance.counts();
    let is_small = counts.iter().sum::<u32>() <= SMALL_MAX;
    // With more kinds a round costs more, and the rounding that follows matters more than its end.
    let step = 2e-5 * crate::pool::to_f64(counts.len() as u64);
    let deep = if is_small { Depth { step, ..CAREFUL } } else { DEEP };
    let mut relaxed = relax(&instance, &mut columns, &counts, deep);
    if relaxed.lack > 1e-6 && first.is_none() {
        return None;
    }
    let mut bound = crate::pool::micros(relaxed.bound, f64::ceil).as_micros();
    let cost = |packing: &Packing| instance.total(packing);
    let (first_fit, one_type) = (first.as_ref().map(cost), single.as_ref().map(cost));
    columns.narrow(&mut relaxed);
    let ways = if is_small { (WAYS_KINDS / counts.len()).clamp(3, WAYS_MAX) } else { 1 };
    let rounded: Vec<Packing> = (0..ways)
        .into_par_iter()
        .map(|at| Way { nearly_whole: NEARLY_WHOLE[at % NEARLY_WHOLE.len()], first: at / 3 })
        .filter_map(|way| {
            round::round(&instance, &mut columns.clone(), relaxed.clone(), SHALLOW, way)
        })
        .collect();
    let candidates = first.map(|it| round::downsized(&instance, it)).into_iter().chain(rounded);
    let mut packing = candidates.min_by_key(|packing| instance.total(packing));
    let beyond = |packing: &Option<Packing>, bound: u64, share: f64| {
        packing.as_ref().is_none_or(|it| {
            crate::pool::to_f64(instance.total(it)) > crate::pool::to_f64(bound) * (1.0 + share)
        })
    };
    #[cfg(feature = "highs")]
    if beyond(&packing, bound, 0.0) {
        let chosen = highs::chosen(&instance, &columns.patterns, packing.as_ref());
        packing = chosen.into_iter().chain(packing).min_by_key(cost);
    }
    let searched_max = if packing.is_some() { PROVEN_MAX } else { SMALL_MAX };
    if counts.iter().sum::<u32>() <= searched_max && beyond(&packing, bound, 0.0) {
        let found =
            exact::search(&instance, &counts, &instance.limits, &relaxed.safe, exact::STEPS_MANY);
        let least = found.packing.into_iter().chain(packing);
        packing = least.min_by_key(|packing| instance.total(packing));
        if found.proven {
            bound = packing.as_ref().map_or(bound, |packing| instance.total(packing));
        }
    }
    if beyond(&packing, bound, GOOD) {
        packing = packing.map(|it| round::repaired(&instance, it, &relaxed.prices, REPAIRS_MAX));
    }
    let mut packing = packing?;
    assert!(instance.holds(&packing), "a packing breaks a rule of its own instance");
    let bound = bound.min(instance.total(&packing));
    for (pattern, _) in &mut packing {
        pattern.machine = kept[pattern.machine];
    }
    Some(Solved { packing, bound, first_fit, one_type, prices: relaxed.prices })
}

/// The linear program's answer. It gives up when its cost has not fallen for some rounds; but the
/// first machines may cost the same for many, and places for what had none cost more.
fn relax(instance: &Instance, columns: &mut Columns<'_>, counts: &[u32], depth: Depth) -> Relaxed {
    let mut relaxed = columns.relax(counts, &instance.limits, depth);
    for _ in 0..AGAIN_MAX {
        let cost = |&(at, amount): &(usize, f64)| {
            amount * crate::pool::to_f64(instance.cost(&columns.patterns[at])) / 1e6
        };
        let cost: f64 = relaxed.amounts.iter().map(cost).sum();
        if relaxed.lack < 1e-6 && cost - relaxed.bound < FAR * cost {
            break;
        }
        let known = columns.patterns.len();
        let next = columns.relax(counts, &instance.limits, depth);
        relaxed = Relaxed { bound: next.bound.max(relaxed.bound), ..next };
        if columns.patterns.len() == known {
            break;
        }
    }
    relaxed
}

#[cfg(test)]
pub(crate) mod tests;
