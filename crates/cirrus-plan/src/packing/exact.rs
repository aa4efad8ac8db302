//! The optimum of small instances.
//!
//! Owns [`search`]: one machine after the other, each with the first kind that is left over, as
//! long as the prices of the linear program allow. Knows no column. What it calls proven is the
//! optimum, whatever the prices were, as long as no content is worth more than its machine costs.

use std::collections::HashMap;

use super::instance::{Amounts, Instance, Packing, Pattern, take};
use crate::pool::to_f64;

/// Steps of a search for a part of a larger answer.
pub(super) const STEPS_FEW: u32 = 4_000;
/// Steps of the search for a whole answer.
pub(super) const STEPS_MANY: u32 = 400_000;

/// What was found, and whether nothing is cheaper.
pub(super) struct Found {
    pub(super) packing: Option<Packing>,
    pub(super) proven: bool,
}

/// The cheapest packing of these counts within these limits.
pub(super) fn search(
    instance: &Instance,
    left: &[u32],
    limits: &[u32],
    prices: &[f64],
    steps: u32,
) -> Found {
    let mut order: Vec<usize> = (0..left.len()).filter(|&kind| left[kind] > 0).collect();
    order.sort_by(|&a, &b| prices[b].total_cmp(&prices[a]));
    let mut machines: Vec<usize> = (0..instance.machines.len()).collect();
    machines.sort_by_key(|&at| instance.machines[at].cost);
    // A fee may make it dearer to hold more, so that contents are not always filled up.
    let has_fees =
        instance.machines.iter().any(|it| it.fees.iter().any(|fee| fee.unwrap_or(0) > 0));
    let mut search = Search {
        instance,
        prices,
        order,
        machines,
        fills: !has_fees,
        left: left.to_vec(),
        limits: limits.to_vec(),
        path: Vec::new(),
        best: u64::MAX,
        best_path: None,
        seen: HashMap::new(),
        steps: 0,
        steps_max: steps,
    };
    search.descend(0);
    let proven = search.steps < steps;
    let packing = search.best_path.map(|path| path.into_iter().map(|it| (it, 1)).collect());
    Found { packing, proven }
}

struct Search<'a> {
    instance: &'a Instance,
    prices: &'a [f64],
    order: Vec<usize>,
    machines: Vec<usize>,
    fills: bool,
    left: Vec<u32>,
    limits: Vec<u32>,
    path: Vec<Pattern>,
    best: u64,
    best_path: Option<Vec<Pattern>>,
    /// The least that was paid on the way to each state.
    seen: HashMap<(Vec<u32>, Vec<u32>), u64>,
    steps: u32,
    steps_max: u32,
}

impl Search<'_> {
    fn descend(&mut self, cost: u64) {
        let Some(first) = self.order.iter().position(|&kind| self.left[kind] > 0) else {
            if cost < self.best {
                self.best = cost;
                self.best_path = Some(self.path.clone());
            }
            return;
        };
        if self.hopeless(cost, 0.0) || self.steps >= self.steps_max {
            return;
        }
        let state = (self.left.clone(), self.limits.clone());
        match self.seen.get(&state) {
            Some(&paid) if paid <= cost => return,
            _ => self.seen.insert(state, cost),
        };
        let mut contents = Vec::new();
        for at in 0..self.machines.len() {
            let machine = self.machines[at];
            let limit = self.instance.machines[machine].limit;
            if limit.is_none_or(|limit| self.limits[limit] > 0) {
                let mut items = Vec::new();
                let room = self.instance.machines[machine].room;
                self.contents(machine, first, first, room, &mut items, cost, &mut contents);
            }
        }
        contents.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (loss, pattern) in contents {
            if self.steps >= self.steps_max || self.hopeless(cost, loss) {
                break;
            }
            self.step(cost, pattern);
        }
    }

    fn step(&mut self, cost: u64, pattern: Pattern) {
        let limit = self.instance.machines[pattern.machine].limit;
        pattern.items.iter().for_each(|&(kind, count)| self.left[kind] -= count);
        limit.into_iter().for_each(|limit| self.limits[limit] -= 1);
        let cost = cost + self.instance.cost(&pattern);
        self.path.push(pattern);
        self.descend(cost);
        if let Some(pattern) = self.path.pop() {
            pattern.items.iter().for_each(|&(kind, count)| self.left[kind] += count);
            limit.into_iter().for_each(|limit| self.limits[limit] += 1);
        }
    }

    /// Whether what was paid, what is left at its price, and `loss` besides, beat nothing.
    fn hopeless(&self, cost: u64, loss: f64) -> bool {
        let left: f64 =
            self.order.iter().map(|&at| self.prices[at] * f64::from(self.left[at])).sum();
        let least = to_f64(cost) + (left + loss) * 1e6 - 1e-3;
        self.best != u64::MAX && least > to_f64(self.best) - 1.0 + 1e-3
    }

    /// Every content of a machine with at least one of the first kind that is left, and what it
    /// costs beyond the prices of what it holds.
    #[expect(clippy::too_many_arguments, reason = "the state of one recursion")]
    fn contents(
        &mut self,
        machine: usize,
        first: usize,
        at: usize,
        room: Amounts,
        items: &mut Vec<(usize, u32)>,
        cost: u64,
        found: &mut Vec<(f64, Pattern)>,
    ) {
        self.steps += 1;
        if self.steps >= self.steps_max {
            return;
        }
        let Some(&kind) = self.order.get(at) else {
            if self.fills && self.has_room(machine, &room, items) {
                return;
            }
            let mut items = items.clone();
            items.sort_unstable();
            let pattern = Pattern { machine, items };
            let worth: f64 =
                pattern.items.iter().map(|it| self.prices[it.0] * f64::from(it.1)).sum();
            let loss = to_f64(self.instance.cost(&pattern)) / 1e6 - worth;
            if !self.hopeless(cost, loss) {
                found.push((loss, pattern));
            }
            return;
        };
        let most = self.instance.fitting(machine, kind, &room, items, self.left[kind]);
        let least = u32::from(at == first);
        for count in (least..=most).rev() {
            let mut smaller = room;
            take(&mut smaller, &self.instance.kinds[kind].weights, count);
            if count > 0 {
                items.push((kind, count));
            }
            self.contents(machine, first, at + 1, smaller, items, cost, found);
            if count > 0 {
                items.pop();
            }
        }
    }

    /// Whether one more of anything that is left goes in: then another content holds it, too.
    fn has_room(&self, machine: usize, room: &Amounts, items: &[(usize, u32)]) -> bool {
        self.order.iter().any(|&kind| {
            let held = items.iter().find(|item| item.0 == kind).map_or(0, |item| item.1);
            self.left[kind] > held
                && self.instance.fitting(machine, kind, room, items, self.left[kind] - held) > 0
        })
    }
}
