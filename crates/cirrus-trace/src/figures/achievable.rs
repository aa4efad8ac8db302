//! The tasks of a moment on as few machines as they need.
//!
//! Owns what becomes of a [`Moment`] in the report. Knows nothing of slots.
//! Invariant: what is needed and what remains add up to what is up.

use super::moments::Moment;
use super::seconds;
use crate::repack::{self, Amounts, Packing};
use crate::report::{Achievable, Machines, Pools, Repacked};

/// Packs a moment's tasks on whole machines, and by processors alone for each local fraction if
/// the trace says what processors were used.
pub(super) fn achievable(
    name: &'static str,
    moment: &Moment,
    fractions: Option<&[f64]>,
    margin: f64,
) -> Achievable {
    // Whichever was named first: the same machines and tasks are packed the same.
    let machines = &descending(&moment.machines);
    let demands = &descending(&moment.demands);
    let sum = |resource: usize| demands.iter().map(|demand| demand[resource]).sum();
    let up = sum_of(machines.iter());
    let packing = repack::pack(machines, demands);
    let needed = in_use(machines, &packing);
    Achievable {
        moment: name,
        at_s: seconds(moment.at),
        tasks: demands.len(),
        machine_loads: moment.machine_loads,
        tasks_left_out: moment.left_out,
        margin,
        up,
        demand_cpu: fractions.map(|_| sum(0)),
        demand_memory: sum(1),
        whole_machines: Repacked {
            needed,
            machines_at_least: repack::at_least(machines, demands),
            remain: Machines {
                machines: up.machines - needed.machines,
                cpu: up.cpu - needed.cpu,
                memory: up.memory - needed.memory,
            },
            tasks_without_room: packing.without_room(),
        },
        pools: fractions.map_or_else(Vec::new, |it| pools(machines, demands, up, it)),
    }
}

fn descending(amounts: &[Amounts]) -> Vec<Amounts> {
    let mut amounts = amounts.to_vec();
    amounts.sort_by(|one, other| other[1].total_cmp(&one[1]).then(other[0].total_cmp(&one[0])));
    amounts
}

fn pools(machines: &[Amounts], demands: &[Amounts], up: Machines, fractions: &[f64]) -> Vec<Pools> {
    let cpu_only: Vec<_> = demands.iter().map(|demand| [demand[0], 0.0]).collect();
    let packing = repack::pack(machines, &cpu_only);
    let machines_at_least = repack::at_least(machines, &cpu_only);
    let needed = in_use(machines, &packing);
    let mut loads = vec![0.0; machines.len()];
    // Memory does not need a machine: that of tasks without processors is all remote.
    let mut nowhere = 0.0;
    for (place, demand) in packing.places.iter().zip(demands) {
        match place {
            Some(machine) => loads[*machine as usize] += demand[1],
            None => nowhere += demand[1],
        }
    }
    let of_fraction = |fraction: &f64| {
        let used = || machines.iter().zip(&loads).zip(&packing.in_use).filter(|(_, used)| **used);
        let memory_local = used().map(|((machine, _), _)| fraction * machine[1]).sum();
        let beyond = |((machine, load), _): ((&Amounts, &f64), &bool)| {
            (load - fraction * machine[1]).max(0.0)
        };
        let memory_remote = nowhere + used().map(beyond).sum::<f64>();
        Pools {
            local_fraction: *fraction,
            machines: needed.machines,
            machines_at_least,
            memory_local,
            memory_remote,
            remain: Machines {
                machines: up.machines - needed.machines,
                cpu: up.cpu - needed.cpu,
                memory: up.memory - memory_local - memory_remote,
            },
            tasks_without_room: packing.without_room(),
        }
    };
    fractions.iter().map(of_fraction).collect()
}

fn in_use(machines: &[Amounts], packing: &Packing) -> Machines {
    let in_use = machines.iter().zip(&packing.in_use).filter(|(_, in_use)| **in_use);
    sum_of(in_use.map(|(machine, _)| machine))
}

fn sum_of<'a>(machines: impl Iterator<Item = &'a Amounts>) -> Machines {
    let mut sum = Machines::default();
    for machine in machines {
        sum.machines += 1;
        sum.cpu += machine[0];
        sum.memory += machine[1];
    }
    sum
}
