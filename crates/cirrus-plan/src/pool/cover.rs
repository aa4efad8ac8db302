//! Covering a few sums at least cost.
//!
//! Owns [`Cover`]: the linear program, then a search over whole numbers in the room that its dual
//! values leave. Knows numbers only. Coverage is checked in whole numbers.

use super::to_f64;
use crate::money::UsdPerHour;
use crate::simplex::{Program, Sense};

/// What is covered: processors, memory, accelerators.
pub(super) const SUMS: usize = 3;
/// The most steps of the search; beyond, the best that was found stands with the bound.
const STEPS_MAX: u32 = 2_000_000;

type Amounts = [u64; SUMS];

/// How many of each type, and what that costs.
pub(super) struct Cover {
    pub(super) counts: Vec<f64>,
    pub(super) cost: UsdPerHour,
    pub(super) bound: UsdPerHour,
    /// Dollars for one unit more of each sum.
    pub(super) prices: [f64; SUMS],
}

impl Cover {
    /// Covers `need`; for each sum that is needed some type holds some.
    pub(super) fn new(types: &[(UsdPerHour, Amounts)], need: Amounts, fractional: bool) -> Self {
        // A whole machine is worth no more than what is needed of it; of a part there may be many.
        let clip = |&(price, holds): &(UsdPerHour, Amounts)| {
            (price, std::array::from_fn(|sum| need[sum].min(holds[sum])))
        };
        let clipped: Vec<_> = types.iter().map(clip).collect();
        let types = if fractional { types } else { &clipped };
        let kept = undominated(types, need);
        let (amounts, prices) = relaxed(types, need, &kept);
        let relaxation: f64 = (0..SUMS).map(|at| prices[at] * to_f64(need[at])).sum();
        // Widened downwards by a thousand times what rounding can have done.
        let bound = micros((relaxation * (1.0 - 1e-9)).max(0.0), f64::ceil);
        let mut counts = vec![0.0; types.len()];
        if fractional {
            kept.iter().zip(amounts).for_each(|(&at, amount)| counts[at] = amount);
            let cost = micros(relaxation, f64::round);
            return Self { counts, cost, bound: cost, prices };
        }
        let mut search = Search::new(types, need, prices, kept);
        search.dive(need);
        search.descend(0, need, 0);
        let cost = UsdPerHour::micros(search.best);
        for (&at, &count) in search.order.iter().zip(&search.best_counts) {
            counts[at] = to_f64(count);
        }
        let bound = if search.steps < STEPS_MAX { cost } else { bound.min(cost) };
        Self { counts, cost, bound, prices }
    }
}

/// The types that are not replaced by several of another one for the same money or less.
fn undominated(types: &[(UsdPerHour, Amounts)], need: Amounts) -> Vec<usize> {
    let replaces = |by: usize, at: usize| {
        let ((price, holds), (other, wanted)) = (types[by], types[at]);
        let sums = (0..SUMS).filter(|&sum| need[sum] > 0 && wanted[sum] > 0);
        let copies = |sum: usize| (holds[sum] > 0).then(|| wanted[sum].div_ceil(holds[sum]));
        let mut copies = sums.map(copies);
        let Some(copies) = copies.try_fold(0, |most, copies| Some(copies?.max(most))) else {
            return false;
        };
        // Of two that replace each other the first stays.
        let cost = u128::from(price.as_micros()) * u128::from(copies);
        let other = u128::from(other.as_micros());
        // Of what costs nothing, any number costs the same.
        cost < other || (cost == other && ((copies > 1 && other > 0) || by < at))
    };
    let all = 0..types.len();
    all.clone().filter(|&at| !all.clone().any(|by| by != at && replaces(by, at))).collect()
}

/// The linear program: how much of each kept type, and the price of each sum.
fn relaxed(
    types: &[(UsdPerHour, Amounts)],
    need: Amounts,
    kept: &[usize],
) -> (Vec<f64>, [f64; SUMS]) {
    let needed: Vec<usize> = (0..SUMS).filter(|&sum| need[sum] > 0).collect();
    // In shares of the need, so that bytes and processors are of one size.
    let share = |held: u64, sum: usize| to_f64(held) / to_f64(need[sum]);
    let mut program = Program::new(&vec![(Sense::AtLeast, 1.0); needed.len()]);
    for &at in kept {
        let (price, holds) = types[at];
        let entries = needed.iter().enumerate().map(|(row, &sum)| (row, share(holds[sum], sum)));
        program.push(price.as_dollars(), entries.collect());
    }
    program.solve();
    let mut amounts = vec![0.0; kept.len()];
    program.solution().into_iter().for_each(|(column, amount)| amounts[column] = amount);
    let mut prices = [0.0; SUMS];
    for (&sum, dual) in needed.iter().zip(program.duals()) {
        prices[sum] = dual.max(0.0) / to_f64(need[sum]);
    }
    // What is held for nothing is worth nothing, however a dual value was rounded.
    for (_, holds) in types.iter().filter(|(price, _)| price.as_micros() == 0) {
        (0..SUMS).filter(|&sum| holds[sum] > 0).for_each(|sum| prices[sum] = 0.0);
    }
    // Scaled down to what every type allows, so that the prices prove a bound.
    let worth =
        |at: usize| (0..SUMS).map(|sum| prices[sum] * to_f64(types[at].1[sum])).sum::<f64>();
    let paid = (0..types.len()).filter(|&at| types[at].0.as_micros() > 0);
    let over = paid.map(|at| worth(at) / types[at].0.as_dollars()).fold(1.0, f64::max);
    (amounts, prices.map(|price| price / over))
}

/// Depth first over how many of each type, dear ones first, as long as the bound allows.
struct Search<'a> {
    types: &'a [(UsdPerHour, Amounts)],
    prices: [f64; SUMS],
    order: Vec<usize>,
    counts: Vec<u64>,
    best_counts: Vec<u64>,
    best: u64,
    steps: u32,
}

impl<'a> Search<'a> {
    fn new(
        types: &'a [(UsdPerHour, Amounts)],
        need: Amounts,
        prices: [f64; SUMS],
        mut order: Vec<usize>,
    ) -> Self {
        let reduced = |at: &usize| {
            let (price, holds) = types[*at];
            price.as_dollars() - (0..SUMS).map(|sum| prices[sum] * to_f64(holds[sum])).sum::<f64>()
        };
        order.sort_by(|a, b| reduced(b).total_cmp(&reduced(a)));
        let counts = vec![0; order.len()];
        let mut search = Self {
            types,
            prices,
            order,
            best_counts: counts.clone(),
            counts,
            best: u64::MAX,
            steps: 0,
        };
        for at in 0..search.order.len() {
            search.alone(at, need);
        }
        search
    }

    /// How many of the type at this place of the order cover what is left; `None`: none do.
    fn copies(&self, place: usize, left: Amounts) -> Option<u64> {
        let holds = self.types[self.order[place]].1;
        (0..SUMS).try_fold(0, |most, sum| match (left[sum], holds[sum]) {
            (0, _) => Some(most),
            (_, 0) => None,
            (left, held) => Some(most.max(left.div_ceil(held))),
        })
    }

    /// One type for everything: the first answers, so that the search has a best to beat.
    fn alone(&mut self, place: usize, need: Amounts) {
        let Some(copies) = self.copies(place, need) else { return };
        let cost = self.types[self.order[place]].0.times(copies).as_micros();
        if cost < self.best {
            self.best = cost;
            self.best_counts.fill(0);
            self.best_counts[place] = copies;
        }
    }

    /// The whole part of the linear program's answer, then that for what is left, and so on: an
    /// answer close enough to the best that the search has little room.
    fn dive(&mut self, need: Amounts) {
        let places: Vec<usize> = (0..self.order.len()).collect();
        let (mut left, mut cost) = (need, 0u64);
        while left != [0; SUMS] {
            let clip = |&at: &usize| {
                let (price, holds) = self.types[at];
                (price, std::array::from_fn(|sum| left[sum].min(holds[sum])))
            };
            let types: Vec<_> = self.order.iter().map(clip).collect();
            let (amounts, _) = relaxed(&types, left, &places);
            let largest = places.iter().max_by(|&&a, &&b| amounts[a].total_cmp(&amounts[b]));
            let Some(&place) = largest.filter(|&&place| amounts[place] > 1e-9) else { break };
            let copies = whole(amounts[place]).max(1);
            let (price, holds) = self.types[self.order[place]];
            (0..SUMS).for_each(|sum| left[sum] = left[sum].saturating_sub(holds[sum] * copies));
            cost = cost.saturating_add(price.times(copies).as_micros());
            self.counts[place] += copies;
        }
        if left == [0; SUMS] {
            self.offer(cost);
        }
        self.counts.fill(0);
    }

    fn descend(&mut self, place: usize, left: Amounts, cost: u64) {
        self.steps += 1;
        if self.steps >= STEPS_MAX {
            return;
        }
        if left == [0; SUMS] {
            self.offer(cost);
            return;
        }
        let Some(&at) = self.order.get(place) else { return };
        let (price, holds) = self.types[at];
        if place + 1 == self.order.len() {
            if let Some(copies) = self.copies(place, left) {
                self.counts[place] = copies;
                self.offer(cost.saturating_add(price.times(copies).as_micros()));
                self.counts[place] = 0;
            }
            return;
        }
        let (mut left, mut cost) = (left, cost);
        while self.may_beat(left, cost) {
            self.descend(place + 1, left, cost);
            if left == [0; SUMS] {
                break;
            }
            let before = left;
            (0..SUMS).for_each(|sum| left[sum] = left[sum].saturating_sub(holds[sum]));
            if left == before {
                // One more of it helps nobody.
                break;
            }
            cost = cost.saturating_add(price.as_micros());
            self.counts[place] += 1;
        }
        self.counts[place] = 0;
    }

    fn may_beat(&self, left: Amounts, cost: u64) -> bool {
        let rest: f64 = (0..SUMS).map(|sum| self.prices[sum] * to_f64(left[sum])).sum();
        self.steps < STEPS_MAX
            && cost.saturating_add(micros(rest * (1.0 - 1e-9), f64::ceil).as_micros()) < self.best
    }

    fn offer(&mut self, cost: u64) {
        if cost < self.best {
            self.best = cost;
            self.best_counts.clone_from(&self.counts);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn whole(amount: f64) -> u64 {
    amount as u64
}

/// Dollars as micro-dollars.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
pub(crate) fn micros(dollars: f64, rounded: fn(f64) -> f64) -> UsdPerHour {
    UsdPerHour::micros(rounded(dollars * 1e6) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every sum of counts, one machine after the other, least cost first.
    fn exhaustive(types: &[(UsdPerHour, Amounts)], need: Amounts) -> u64 {
        let mut queue = std::collections::BTreeSet::from([(0, need)]);
        let mut seen = std::collections::HashSet::new();
        while let Some((cost, left)) = queue.pop_first() {
            if left == [0; SUMS] {
                return cost;
            }
            if !seen.insert(left) {
                continue;
            }
            for (price, holds) in types {
                let rest = std::array::from_fn(|sum| left[sum].saturating_sub(holds[sum]));
                if rest != left {
                    queue.insert((cost + price.as_micros(), rest));
                }
            }
        }
        unreachable!("some type holds some of each")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn whole_machines_cost_what_trying_everything_finds(
            types in proptest::collection::vec((0u64..60, [1u64..7, 0u64..7, 0u64..3]), 1..6),
            need in [0u64..25, 0u64..25, 0u64..4],
        ) {
            let types: Vec<_> =
                types.into_iter().map(|(price, holds)| (UsdPerHour::micros(price), holds)).collect();
            let held = |sum: usize| types.iter().any(|(_, holds)| holds[sum] > 0);
            prop_assume!((0..SUMS).all(|sum| need[sum] == 0 || held(sum)));
            let cover = Cover::new(&types, need, false);
            prop_assert_eq!(cover.cost.as_micros(), exhaustive(&types, need));
            prop_assert_eq!(cover.bound, cover.cost);
            let parts = Cover::new(&types, need, true);
            prop_assert!(parts.cost <= cover.cost && parts.bound <= parts.cost);
        }
    }
}
