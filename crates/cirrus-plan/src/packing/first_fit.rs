//! First fit decreasing.
//!
//! Owns [`first_fit`] and its best: what a planner without a solver would do, the first answer of
//! ours and what it is compared with. Knows no price of a task. Machines that are alike are
//! treated as one with copies, so that the time goes with kinds and not with tasks.

use super::instance::{Amounts, Instance, Packing, Pattern, take};
use crate::pool::to_f64;

/// Which machine is opened for a kind that fits in none that is open.
#[derive(Debug, Clone, Copy)]
pub(super) enum Opening {
    /// The cheapest that holds one.
    Cheapest,
    /// The cheapest by replica when it is full of that kind.
    ByReplica,
    /// Always this one.
    Only(usize),
}

struct Group {
    pattern: Pattern,
    room: Amounts,
    copies: u32,
}

/// The cheapest of all rules, and the cheapest with machines of a single type.
pub(super) fn best(instance: &Instance) -> (Option<Packing>, Option<Packing>) {
    let cheapest = |openings: &mut dyn Iterator<Item = Opening>| {
        openings
            .filter_map(|opening| first_fit(instance, opening))
            .min_by_key(|packing| instance.total(packing))
    };
    let single = cheapest(&mut (0..instance.machines.len()).map(Opening::Only));
    let mixed = cheapest(&mut [Opening::Cheapest, Opening::ByReplica].into_iter());
    let best = mixed.into_iter().chain(single.clone());
    (best.min_by_key(|packing| instance.total(packing)), single)
}

/// Places the largest kinds first; `None` when some are left over.
pub(super) fn first_fit(instance: &Instance, opening: Opening) -> Option<Packing> {
    let mut groups: Vec<Group> = Vec::new();
    let mut limits = instance.limits.clone();
    for kind in decreasing(instance) {
        let mut left = place(instance, &mut groups, kind);
        while left > 0 {
            let machine = open(instance, opening, kind, left, &limits)?;
            let room = instance.machines[machine].room;
            let each = instance.fitting(machine, kind, &room, &[], left);
            let mut copies = left / each;
            if let Some(limit) = instance.machines[machine].limit {
                copies = copies.min(limits[limit]);
                limits[limit] -= copies;
            }
            let mut group =
                Group { pattern: Pattern { machine, items: vec![(kind, each)] }, room, copies };
            take(&mut group.room, &instance.kinds[kind].weights, each);
            left -= each * copies;
            groups.push(group);
        }
    }
    let mut packing: Packing =
        groups.into_iter().map(|group| (group.pattern, group.copies)).collect();
    packing.iter_mut().for_each(|(pattern, _)| pattern.items.sort_unstable());
    Some(packing)
}

/// The kinds by the largest share that one takes of the roomiest machine.
fn decreasing(instance: &Instance) -> Vec<usize> {
    let mut most: Amounts = [1; _];
    for machine in &instance.machines {
        most.iter_mut().zip(machine.room).for_each(|(most, room)| *most = room.max(*most));
    }
    let size = |kind: &usize| {
        let weights = instance.kinds[*kind].weights.iter().zip(most);
        weights.map(|(&weight, most)| to_f64(weight) / to_f64(most)).fold(0.0, f64::max)
    };
    let mut kinds: Vec<usize> = (0..instance.kinds.len()).collect();
    kinds.sort_by(|a, b| size(b).total_cmp(&size(a)));
    kinds
}

/// Places a kind on machines that are open; returns how many are left.
fn place(instance: &Instance, groups: &mut Vec<Group>, kind: usize) -> u32 {
    let mut left = instance.kinds[kind].count;
    let mut at = 0;
    while at < groups.len() && left > 0 {
        let group = &groups[at];
        let (machine, copies) = (group.pattern.machine, group.copies);
        let each = instance.fitting(machine, kind, &group.room, &group.pattern.items, left);
        if let Some(full) = left.checked_div(each) {
            let full = full.min(copies);
            if full < copies {
                // The others stay as they are, and are next.
                let (pattern, room) = (group.pattern.clone(), group.room);
                groups.insert(at + 1, Group { pattern, room, copies: copies - full });
            }
            let group = &mut groups[at];
            group.copies = full;
            group.pattern.items.push((kind, each));
            take(&mut group.room, &instance.kinds[kind].weights, each);
            left -= each * full;
        }
        at += 1;
    }
    groups.retain(|group| group.copies > 0);
    left
}

fn open(
    instance: &Instance,
    opening: Opening,
    kind: usize,
    left: u32,
    limits: &[u32],
) -> Option<usize> {
    let each = |machine: usize| {
        let it = &instance.machines[machine];
        if it.limit.is_some_and(|limit| limits[limit] == 0) {
            return 0;
        }
        instance.fitting(machine, kind, &it.room, &[], left)
    };
    let price = |machine: usize, held: u32| {
        let it = &instance.machines[machine];
        let fee = to_f64(it.fees[kind].unwrap_or(0));
        match opening {
            Opening::ByReplica => to_f64(it.cost) / f64::from(held) + fee,
            _ => to_f64(it.cost) + fee,
        }
    };
    match opening {
        Opening::Only(machine) => (each(machine) > 0).then_some(machine),
        _ => (0..instance.machines.len())
            .filter_map(|machine| Some((machine, each(machine))).filter(|(_, held)| *held > 0))
            .min_by(|a, b| price(a.0, a.1).total_cmp(&price(b.0, b.1)))
            .map(|(machine, _)| machine),
    }
}
