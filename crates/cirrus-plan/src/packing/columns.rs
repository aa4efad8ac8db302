//! The configuration program: how many machines of each content.
//!
//! Owns [`Columns`]: the contents that were found so far, the linear program over them, and the
//! bound that its dual values prove. Knows no whole numbers of machines.
//!
//! The bound needs no exact arithmetic: any prices that are not negative, scaled down until no
//! content of any machine is worth more than the machine costs, prove one (Farley). What a machine
//! can hold at most is itself a bound (`knapsack`), wider than rounding can have been; machines
//! with a limit may be worth more than they cost, and the limit counts what they are.

use std::collections::HashSet;

use rayon::prelude::*;

use super::instance::{Instance, Packing, Pattern};
use super::knapsack::{Effort, Filled, Multipliers, fill};
use crate::pool::to_f64;
use crate::simplex::{Program, Sense};

/// After so many rounds that hardly lower the cost, bounds are looked for with more care; after so
/// many, more rounds are not worth their time.
const THOROUGH_FROM: u32 = 5;
const STALE_MAX: u32 = 10;
/// With fewer types of machines than this there are more rounds.
const ROUNDS_TYPES: u32 = 20;
/// The share of the latest prices, beside those of the best bound.
const LATEST: f64 = 0.3;
/// The most contents that rounding goes on with.
const NARROW: usize = 2_000;

/// Contents, and the multipliers with which each machine was last filled.
#[derive(Clone)]
pub(super) struct Columns<'a> {
    instance: &'a Instance,
    pub(super) patterns: Vec<Pattern>,
    known: HashSet<Pattern>,
    multipliers: Vec<Multipliers>,
}

/// The linear program's answer.
#[derive(Debug, Default, Clone)]
pub(super) struct Relaxed {
    /// How many machines of which pattern.
    pub(super) amounts: Vec<(usize, f64)>,
    /// Dollars for one more replica of each kind.
    pub(super) prices: Vec<f64>,
    /// The same, scaled down until no content is worth more than its machine costs.
    pub(super) safe: Vec<f64>,
    /// Dollars that no packing costs less than.
    pub(super) bound: f64,
    /// Replicas that found no place within the limits.
    pub(super) lack: f64,
}

impl Relaxed {
    /// Takes the bound and the safe prices that these worths of all machines prove, if they are
    /// better; whether the bound is.
    fn learn(&mut self, instance: &Instance, asking: &Asking<'_>, worths: &[f64]) -> bool {
        let (bound, over) = asking.bound(instance, worths);
        let safe = asking.prices.iter().map(|price| price / over * (1.0 - 1e-9));
        let safe: Vec<f64> = safe.collect();
        if value(&safe, asking.need) >= value(&self.safe, asking.need) {
            self.safe = safe;
        }
        let is_better = bound > self.bound;
        self.bound = self.bound.max(bound);
        is_better
    }
}

/// How far to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    pub(super) rounds: u32,
    pub(super) effort: Effort,
    /// The relative distance of cost and bound at which it is enough.
    pub(super) gap: f64,
    /// A round that lowers the cost by less than this share hardly does.
    pub(super) step: f64,
}

impl<'a> Columns<'a> {
    /// Starts with the contents of these packings.
    pub(super) fn new(instance: &'a Instance, packings: &[Packing]) -> Self {
        let multipliers = vec![Multipliers::default(); instance.machines.len()];
        let mut columns =
            Self { instance, patterns: Vec::new(), known: HashSet::new(), multipliers };
        for (pattern, _) in packings.iter().flatten() {
            columns.push(pattern.clone());
        }
        columns
    }

    fn push(&mut self, pattern: Pattern) -> bool {
        let is_new = self.known.insert(pattern.clone());
        if is_new {
            self.patterns.push(pattern);
        }
        is_new
    }

    /// The optimum for these counts within these limits, over all contents as far as `depth` goes.
    pub(super) fn relax(&mut self, need: &[u32], limits: &[u32], depth: Depth) -> Relaxed {
        let rows: Vec<usize> = (0..need.len()).filter(|&kind| need[kind] > 0).collect();
        let mut row_of = vec![usize::MAX; need.len()];
        rows.iter().enumerate().for_each(|(row, &kind)| row_of[kind] = row);
        let at_least = rows.iter().map(|&kind| (Sense::AtLeast, f64::from(need[kind])));
        let at_most = limits.iter().map(|&limit| (Sense::AtMost, f64::from(limit)));
        let mut program = Program::new(&at_least.chain(at_most).collect::<Vec<_>>());
        let mut pushed = Vec::new();
        let mut relaxed = Relaxed { safe: vec![0.0; need.len()], ..Relaxed::default() };
        let (mut seen, mut stale, mut mark) = (0, 0, f64::INFINITY);
        let mut best: Option<Asking<'_>> = None;
        // A round finds some contents for each type of machine, so that few types take more rounds.
        let types = u32::try_from(self.instance.machines.len()).unwrap_or(u32::MAX);
        let more = (ROUNDS_TYPES / types.max(1)).max(1);
        for round in 0..=depth.rounds * more {
            while seen < self.patterns.len() {
                if let Some((cost, entries)) = self.column(seen, need, &row_of, rows.len()) {
                    program.push(cost, entries);
                    pushed.push(seen);
                }
                seen += 1;
            }
            program.solve();
            let duals = program.duals();
            let mut prices = vec![0.0; need.len()];
            rows.iter().zip(&duals).for_each(|(&kind, dual)| prices[kind] = dual.max(0.0));
            let limit_prices: Vec<f64> = duals[rows.len()..].iter().map(|dual| -dual).collect();
            relaxed.prices.clone_from(&prices);
            if round == depth.rounds * more {
                break;
            }
            let latest = Asking { need, limits, prices, limit_prices };
            // Prices leap between corners; the bound is found between them (Wentges, "Weighted
            // Dantzig-Wolfe decomposition for linear mixed-integer programming", International
            // Transactions in Operational Research 4(2), 1997).
            let between = best.as_ref().map(|best| latest.mixed_with(best));
            let mut goes_on = false;
            for asking in between.into_iter().chain(std::iter::once(latest)) {
                let (worths, found) =
                    self.price(&asking, depth.effort, stale > THOROUGH_FROM * more);
                if relaxed.learn(self.instance, &asking, &worths) {
                    best = Some(asking);
                }
                if found {
                    goes_on = true;
                    break;
                }
            }
            let cost: f64 = program
                .solution()
                .iter()
                .map(|&(column, amount)| {
                    amount * to_f64(self.instance.cost(&self.patterns[pushed[column]])) / 1e6
                })
                .sum();
            let is_close = cost - relaxed.bound <= depth.gap * cost && program.lack() < 1e-6;
            if cost < mark * (1.0 - depth.step) {
                (mark, stale) = (cost, 0);
            }
            stale += 1;
            if is_close || !goes_on || stale > STALE_MAX * more {
                break;
            }
        }
        relaxed.lack = program.lack();
        relaxed.amounts = program
            .solution()
            .into_iter()
            .map(|(column, amount)| (pushed[column], amount))
            .collect();
        relaxed
    }

    /// A pattern as a column; `None` where it holds more than is needed.
    fn column(
        &self,
        at: usize,
        need: &[u32],
        row_of: &[usize],
        rows: usize,
    ) -> Option<(f64, Vec<(usize, f64)>)> {
        let pattern = &self.patterns[at];
        if pattern.items.iter().any(|&(kind, count)| count > need[kind]) {
            return None;
        }
        let entries = pattern.items.iter().map(|&(kind, count)| (row_of[kind], f64::from(count)));
        let limit = self.instance.machines[pattern.machine].limit.map(|limit| (rows + limit, 1.0));
        Some((to_f64(self.instance.cost(pattern)) / 1e6, entries.chain(limit).collect()))
    }

    /// Fills every machine at these prices, and keeps contents that are worth more than they cost;
    /// whether there were any. Searches that were cut off go on in layers when nothing else is
    /// left to find, or when that is asked for.
    fn price(&mut self, asking: &Asking<'_>, effort: Effort, thorough: bool) -> (Vec<f64>, bool) {
        let all: Vec<usize> = (0..self.instance.machines.len()).collect();
        let mut bounds = vec![0.0; all.len()];
        let (cut, found) = self.fill(&all, asking, Effort { labels_max: 0, ..effort }, &mut bounds);
        if effort.labels_max == 0 || (found && !thorough) {
            return (bounds, found);
        }
        let (_, more) = self.fill(&cut, asking, effort, &mut bounds);
        (bounds, found || more)
    }

    /// Which of the machines were not searched to the end, and whether anything was found.
    fn fill(
        &mut self,
        machines: &[usize],
        asking: &Asking<'_>,
        effort: Effort,
        bounds: &mut [f64],
    ) -> (Vec<usize>, bool) {
        let filled = self.filled(machines, asking, effort);
        let (mut cut, mut found) = (Vec::new(), false);
        for (&at, filled) in machines.iter().zip(filled) {
            bounds[at] = filled.bound;
            if filled.is_cut {
                cut.push(at);
            }
            for items in filled.contents {
                found |= self.push(Pattern { machine: at, items });
            }
        }
        (cut, found)
    }

    /// These machines, filled on all processors.
    fn filled(&mut self, machines: &[usize], asking: &Asking<'_>, effort: Effort) -> Vec<Filled> {
        let instance = self.instance;
        let known = &self.multipliers;
        let fill = |&at: &usize| {
            let asked = asking.asked(instance, at) * (1.0 + 1e-9);
            let mut multipliers = known[at];
            let target = (asked, effort);
            let it = fill(instance, at, &asking.prices, asking.need, &mut multipliers, target);
            (it, multipliers)
        };
        let (filled, multipliers): (Vec<_>, Vec<_>) = machines.par_iter().map(fill).unzip();
        for (&at, multipliers) in machines.iter().zip(multipliers) {
            self.multipliers[at] = multipliers;
        }
        filled
    }

    /// Forgets most of the contents that are not in the answer and that its prices do not pay for.
    pub(super) fn narrow(&mut self, relaxed: &mut Relaxed) {
        let mut loss: Vec<f64> = self.patterns.iter().map(|it| self.loss(it, relaxed)).collect();
        relaxed.amounts.iter().for_each(|&(at, _)| loss[at] = f64::NEG_INFINITY);
        let mut kept: Vec<usize> = (0..loss.len()).collect();
        kept.sort_by(|&a, &b| loss[a].total_cmp(&loss[b]));
        kept.truncate(relaxed.amounts.len().max(NARROW));
        let mut now = vec![usize::MAX; loss.len()];
        kept.iter().enumerate().for_each(|(to, &from)| now[from] = to);
        relaxed.amounts.iter_mut().for_each(|(at, _)| *at = now[*at]);
        self.patterns = kept.iter().map(|&at| self.patterns[at].clone()).collect();
        self.known = self.patterns.iter().cloned().collect();
    }

    fn loss(&self, pattern: &Pattern, relaxed: &Relaxed) -> f64 {
        let worth = pattern.items.iter().map(|&(kind, n)| relaxed.prices[kind] * f64::from(n));
        to_f64(self.instance.cost(pattern)) / 1e6 - worth.sum::<f64>()
    }

    /// Adds the part of every pattern that these counts have room for.
    pub(super) fn truncate(&mut self, need: &[u32], patterns: &[usize]) {
        for &at in patterns {
            let pattern = truncated(&self.patterns[at], need);
            if !pattern.items.is_empty() {
                self.push(pattern);
            }
        }
    }
}

/// Prices of a round of the linear program, for what they are asked.
struct Asking<'a> {
    need: &'a [u32],
    limits: &'a [u32],
    /// Dollars for a replica of each kind.
    prices: Vec<f64>,
    /// Dollars for a machine that each limit counts, beside its cost.
    limit_prices: Vec<f64>,
}

impl Asking<'_> {
    /// Some of these, and more of others.
    fn mixed_with(&self, other: &Self) -> Self {
        let mix = |new: &[f64], old: &[f64]| {
            new.iter().zip(old).map(|(new, old)| LATEST * new + (1.0 - LATEST) * old).collect()
        };
        Self {
            prices: mix(&self.prices, &other.prices),
            limit_prices: mix(&self.limit_prices, &other.limit_prices),
            ..*self
        }
    }

    /// What a content has to be worth to pay for its machine.
    fn asked(&self, instance: &Instance, machine: usize) -> f64 {
        let machine = &instance.machines[machine];
        to_f64(machine.cost) / 1e6 + machine.limit.map_or(0.0, |limit| self.limit_prices[limit])
    }

    /// The bound that the prices prove when no content of a machine is worth more than this, and
    /// the factor that brings every content below its machine's cost.
    fn bound(&self, instance: &Instance, worths: &[f64]) -> (f64, f64) {
        let (mut over, mut over_all) = (1.0f64, 1.0f64);
        for (machine, worth) in instance.machines.iter().zip(worths) {
            // Every machine costs something: catalogues refuse a price of zero.
            let factor = worth / (to_f64(machine.cost) / 1e6);
            over_all = over_all.max(factor);
            if machine.limit.is_none() {
                over = over.max(factor);
            }
        }
        let mut excess = vec![0.0f64; self.limits.len()];
        for (machine, worth) in instance.machines.iter().zip(worths) {
            if let Some(limit) = machine.limit {
                excess[limit] = excess[limit].max(worth / over - to_f64(machine.cost) / 1e6);
            }
        }
        let limits = excess.iter().zip(self.limits);
        let paid: f64 = limits.map(|(excess, &limit)| excess * f64::from(limit)).sum();
        ((value(&self.prices, self.need) / over - paid) * (1.0 - 1e-9), over_all)
    }
}

/// What these counts are worth together.
fn value(prices: &[f64], need: &[u32]) -> f64 {
    prices.iter().zip(need).map(|(price, &count)| price * f64::from(count)).sum()
}

/// What of a pattern these counts have room for.
pub(super) fn truncated(pattern: &Pattern, need: &[u32]) -> Pattern {
    let items = pattern.items.iter().map(|&(kind, count)| (kind, count.min(need[kind])));
    Pattern { machine: pattern.machine, items: items.filter(|&(_, count)| count > 0).collect() }
}
