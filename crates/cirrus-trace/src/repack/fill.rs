//! Machines filled one after another, each with tasks of the shape of what it has left.
//!
//! Owns [`Tasks`]: tasks by shape, and in a shape by size. Knows nothing of orders of machines.
//! Invariant: a task is taken once, and only by what covers it.
//!
//! First fit goes by size alone, and leaves machines of which one resource is used up. Here the next
//! task is of the shape nearest to the free amounts, the largest that fits, so that both resources
//! run out together.

use super::Amounts;

const SHAPES: usize = 32;
/// How many tasks that do not fit are passed over before smaller ones are tried.
const TRIES: usize = 8;

/// Tasks of about the same proportion of processors and memory, the largest first.
#[derive(Default)]
struct Shape {
    /// Size, task.
    tasks: Vec<(f64, u32)>,
    /// By place: a place at or after it, nearer to the next task that is not taken.
    next: Vec<u32>,
    left: usize,
}

/// Tasks that are not yet on a machine.
pub(super) struct Tasks<'a> {
    demands: &'a [Amounts],
    weights: Amounts,
    shapes: Vec<Shape>,
    pub(super) left: usize,
}

impl<'a> Tasks<'a> {
    pub(super) fn new(demands: &'a [Amounts], weights: Amounts) -> Self {
        let mut shapes: Vec<Shape> = (0..SHAPES).map(|_| Shape::default()).collect();
        for (task, demand) in (0..).zip(demands) {
            let [cpu, memory] = weighed(*demand, weights);
            shapes[shape(cpu, memory)].tasks.push((cpu + memory, task));
        }
        for shape in &mut shapes {
            shape.tasks.sort_by(|one, other| other.0.total_cmp(&one.0));
            shape.next = (0..).take(shape.tasks.len() + 1).collect();
            shape.left = shape.tasks.len();
        }
        Self { demands, weights, shapes, left: demands.len() }
    }

    /// Takes a task that the free amounts cover, of the nearest shape that has one.
    pub(super) fn take(&mut self, free: Amounts) -> Option<u32> {
        let [cpu, memory] = weighed(free, self.weights);
        let wanted = shape(cpu, memory);
        for away in 0..SHAPES {
            let below = wanted.checked_sub(away);
            let above = Some(wanted + away).filter(|above| away > 0 && *above < SHAPES);
            for shape in [below, above].into_iter().flatten() {
                if self.shapes[shape].left > 0
                    && let Some(task) = self.take_of(shape, free)
                {
                    self.left -= 1;
                    return Some(task);
                }
            }
        }
        None
    }

    /// Takes about the largest task of a shape that fits.
    fn take_of(&mut self, shape: usize, free: Amounts) -> Option<u32> {
        let [cpu, memory] = weighed(free, self.weights);
        let share = |border: usize| f64::from(u32::try_from(border).unwrap_or(0)) / SHAPES as f64;
        let (least, most) = (share(shape), share(shape + 1));
        let over = |amount: f64, share: f64| match share > 0.0 {
            true => amount / share,
            false => f64::INFINITY,
        };
        // No larger task of the shape fits; and, but for rounding, every task that is not larger.
        let may = over(cpu, least).min(over(memory, 1.0 - most));
        let must = over(cpu, most).min(over(memory, 1.0 - least));
        let Self { demands, shapes, .. } = self;
        let shape = &mut shapes[shape];
        for size in [may, must] {
            let mut place = shape.tasks.partition_point(|(of, _)| *of > size);
            for _ in 0..TRIES {
                place = shape.untaken(place);
                let Some((_, task)) = shape.tasks.get(place).copied() else { break };
                let demand = demands[task as usize];
                if demand[0] <= free[0] && demand[1] <= free[1] {
                    shape.next[place] += 1;
                    shape.left -= 1;
                    return Some(task);
                }
                place += 1;
            }
        }
        None
    }
}

impl Shape {
    /// The first place from this one on whose task is not taken, or the end.
    fn untaken(&mut self, place: usize) -> usize {
        let mut place = place;
        loop {
            let next = self.next[place] as usize;
            if next == place {
                return place;
            }
            // Whoever comes by again has half the way.
            self.next[place] = self.next[next];
            place = next;
        }
    }
}

fn weighed(amounts: Amounts, weights: Amounts) -> Amounts {
    [amounts[0] * weights[0], amounts[1] * weights[1]]
}

/// The share of processors, in steps.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number between 0 and 31"
)]
fn shape(cpu: f64, memory: f64) -> usize {
    let share = match cpu + memory > 0.0 {
        true => cpu / (cpu + memory),
        false => 0.5,
    };
    ((share * SHAPES as f64) as usize).min(SHAPES - 1)
}
