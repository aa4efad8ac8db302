//! What another demand would cost.
//!
//! Owns [`what_if`] and its changes, and [`next_steps`]. Knows no solver: every answer is a plan of its own.
//! A change that cannot be packed says why; it is not left out.

use std::fmt;

use cirrus_units::{ByteSize, Cores};
use serde::Serialize;

use crate::catalog::Catalog;
use crate::demand::{Cpu, Gpu, Replicas};
use crate::money::UsdPerHour;
use crate::packing::{Application, PackError, Packed, Plan, Role, pack, packed};

/// A change, and what it does to the price.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WhatIf {
    /// The change, in words.
    pub change: String,
    /// What the changed application costs; `None` where it cannot be packed.
    pub usd_hour: Option<UsdPerHour>,
    /// The difference to the plan, in dollars an hour.
    pub delta_usd_hour: Option<f64>,
    /// Why it cannot be packed.
    pub problem: Option<String>,
}

impl fmt::Display for WhatIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.usd_hour, &self.delta_usd_hour, &self.problem) {
            (Some(cost), Some(delta), _) => {
                write!(f, "{:<44}{cost:>10.4} $/h ({delta:+.4})", self.change)
            }
            (.., problem) => {
                write!(f, "{:<44}{}", self.change, problem.as_deref().unwrap_or("no plan"))
            }
        }
    }
}

impl WhatIf {
    fn of(change: String, application: &Application, catalog: &Catalog, plan: &Plan) -> Self {
        let packed = pack(application, catalog).map(|packed| packed.usd_hour);
        Self::costing(change, packed, plan)
    }

    fn costing(change: String, cost: Result<UsdPerHour, PackError>, plan: &Plan) -> Self {
        let usd_hour = cost.as_ref().ok().copied();
        Self {
            change,
            usd_hour,
            delta_usd_hour: usd_hour.map(|cost| cost.as_dollars() - plan.usd_hour.as_dollars()),
            problem: cost.err().map(|error| error.to_string()),
        }
    }
}

/// Packs the application again under each change that makes sense for it, and compares.
/// Costs a packing for each.
pub fn what_if(application: &Application, catalog: &Catalog, plan: &Plan) -> Vec<WhatIf> {
    let changed = |change: String, application: &Application, catalog: &Catalog| {
        WhatIf::of(change, application, catalog, plan)
    };
    let mut answers = Vec::new();
    for (words, change) in CHANGES {
        let mut other = application.clone();
        other.tasks.iter_mut().for_each(|task| change(&mut task.demand));
        if other != *application {
            answers.push(changed(words.to_string(), &other, catalog));
        }
    }
    let place = |offer: &crate::offer::Offer| format!("{} {}", offer.provider, offer.region);
    let mut places: Vec<String> = catalog.offers().iter().map(place).collect();
    places.sort_unstable();
    places.dedup();
    for elsewhere in places.iter().filter(|_| places.len() > 1) {
        let there = catalog.filtered(|offer| place(offer) == *elsewhere);
        answers.push(changed(format!("only in {elsewhere}"), application, &there));
    }
    answers
}

/// The most tasks whose next replicas are packed.
const STEPS_MAX: usize = 20;

/// What one more replica of each task that computes costs, the cheapest first: the steps that can
/// raise the throughput. Tasks that are placed together grow together. Of more than 20 tasks those
/// that the prices of the plan call cheapest; costs a packing for each.
///
/// Packings are not exact: where more replicas are packed for less, the plan becomes what is left
/// of that packing without them, so that no step is below it.
pub fn next_steps(application: &Application, catalog: &Catalog, plan: &mut Plan) -> Vec<WhatIf> {
    let mut groups: Vec<Vec<&str>> = Vec::new();
    for task in application.tasks.iter().filter(|task| task.role == Role::Compute) {
        let together = |group: &&Vec<String>| group.contains(&task.name);
        let group = match application.together.iter().find(together) {
            Some(group) => group.iter().map(String::as_str).collect(),
            None => vec![task.name.as_str()],
        };
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let price = |group: &[&str]| -> f64 {
        group.iter().filter_map(|name| plan.replica_usd_hour.get(*name)).sum()
    };
    groups.sort_by(|a, b| price(a).total_cmp(&price(b)));
    groups.truncate(STEPS_MAX);
    let mut steps = Vec::new();
    for group in groups {
        let mut more = application.clone();
        for task in more.tasks.iter_mut().filter(|task| group.contains(&task.name.as_str())) {
            let count = task.demand.replicas.min().saturating_add(1);
            if let Ok(replicas) = Replicas::new(count, count) {
                task.demand.replicas = replicas;
            }
        }
        let packed = packed(&more, catalog);
        let cost = packed.as_ref().map(Packed::usd_hour).map_err(Clone::clone);
        steps.push((format!("one more {}", group.join(" and ")), cost));
        let better = packed.ok().filter(|packed| packed.usd_hour() < plan.usd_hour);
        let left = better.and_then(|packed| packed.without_others(application, catalog, plan));
        if let Some(left) = left {
            *plan = left;
        }
    }
    let compared = |(change, cost)| WhatIf::costing(change, cost, plan);
    let mut steps: Vec<WhatIf> = steps.into_iter().map(compared).collect();
    steps.sort_by_key(|step| (step.usd_hour.is_none(), step.usd_hour));
    steps
}

type Change = fn(&mut crate::demand::Demand);

const CHANGES: [(&str, Change); 5] = [
    ("every task that may bears spot machines", |demand| demand.spot = true),
    ("processors in bursts where they are sustained", |demand| {
        demand.cpu = Cpu::burst(demand.cpu.cores);
    }),
    ("a quarter less memory for each task", |demand| {
        demand.memory = ByteSize::new(demand.memory.bytes() / 4 * 3);
    }),
    ("half as many processors again for each task", |demand| {
        let milli = demand.cpu.cores.as_milli();
        demand.cpu.cores = Cores::milli(milli.saturating_add(milli / 2));
    }),
    ("one more GPU for each task that has one", |demand| {
        demand.gpu = demand.gpu.take().map(|gpu| {
            let more = Gpu::new(gpu.nonzero().saturating_add(1));
            match gpu.kind() {
                Some(kind) => more.of_kind(kind),
                None => more,
            }
        });
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::Demand;
    use crate::packing::PackedTask;
    use crate::packing::tests::{Random, random_application};
    use std::num::NonZeroU32;

    #[test]
    fn each_change_has_its_price() {
        let aws = Catalog::built_in("aws").unwrap();
        let mut application = Application::default();
        let decode = Demand::default().with_cpu(Cpu::sustained(Cores::milli(4000)));
        application.tasks.push(PackedTask::new("decode", decode));
        let train = Demand::default().with_gpu(Gpu::new(NonZeroU32::MIN).of_kind("h100"));
        application.tasks.push(PackedTask::new("train", train));
        let plan = pack(&application, &aws).unwrap();
        let answers = what_if(&application, &aws, &plan);
        let delta = |words: &str| {
            let found = answers.iter().find(|answer| answer.change.contains(words)).unwrap();
            found.delta_usd_hour.unwrap()
        };
        assert!(delta("spot") <= 0.0 && delta("less memory") <= 0.0 && delta("bursts") <= 0.0);
        assert!(delta("processors again") >= 0.0 && delta("one more GPU") >= 0.0);
        // A p5.48xlarge has eight: a second one of them is there already.
        assert_eq!(delta("one more GPU"), 0.0);
        assert!(answers[0].to_string().contains("$/h ("), "{}", answers[0]);
    }

    #[test]
    fn a_change_that_cannot_be_packed_says_why() {
        let paper = Catalog::built_in("paper").unwrap().only(&["p2.xlarge".into()]).unwrap();
        let mut application = Application::default();
        let train = Demand::default().with_gpu(Gpu::new(NonZeroU32::MIN));
        application.tasks.push(PackedTask::new("train", train));
        let plan = pack(&application, &paper).unwrap();
        let answers = what_if(&application, &paper, &plan);
        let gpu = answers.iter().find(|answer| answer.change.contains("GPU")).unwrap();
        assert!(gpu.to_string().contains("`train` fits no machine of `paper`"), "{gpu}");
    }

    #[test]
    fn the_next_steps_are_sorted_by_what_they_cost() {
        let paper = Catalog::built_in("paper").unwrap().only(&["m4.large".into()]).unwrap();
        let mut application = Application::default();
        // Two cores, of which the first task leaves one.
        for (name, milli) in [("wide", 1000), ("large", 2000), ("left", 500), ("right", 500)] {
            let demand = Demand::default()
                .with_cpu(Cpu::sustained(Cores::milli(milli)))
                .with_memory(ByteSize::mib(100));
            application.tasks.push(PackedTask::new(name, demand));
        }
        application.tasks.push(PackedTask::new("memory", Demand::default()));
        application.tasks[4].role = Role::Memory;
        application.tasks[4].demand.cpu = Cpu::burst(Cores::milli(1));
        application.together = vec![vec!["left".into(), "right".into()]];
        let mut plan = pack(&application, &paper).unwrap();
        let steps = next_steps(&application, &paper, &mut plan);
        let words: Vec<&str> = steps.iter().map(|step| step.change.as_str()).collect();
        assert_eq!(words.len(), 3, "{words:?}");
        assert!(words.contains(&"one more left and right"), "{words:?}");
        let costs: Vec<f64> = steps.iter().map(|step| step.delta_usd_hour.unwrap()).collect();
        assert!(costs.is_sorted() && costs.iter().all(|cost| *cost >= 0.0), "{costs:?}");
        let large = steps.iter().find(|step| step.change == "one more large").unwrap();
        assert!((large.delta_usd_hour.unwrap() - 0.108).abs() < 1e-9, "{large:?}");
        for count in 0..30 {
            let one = PackedTask::new(format!("t{count}"), Demand::default());
            application.tasks.push(one);
        }
        let mut plan = pack(&application, &paper).unwrap();
        assert_eq!(next_steps(&application, &paper, &mut plan).len(), STEPS_MAX);
    }

    #[test]
    fn other_regions_are_compared() {
        let gcp = Catalog::built_in("gcp").unwrap();
        let mut application = Application::default();
        application.tasks.push(PackedTask::new("one", Demand::default()));
        let plan = pack(&application, &gcp).unwrap();
        let answers = what_if(&application, &gcp, &plan);
        let places: Vec<f64> = answers
            .iter()
            .filter(|answer| answer.change.starts_with("only in"))
            .map(|answer| answer.delta_usd_hour.unwrap())
            .collect();
        assert_eq!(places.len(), 2);
        // The plan is the cheaper of the two.
        assert!(places.contains(&0.0) && places.iter().all(|delta| *delta >= 0.0), "{places:?}");
    }

    /// With more kinds than can be searched through, one replica more is sometimes packed better.
    #[test]
    fn no_next_step_is_cheaper_than_the_plan() {
        let gcp = Catalog::built_in("gcp").unwrap();
        for seed in 1..=12 {
            let application = random_application(&mut Random(seed), 30, 60, false);
            let mut plan = pack(&application, &gcp).unwrap();
            let steps = next_steps(&application, &gcp, &mut plan);
            let least = steps.iter().filter_map(|step| step.delta_usd_hour).next().unwrap();
            assert!(least >= 0.0, "{seed}: {least}");
        }
    }
}
