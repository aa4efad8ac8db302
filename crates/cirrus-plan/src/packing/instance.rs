//! A packing problem in whole numbers.
//!
//! Owns [`Instance`]: kinds of tasks, types of machines, who may stand where. Knows no price list
//! and no name. Every kind has a count above zero, and what one pattern holds is checked here.

/// What a machine has: processors in bursts, processors sustained, memory, accelerators, network.
pub(super) const PARTS: usize = 5;
pub(super) type Amounts = [u64; PARTS];

/// Tasks that are alike in everything.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) weights: Amounts,
    pub(super) count: u32,
    /// At most one replica on a machine.
    pub(super) spread: bool,
    /// Nothing else on its machine.
    pub(super) alone: bool,
    /// Kinds that are never on a machine with this one.
    pub(super) apart: Vec<usize>,
}

/// A way to rent an offer.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) cost: u64,
    pub(super) room: Amounts,
    /// Which kinds may stand on it, and what each then costs besides; in micro-dollars.
    pub(super) fees: Vec<Option<u64>>,
    /// Which of the limits counts it.
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Instance {
    pub(super) kinds: Vec<Kind>,
    pub(super) machines: Vec<Machine>,
    /// How many machines may be rented, of those that each limit counts.
    pub(super) limits: Vec<u32>,
}

/// One machine and what is on it: pairs of a kind and how many, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Pattern {
    pub(super) machine: usize,
    pub(super) items: Vec<(usize, u32)>,
}

/// Machines with what is on them, and how many are alike.
pub(super) type Packing = Vec<(Pattern, u32)>;

impl Instance {
    /// What the machine of a pattern costs, in micro-dollars.
    pub(super) fn cost(&self, pattern: &Pattern) -> u64 {
        let machine = &self.machines[pattern.machine];
        let fee =
            |&(kind, count): &(usize, u32)| machine.fees[kind].unwrap_or(0) * u64::from(count);
        machine.cost + pattern.items.iter().map(fee).sum::<u64>()
    }

    pub(super) fn total(&self, packing: &Packing) -> u64 {
        packing.iter().map(|(pattern, copies)| self.cost(pattern) * u64::from(*copies)).sum()
    }

    pub(super) fn counts(&self) -> Vec<u32> {
        self.kinds.iter().map(|kind| kind.count).collect()
    }

    /// How many more of a kind go into `room` of this machine beside `items`, at most `most`.
    pub(super) fn fitting(
        &self,
        machine: usize,
        kind: usize,
        room: &Amounts,
        items: &[(usize, u32)],
        most: u32,
    ) -> u32 {
        let it = &self.kinds[kind];
        if self.machines[machine].fees[kind].is_none() || most == 0 {
            return 0;
        }
        if it.spread || it.alone || !it.apart.is_empty() || items.len() <= 2 {
            let here = items.iter().any(|&(other, _)| other == kind);
            let beside_alone = items.iter().any(|&(other, _)| self.kinds[other].alone);
            let apart = items.iter().any(|(other, _)| it.apart.contains(other));
            if apart || beside_alone || (it.alone && !items.is_empty()) || (it.spread && here) {
                return 0;
            }
        }
        let most = if it.spread || it.alone { 1 } else { u64::from(most) };
        let rooms = it.weights.iter().zip(room).filter(|(weight, _)| **weight > 0);
        let fitting = rooms.map(|(weight, room)| room / weight).fold(most, u64::min);
        u32::try_from(fitting).unwrap_or(u32::MAX)
    }

    /// What a machine has left when these are on it; `None` when they do not fit.
    pub(super) fn room(&self, machine: usize, items: &[(usize, u32)]) -> Option<Amounts> {
        let mut room = self.machines[machine].room;
        for (at, &(kind, count)) in items.iter().enumerate() {
            if self.fitting(machine, kind, &room, &items[..at], count) < count {
                return None;
            }
            take(&mut room, &self.kinds[kind].weights, count);
        }
        Some(room)
    }

    /// Whether every kind is placed as often as it should be, within rooms, rules and limits.
    pub(super) fn holds(&self, packing: &Packing) -> bool {
        let mut placed = vec![0u64; self.kinds.len()];
        for (pattern, copies) in packing {
            if self.room(pattern.machine, &pattern.items).is_none() {
                return false;
            }
            for &(kind, count) in &pattern.items {
                placed[kind] += u64::from(count) * u64::from(*copies);
            }
        }
        let all = placed.iter().zip(&self.kinds).all(|(&placed, it)| placed == u64::from(it.count));
        all && self.within_limits(packing)
    }

    pub(super) fn within_limits(&self, packing: &Packing) -> bool {
        let mut left: Vec<i64> = self.limits.iter().map(|&limit| i64::from(limit)).collect();
        for (pattern, copies) in packing {
            if let Some(limit) = self.machines[pattern.machine].limit {
                left[limit] -= i64::from(*copies);
            }
        }
        left.iter().all(|&left| left >= 0)
    }

    /// Leaves out machines that another one replaces for the same money or less; returns which
    /// are kept.
    pub(super) fn without_dominated(&self) -> (Self, Vec<usize>) {
        let replaces = |by: usize, at: usize| {
            let (a, b) = (&self.machines[by], &self.machines[at]);
            let equal = a.cost == b.cost && a.room == b.room && a.fees == b.fees;
            a.limit.is_none()
                && a.cost <= b.cost
                && (0..PARTS).all(|part| a.room[part] >= b.room[part])
                && a.fees.iter().zip(&b.fees).all(|(a, b)| match (a, b) {
                    (_, None) => true,
                    (Some(a), Some(b)) => a <= b,
                    (None, Some(_)) => false,
                })
                && (!equal || b.limit.is_some() || by < at)
        };
        let all = 0..self.machines.len();
        let kept: Vec<usize> =
            all.clone().filter(|&at| !all.clone().any(|by| by != at && replaces(by, at))).collect();
        let machines = kept.iter().map(|&at| self.machines[at].clone()).collect();
        (Self { kinds: self.kinds.clone(), machines, limits: self.limits.clone() }, kept)
    }
}

/// Takes so many of these weights out of a room that has them.
pub(super) fn take(room: &mut Amounts, weights: &Amounts, count: u32) {
    for (room, weight) in room.iter_mut().zip(weights) {
        *room -= weight * u64::from(count);
    }
}
