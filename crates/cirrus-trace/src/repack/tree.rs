//! The first machine of a row that has room for a task.
//!
//! Owns [`Tree`]. Knows nothing of orders.
//! Invariant: each node holds, for every measure, the most of the machines below it; a machine has
//! room if and only if its own free amounts cover the task.
//!
//! The most processors and the most memory below a node may be of two machines, and a search by
//! these alone looks at every machine of which one resource is used up. So nodes hold measures of
//! both, too: the lesser of memory and processors times a power of two. A task fits only where each
//! measure of the machine is at least the task's, and the measure whose power is nearest to the
//! task's own shape rules most others out.

use super::Amounts;

/// Powers of two by which processors are multiplied.
const SHAPES: [f64; 6] = [0.125, 0.5, 1.0, 2.0, 8.0, 32.0];
const MEASURES: usize = 2 + SHAPES.len();

type Measures = [f64; MEASURES];

pub(super) struct Tree {
    /// The root is at 1, the children of k at 2k and 2k + 1.
    nodes: Vec<Measures>,
    leaves: usize,
    /// A power of two by which processors become as large as memory: exact.
    scale: f64,
}

impl Tree {
    pub(super) fn new(row: &[Amounts]) -> Self {
        let most = |resource: usize| row.iter().map(|free| free[resource]).fold(0.0, f64::max);
        let scale = match (most(0), most(1)) {
            (cpu, memory) if cpu > 0.0 && memory > 0.0 => (memory / cpu).log2().round().exp2(),
            _ => 1.0,
        };
        let leaves = row.len().next_power_of_two();
        let mut tree = Self { nodes: vec![[-1.0; MEASURES]; 2 * leaves], leaves, scale };
        for (place, free) in row.iter().enumerate() {
            tree.nodes[leaves + place] = tree.measures(*free);
        }
        for node in (1..leaves).rev() {
            tree.nodes[node] = most_of(&tree.nodes[2 * node], &tree.nodes[2 * node + 1]);
        }
        tree
    }

    /// Takes a task's amounts from the first machine with room, and says which it is.
    pub(super) fn take_first(&mut self, task: Amounts) -> Option<usize> {
        let measures = self.measures(task);
        let leaf = self.first(&measures)?;
        let free = &self.nodes[leaf];
        let left = [free[0] - task[0], free[1] - task[1]];
        self.nodes[leaf] = self.measures(left);
        let mut node = leaf / 2;
        while node > 0 {
            let most = most_of(&self.nodes[2 * node], &self.nodes[2 * node + 1]);
            if most == self.nodes[node] {
                break;
            }
            self.nodes[node] = most;
            node /= 2;
        }
        Some(leaf - self.leaves)
    }

    /// The leftmost leaf that covers the task, depth first.
    fn first(&self, task: &Measures) -> Option<usize> {
        let mut node = 1;
        loop {
            if covers(&self.nodes[node], task) {
                if node >= self.leaves {
                    return Some(node);
                }
                node *= 2;
                continue;
            }
            // On to the next that is not below this one.
            while node % 2 == 1 {
                if node == 1 {
                    return None;
                }
                node /= 2;
            }
            node += 1;
        }
    }

    fn measures(&self, amounts: Amounts) -> Measures {
        let [cpu, memory] = amounts;
        let mut measures = [cpu; MEASURES];
        measures[1] = memory;
        for (measure, shape) in measures[2..].iter_mut().zip(SHAPES) {
            *measure = (cpu * self.scale * shape).min(memory);
        }
        measures
    }
}

fn most_of(one: &Measures, other: &Measures) -> Measures {
    let mut most = *one;
    for (most, other) in most.iter_mut().zip(other) {
        *most = most.max(*other);
    }
    most
}

fn covers(free: &Measures, task: &Measures) -> bool {
    free.iter().zip(task).fold(true, |covers, (free, task)| covers & (free >= task))
}
