use proptest::collection::vec;
use proptest::prelude::*;

use super::{Amounts, Packing, at_least, pack};

/// The fewest machines that hold all demands; `None` where they do not fit.
fn optimum(machines: &[Amounts], demands: &[Amounts]) -> Option<usize> {
    fn fits(free: &mut Vec<Amounts>, demands: &[Amounts]) -> bool {
        let Some((demand, rest)) = demands.split_first() else { return true };
        for machine in 0..free.len() {
            let before = free[machine];
            if before[0] >= demand[0] && before[1] >= demand[1] {
                free[machine] = [before[0] - demand[0], before[1] - demand[1]];
                let fits = fits(free, rest);
                free[machine] = before;
                if fits {
                    return true;
                }
            }
        }
        false
    }
    let subsets = 0u32..1 << machines.len();
    let holds = |subset: &u32| {
        let mut free: Vec<Amounts> = (0..machines.len())
            .filter(|machine| subset >> machine & 1 == 1)
            .map(|machine| machines[machine])
            .collect();
        fits(&mut free, demands)
    };
    subsets.filter(holds).map(|subset| subset.count_ones() as usize).min()
}

/// Every task is where there is room, and machines in use are those with a task.
fn check(machines: &[Amounts], demands: &[Amounts], packing: &Packing) {
    let mut loads = vec![[0.0; 2]; machines.len()];
    let mut in_use = vec![false; machines.len()];
    for (place, demand) in packing.places.iter().zip(demands) {
        let Some(machine) = place else { continue };
        in_use[*machine as usize] = true;
        loads[*machine as usize][0] += demand[0];
        loads[*machine as usize][1] += demand[1];
    }
    assert_eq!(packing.places.len(), demands.len());
    assert_eq!(packing.in_use, in_use);
    for (load, machine) in loads.iter().zip(machines) {
        assert!(load[0] <= machine[0] && load[1] <= machine[1], "{load:?} on {machine:?}");
    }
    // Whoever found no room has none anywhere.
    for (place, demand) in packing.places.iter().zip(demands) {
        let room = loads.iter().zip(machines).any(|(load, machine)| {
            machine[0] - load[0] >= demand[0] && machine[1] - load[1] >= demand[1]
        });
        assert!(place.is_some() || !room, "{demand:?} was left out");
    }
}

/// In 16ths, so that sums are exact.
fn amounts(most: u32) -> impl Strategy<Value = Amounts> {
    (0..=most, 0..=most).prop_map(|(cpu, memory)| [f64::from(cpu) / 16.0, f64::from(memory) / 16.0])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    /// Machines of all sizes: never better than the best, and the bound never above it.
    #[test]
    fn against_every_packing(machines in vec(amounts(16), 0..5), demands in vec(amounts(9), 0..7)) {
        let packing = pack(&machines, &demands);
        check(&machines, &demands, &packing);
        let bound = at_least(&machines, &demands);
        match optimum(&machines, &demands) {
            Some(optimum) => {
                prop_assert!(bound <= optimum, "bound {bound}, optimum {optimum}");
                if packing.without_room() == 0 {
                    prop_assert!(packing.machines() >= optimum);
                }
            }
            None => prop_assert!(packing.without_room() > 0),
        }
    }

    /// One resource, machines alike: first fit decreasing takes at most 11/9 of the best and 6/9
    /// (Dósa 2007).
    #[test]
    fn one_resource_within_what_is_proven(
        memory in vec(0..=16u32, 1..7),
        first in any::<bool>(),
    ) {
        let machines = vec![[1.0, 1.0]; 6];
        let demand = |part: &u32| {
            let part = f64::from(*part) / 16.0;
            if first { [part, 0.0] } else { [0.0, part] }
        };
        let demands: Vec<Amounts> = memory.iter().map(demand).collect();
        let optimum = optimum(&machines, &demands).unwrap();
        let packing = pack(&machines, &demands);
        check(&machines, &demands, &packing);
        prop_assert!(9 * packing.machines() <= 11 * optimum + 6);
    }

    /// Two resources, machines alike: at most 2.7 times the best and one (Garey, Graham, Johnson,
    /// Yao 1976: d + 7/10 for first fit in whichever order).
    #[test]
    fn two_resources_within_what_is_proven(demands in vec(amounts(16), 1..7)) {
        let machines = vec![[1.0, 1.0]; 6];
        let optimum = optimum(&machines, &demands).unwrap();
        let packing = pack(&machines, &demands);
        check(&machines, &demands, &packing);
        prop_assert_eq!(packing.without_room(), 0);
        prop_assert!(10 * packing.machines() <= 27 * optimum + 10);
    }

    /// Many machines, tasks of every shape: the tree finds what looking at every machine finds.
    #[test]
    fn the_tree_finds_the_first_machine_with_room(
        machines in vec(amounts(64), 1..40),
        demands in vec(amounts(24), 0..80),
    ) {
        let mut tree = super::tree::Tree::new(&machines);
        let mut free = machines;
        for demand in demands {
            let room = |free: &Amounts| free[0] >= demand[0] && free[1] >= demand[1];
            let expected = free.iter().position(room);
            prop_assert_eq!(tree.take_first(demand), expected);
            if let Some(machine) = expected {
                free[machine] = [free[machine][0] - demand[0], free[machine][1] - demand[1]];
            }
        }
    }

    /// Each way by itself, also where it is not the best.
    #[test]
    fn every_way_packs_what_fits(
        machines in vec(amounts(64), 0..20),
        demands in vec(amounts(40), 0..60),
    ) {
        let weights = super::weights(&machines, &demands);
        let row = super::sorted(&machines, |machine| machine[0] + machine[1]);
        let tasks = super::sorted(&demands, |demand| demand[0] + demand[1]);
        let balanced = super::balanced(&demands, &tasks, weights);
        let mut all = balanced.clone();
        all.sort_unstable();
        prop_assert_eq!(all, (0..).take(demands.len()).collect::<Vec<u32>>());
        check(&machines, &demands, &super::filled(&machines, &row, &demands, weights));
        for tasks in [tasks, balanced] {
            check(&machines, &demands, &super::first_fit(&machines, &row, &demands, &tasks));
        }
    }

    #[test]
    fn more_margin_never_needs_fewer(
        machines in vec(amounts(64), 1..20),
        demands in vec(amounts(24), 0..40),
        margin in 0.0..1.0f64,
    ) {
        let more: Vec<Amounts> =
            demands.iter().map(|demand| demand.map(|part| part * (1.0 + margin))).collect();
        prop_assert!(at_least(&machines, &more) >= at_least(&machines, &demands));
        check_roughly(&machines, &more, &pack(&machines, &more));
    }
}

#[test]
fn nothing_on_nothing() {
    assert_eq!(pack(&[], &[]).machines(), 0);
    assert_eq!(pack(&[], &[[0.0, 0.0]]).without_room(), 1);
    assert_eq!(at_least(&[[1.0, 1.0]], &[]), 0);
    assert_eq!(at_least(&[[1.0, 1.0]], &[[0.0, 0.0]]), 1);
    assert_eq!(pack(&[[1.0, 1.0]], &[]).machines(), 0);
}

#[test]
fn two_halves_share_a_machine_and_larger_machines_come_first() {
    let machines = [[0.5, 0.5], [1.0, 1.0], [0.5, 0.25]];
    let packing = pack(&machines, &[[0.5, 0.25], [0.5, 0.75]]);
    assert_eq!(packing.places, [Some(1), Some(1)]);
    assert_eq!(at_least(&machines, &[[0.5, 0.25], [0.5, 0.75]]), 1);
}

#[test]
fn tasks_of_two_shapes_fill_machines_together() {
    // First fit decreasing alone would lay processors upon processors.
    let shapes = [[0.25, 0.0625], [0.0625, 0.25]];
    let demands: Vec<Amounts> = (0..240).map(|task| shapes[task % 2]).collect();
    let machines = vec![[1.0, 1.0]; 100];
    let packing = pack(&machines, &demands);
    check(&machines, &demands, &packing);
    // Three of each fill a machine to 15/16.
    assert_eq!((at_least(&machines, &demands), packing.machines()), (38, 40));
}

/// Reproducible numbers between 0 and 1.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 33).unwrap()) / f64::from(1u32 << 31)
    }
}

const TASKS: usize = 150_000;

#[test]
fn a_cluster_is_packed_near_its_bound() {
    type Shape = fn(&mut Numbers) -> Amounts;
    let shapes: [(&str, Shape); 4] = [
        ("alike", |numbers| [0.02 * numbers.next(), 0.02 * numbers.next()]),
        ("skewed", |numbers| {
            let tail = |number: f64| 0.002 / (number + 0.01);
            [tail(numbers.next()), tail(numbers.next())]
        }),
        ("lopsided", |numbers| {
            let (large, small) = (0.03 * numbers.next(), 0.001 * numbers.next());
            if numbers.next() < 0.5 { [large, small] } else { [small, large] }
        }),
        ("full", |numbers| [0.035 * numbers.next(), 0.035 * numbers.next()]),
    ];
    let mut numbers = Numbers(7);
    let machines: Vec<Amounts> = (0..12_500u32)
        .map(|place| match place % 10 {
            0 => [1.0, 1.0],
            1..4 => [0.5, 0.25],
            4 => [0.25, 0.25],
            5 => [0.5, 0.75],
            _ => [0.5, 0.5],
        })
        .collect();
    for (name, shape) in shapes {
        let demands: Vec<Amounts> = (0..TASKS).map(|_| shape(&mut numbers)).collect();
        let packing = pack(&machines, &demands);
        let (needed, least) = (packing.machines(), at_least(&machines, &demands));
        check_roughly(&machines, &demands, &packing);
        assert!(least <= needed && needed * 20 <= least * 21, "{name}: {needed} of {least}");
        assert_eq!(packing.without_room(), 0, "{name}");
    }
}

/// As [`check`], where sums are rounded.
fn check_roughly(machines: &[Amounts], demands: &[Amounts], packing: &Packing) {
    let mut loads = vec![[0.0; 2]; machines.len()];
    for (place, demand) in packing.places.iter().zip(demands) {
        let Some(machine) = place else { continue };
        loads[*machine as usize][0] += demand[0];
        loads[*machine as usize][1] += demand[1];
    }
    for (load, machine) in loads.iter().zip(machines) {
        assert!(load[0] <= machine[0] + 1e-12 && load[1] <= machine[1] + 1e-12);
    }
}
