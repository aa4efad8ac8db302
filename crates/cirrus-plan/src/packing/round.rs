//! Whole machines out of parts of them.
//!
//! Owns [`round`]: it takes the whole part of the linear program's answer, solves again for what
//! is left, and ends with a search. Knows no proof. Machines whose content fits a cheaper one
//! become that one.

use super::columns::{Columns, Depth, Relaxed, truncated};
use super::exact;
use super::instance::{Instance, Packing, Pattern};

/// So few replicas are searched through.
const SEARCHED_MAX: u32 = 14;

/// A way of rounding; which one is the cheapest shows only afterwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Machines of which there is this part or more are rounded up together.
    pub(super) nearly_whole: f64,
    /// Which of the machines is rounded up first, by the part of it that there is.
    pub(super) first: usize,
}

/// A packing from the linear program's answer; `None` when the limits were used up on the way.
pub(super) fn round(
    instance: &Instance,
    columns: &mut Columns<'_>,
    mut relaxed: Relaxed,
    depth: Depth,
    way: Way,
) -> Option<Packing> {
    let mut first = way.first;
    let (mut left, mut limits) = (instance.counts(), instance.limits.clone());
    let mut packing = Packing::new();
    while left.iter().any(|&count| count > 0) {
        if left.iter().sum::<u32>() <= SEARCHED_MAX {
            let rest = exact::search(instance, &left, &limits, &relaxed.prices, exact::STEPS_FEW);
            if let Some(rest) = rest.packing {
                packing.extend(rest);
                return Some(merged(instance, packing));
            }
        }
        let before = packing.len();
        let mut parts = std::mem::take(&mut relaxed.amounts);
        parts.sort_by(|a, b| b.1.fract().total_cmp(&a.1.fract()));
        for &(at, amount) in &parts {
            let copies = whole(amount + 1e-6);
            put(instance, &columns.patterns[at], copies, &mut left, &mut limits, &mut packing);
        }
        if packing.len() == before {
            let chosen = std::mem::take(&mut first).min(parts.len().saturating_sub(1));
            for (place, &(at, amount)) in parts.iter().enumerate() {
                if place == chosen || (place > chosen && amount >= way.nearly_whole) {
                    let pattern = &columns.patterns[at];
                    put(instance, pattern, 1, &mut left, &mut limits, &mut packing);
                }
            }
        }
        if packing.len() == before {
            return None;
        }
        columns.truncate(&left, &parts.iter().map(|&(at, _)| at).collect::<Vec<_>>());
        relaxed = columns.relax(&left, &limits, depth);
        if relaxed.lack > 1e-6 {
            return None;
        }
    }
    Some(merged(instance, packing))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
pub(super) fn whole(amount: f64) -> u32 {
    amount as u32
}

/// Puts up to so many copies of a pattern; the last one may hold less.
pub(super) fn put(
    instance: &Instance,
    pattern: &Pattern,
    copies: u32,
    left: &mut [u32],
    limits: &mut [u32],
    packing: &mut Packing,
) {
    for _ in 0..copies {
        let pattern = truncated(pattern, left);
        let limit = instance.machines[pattern.machine].limit;
        if pattern.items.is_empty() || limit.is_some_and(|limit| limits[limit] == 0) {
            return;
        }
        if let Some(limit) = limit {
            limits[limit] -= 1;
        }
        for &(kind, count) in &pattern.items {
            left[kind] -= count;
        }
        packing.push((pattern, 1));
    }
}

/// Merges copies, after each content went to the cheapest machine that holds it.
pub(super) fn merged(instance: &Instance, packing: Packing) -> Packing {
    let mut copies = std::collections::BTreeMap::new();
    for (pattern, count) in downsized(instance, packing) {
        *copies.entry(pattern).or_insert(0) += count;
    }
    copies.into_iter().collect()
}

/// The same contents on the cheapest machines without a limit, or on their own.
pub(super) fn downsized(instance: &Instance, packing: Packing) -> Packing {
    let mut known = std::collections::HashMap::new();
    let mut smaller = |pattern: Pattern| {
        let best = known.entry(pattern.clone()).or_insert_with(|| {
            let holds = |&machine: &usize| {
                instance.machines[machine].limit.is_none()
                    && instance.room(machine, &pattern.items).is_some()
            };
            let on = |machine| Pattern { machine, items: pattern.items.clone() };
            let others = (0..instance.machines.len()).filter(holds).map(on);
            let all = std::iter::once(pattern.clone()).chain(others);
            all.min_by_key(|pattern| instance.cost(pattern)).unwrap_or(pattern)
        });
        best.clone()
    };
    packing.into_iter().map(|(pattern, copies)| (smaller(pattern), copies)).collect()
}

/// The cheapest that is left when one replica of a kind goes.
pub(super) fn without_one(instance: &Instance, packing: &Packing, kind: usize) -> Option<Packing> {
    let has = |at: &usize| packing[*at].0.items.iter().any(|&(other, _)| other == kind);
    let rests = (0..packing.len()).filter(has).map(|at| {
        let mut rest = packing.clone();
        rest[at].1 -= 1;
        let mut fewer = rest[at].0.clone();
        let here = fewer.items.iter_mut().filter(|(other, _)| *other == kind);
        here.for_each(|(_, count)| *count -= 1);
        fewer.items.retain(|(_, count)| *count > 0);
        if !fewer.items.is_empty() {
            rest.push((fewer, 1));
        }
        rest.retain(|(_, copies)| *copies > 0);
        downsized(instance, rest)
    });
    rests.min_by_key(|rest| instance.total(rest))
}

/// Empties the machines that are worth least for what they cost, a few at a time, and searches
/// for a cheaper place for what was on them; as often as it helps.
pub(super) fn repaired(
    instance: &Instance,
    packing: Packing,
    prices: &[f64],
    tries: u32,
) -> Packing {
    let mut machines: Vec<Pattern> = Vec::new();
    for (pattern, copies) in packing {
        machines.extend(std::iter::repeat_n(pattern, usize::try_from(copies).unwrap_or(0)));
    }
    let loss = |pattern: &Pattern| {
        let worth = |&(kind, count): &(usize, u32)| prices[kind] * f64::from(count);
        crate::pool::to_f64(instance.cost(pattern)) / 1e6
            - pattern.items.iter().map(worth).sum::<f64>()
    };
    let size = |pattern: &Pattern| pattern.items.iter().map(|item| item.1).sum::<u32>();
    let mut failed = 0;
    for attempt in 0..tries {
        machines.sort_by(|a, b| loss(b).total_cmp(&loss(a)).then_with(|| a.cmp(b)));
        // The worst machine beside some that differ from try to try.
        let (mut chosen, mut replicas) = (Vec::new(), 0);
        let stride = 1 + usize::try_from(attempt % 7).unwrap_or(0);
        let start = usize::try_from(failed).unwrap_or(0);
        for at in std::iter::once(start).chain((start + stride..machines.len()).step_by(stride)) {
            let Some(machine) = machines.get(at) else { break };
            if replicas + size(machine) <= SEARCHED_MAX {
                replicas += size(machine);
                chosen.push(at);
            }
        }
        if chosen.len() > 1 && research(instance, &mut machines, &chosen, prices) {
            failed = 0;
        } else {
            failed += 1;
        }
        if start >= machines.len() {
            break;
        }
    }
    merged(instance, machines.into_iter().map(|pattern| (pattern, 1)).collect())
}

/// Packs what is on the chosen machines anew; whether that is cheaper.
fn research(
    instance: &Instance,
    machines: &mut Vec<Pattern>,
    chosen: &[usize],
    prices: &[f64],
) -> bool {
    let mut left = vec![0; instance.kinds.len()];
    let mut before = 0;
    for &at in chosen {
        before += instance.cost(&machines[at]);
        machines[at].items.iter().for_each(|&(kind, count)| left[kind] += count);
    }
    let mut limits = instance.limits.clone();
    for (at, machine) in machines.iter().enumerate() {
        if let Some(limit) = instance.machines[machine.machine].limit
            && !chosen.contains(&at)
        {
            limits[limit] -= 1;
        }
    }
    let found = exact::search(instance, &left, &limits, prices, exact::STEPS_FEW);
    let Some(packing) = found.packing.filter(|packing| instance.total(packing) < before) else {
        return false;
    };
    let mut at = 0;
    machines.retain(|_| {
        at += 1;
        !chosen.contains(&(at - 1))
    });
    for (pattern, copies) in packing {
        machines.extend(std::iter::repeat_n(pattern, usize::try_from(copies).unwrap_or(0)));
    }
    true
}
