//! On how few machines tasks would go.
//!
//! Owns [`pack`] and [`at_least`]: first fit decreasing in two dimensions over machines that are
//! there, and machines filled one by one; several orders of machines and of tasks, the best kept;
//! and a bound. Knows nothing of traces.
//! Invariant: what is packed on a machine is never more than it has, and the bound is never above
//! what any packing takes.
//!
//! All machines stand in a row, those that are preferred first. In first fit a task goes on the first
//! with room. A tree over the row finds it: a run takes about tasks times the logarithm of machines.

mod fill;
#[cfg(test)]
mod tests;
mod tree;

use fill::Tasks;
use tree::Tree;

/// Processors and memory, of a machine or of a task.
pub(crate) type Amounts = [f64; 2];

/// Rounding that a sum of demands may have, relative to it.
const ROUNDING: f64 = 1e-9;

/// Where tasks went.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packing {
    /// By demand: the machine; `None` where no room was found.
    pub(crate) places: Vec<Option<u32>>,
    /// By machine: whether anything is on it.
    pub(crate) in_use: Vec<bool>,
}

impl Packing {
    fn new(machines: &[Amounts], demands: &[Amounts]) -> Self {
        Self { places: vec![None; demands.len()], in_use: vec![false; machines.len()] }
    }

    fn put(&mut self, task: u32, machine: u32) {
        self.places[task as usize] = Some(machine);
        self.in_use[machine as usize] = true;
    }

    fn add_first_fit(&mut self, row: &[u32], free: &[Amounts], demands: &[Amounts], tasks: &[u32]) {
        let mut tree = Tree::new(free);
        for task in tasks {
            if let Some(place) = tree.take_first(demands[*task as usize]) {
                self.put(*task, row[place]);
            }
        }
    }

    pub(crate) fn machines(&self) -> usize {
        self.in_use.iter().filter(|in_use| **in_use).count()
    }

    pub(crate) fn without_room(&self) -> usize {
        self.places.iter().filter(|place| place.is_none()).count()
    }

    /// Better is: more tasks with room, then fewer machines, then less capacity in use.
    fn rank(&self, machines: &[Amounts], weights: Amounts) -> (usize, usize, f64) {
        let in_use = machines.iter().zip(&self.in_use).filter(|(_, in_use)| **in_use);
        let capacity = in_use.map(|(machine, _)| weighted(*machine, weights)).sum();
        (self.without_room(), self.machines(), capacity)
    }
}

/// Packs tasks on machines, on as few as it finds.
pub(crate) fn pack(machines: &[Amounts], demands: &[Amounts]) -> Packing {
    let weights = weights(machines, demands);
    let by_sum = |amounts: Amounts| weighted(amounts, weights);
    let by_most = |amounts: Amounts| (amounts[0] * weights[0]).max(amounts[1] * weights[1]);
    let by_most = sorted(demands, by_most);
    let tasks = [sorted(demands, by_sum), balanced(demands, &by_most, weights), by_most];
    let rows = [
        sorted(machines, by_sum),
        sorted(machines, |machine| machine[1]),
        sorted(machines, |machine| machine[0]),
    ];
    let mut best: Option<(Packing, (usize, usize, f64))> = None;
    for (place, row) in rows.iter().enumerate() {
        // Machines that are all alike, or larger in both, have one order.
        if rows[..place].contains(row) {
            continue;
        }
        let first_fit = tasks.iter().map(|tasks| first_fit(machines, row, demands, tasks));
        for packing in first_fit.chain([filled(machines, row, demands, weights)]) {
            let rank = packing.rank(machines, weights);
            if best.as_ref().is_none_or(|(_, best)| rank < *best) {
                best = Some((packing, rank));
            }
        }
    }
    best.map_or_else(|| Packing::new(machines, demands), |(packing, _)| packing)
}

/// Fewer machines than this cannot hold the demands: for each resource the largest machines until
/// they cover it. All machines, where all together do not.
pub(crate) fn at_least(machines: &[Amounts], demands: &[Amounts]) -> usize {
    (0..2).map(|resource| covering(machines, demands, resource)).max().unwrap_or(0)
}

fn covering(machines: &[Amounts], demands: &[Amounts], resource: usize) -> usize {
    let demand: f64 = demands.iter().map(|demand| demand[resource]).sum();
    let mut capacities: Vec<f64> = machines.iter().map(|machine| machine[resource]).collect();
    capacities.sort_by(|one, other| other.total_cmp(one));
    let mut covered = 0.0;
    for (count, capacity) in capacities.iter().enumerate() {
        if covered >= demand * (1.0 - ROUNDING) {
            // A task that asks for nothing stands on a machine, too.
            return count.max(usize::from(!demands.is_empty()));
        }
        covered += capacity;
    }
    machines.len()
}

/// How much of each resource is asked for, of what is there: the scarce one weighs more.
fn weights(machines: &[Amounts], demands: &[Amounts]) -> Amounts {
    let total = |amounts: &[Amounts], resource: usize| -> f64 {
        amounts.iter().map(|amount| amount[resource]).sum()
    };
    [0, 1].map(|resource| {
        let capacity = total(machines, resource);
        let share = total(demands, resource) / capacity;
        match capacity > 0.0 {
            true => share.max(f64::MIN_POSITIVE) / capacity,
            false => 0.0,
        }
    })
}

fn weighted(amounts: Amounts, weights: Amounts) -> f64 {
    amounts[0] * weights[0] + amounts[1] * weights[1]
}

/// Places of the amounts, the largest first; equals in their order.
fn sorted(amounts: &[Amounts], size: impl Fn(Amounts) -> f64) -> Vec<u32> {
    let mut sizes: Vec<(f64, u32)> = amounts.iter().map(|amount| size(*amount)).zip(0..).collect();
    sizes.sort_by(|one, other| other.0.total_cmp(&one.0));
    sizes.into_iter().map(|(_, place)| place).collect()
}

/// Tasks by turns of the two resources, so that what has been packed of both grows alike: large
/// tasks of one shape alone would fill machines with it, and leave the other resource.
fn balanced(demands: &[Amounts], largest_first: &[u32], weights: Amounts) -> Vec<u32> {
    let size = |task: u32| {
        let demand = demands[task as usize];
        [demand[0] * weights[0], demand[1] * weights[1]]
    };
    let (cpu, memory): (Vec<u32>, Vec<u32>) = largest_first.iter().partition(|task| {
        let size = size(**task);
        size[0] > size[1]
    });
    let (mut cpu, mut memory) = (cpu.into_iter(), memory.into_iter());
    let mut packed = [0.0; 2];
    let mut order = Vec::with_capacity(demands.len());
    loop {
        let next = match packed[0] <= packed[1] {
            true => cpu.next().or_else(|| memory.next()),
            false => memory.next().or_else(|| cpu.next()),
        };
        let Some(task) = next else { return order };
        let size = size(task);
        packed = [packed[0] + size[0], packed[1] + size[1]];
        order.push(task);
    }
}

/// Tasks in their order, each on the first machine of the row that has room.
fn first_fit(machines: &[Amounts], row: &[u32], demands: &[Amounts], tasks: &[u32]) -> Packing {
    let in_row: Vec<Amounts> = row.iter().map(|machine| machines[*machine as usize]).collect();
    let mut packing = Packing::new(machines, demands);
    packing.add_first_fit(row, &in_row, demands, tasks);
    packing
}

/// Machines of the row one after another, each filled with what suits what it has left.
fn filled(machines: &[Amounts], row: &[u32], demands: &[Amounts], weights: Amounts) -> Packing {
    let mut tasks = Tasks::new(demands, weights);
    let mut packing = Packing::new(machines, demands);
    let mut free: Vec<Amounts> = row.iter().map(|machine| machines[*machine as usize]).collect();
    for (machine, free) in row.iter().zip(&mut free) {
        while tasks.left > 0
            && let Some(task) = tasks.take(*free)
        {
            let demand = demands[task as usize];
            *free = [free[0] - demand[0], free[1] - demand[1]];
            packing.put(task, *machine);
        }
    }
    // What was passed over may still have room.
    let over = sorted(demands, |demand| weighted(demand, weights));
    let over: Vec<u32> =
        over.into_iter().filter(|task| packing.places[*task as usize].is_none()).collect();
    packing.add_first_fit(row, &free, demands, &over);
    packing
}
