//! A search in layers, for machines on which going depth first takes too long.
//!
//! Owns [`Search::layered`]: after each kind, of two contents that leave the same room only the
//! worthier goes on. Knows the search that it continues. Its bound holds wherever it stops, because
//! what was dropped was dominated, or could not have beaten the best.

use std::collections::BTreeMap;

use super::{Amounts, Multipliers, PARTS, Search, take};
use crate::pool::to_f64;

/// The most contents that go on where the room that they leave is compared in more than two parts:
/// each is compared with all others.
const LABELS_MAX_WIDE: usize = 3_000;

/// A content by its worth, the room that it leaves, and how it came about.
#[derive(Clone, Copy)]
struct Label {
    worth: f64,
    room: Amounts,
    /// Its last step; `usize::MAX`: it is empty.
    step: usize,
}

/// The items by worth per share under one choice of multipliers.
struct Relaxation {
    multipliers: Multipliers,
    /// Each item's turn, its share, what one is worth, and how many there may be.
    items: Vec<(usize, f64, f64, f64)>,
}

struct Step {
    before: usize,
    kind: usize,
    count: u32,
}

impl Search<'_> {
    /// A bound on every content, and the best content that was found, if it beats what was known.
    pub(super) fn layered(&self) -> (f64, Option<Vec<(usize, u32)>>) {
        let parts = self.compared();
        let wide = if parts.len() <= 2 { usize::MAX } else { LABELS_MAX_WIDE };
        let labels_max = self.effort.labels_max.min(wide);
        // The largest first: what is left then fills any rest, and its bound is close.
        let mut turns: Vec<usize> = (0..self.items.len()).collect();
        let size =
            |&at: &usize| parts.iter().map(|&part| self.items[at].shares[part]).fold(0.0, f64::max);
        turns.sort_by(|a, b| size(b).total_cmp(&size(a)));
        let relaxations = self.relaxations(&turns, &parts);
        let room = self.instance.machines[self.machine].room;
        let mut labels = vec![Label { worth: 0.0, room, step: usize::MAX }];
        let mut steps = Vec::new();
        let mut best: Option<Label> = None;
        let mut limit = self.limit();
        for (at, &turn) in turns.iter().enumerate() {
            let item = &self.items[turn];
            let weights = &self.instance.kinds[item.kind].weights;
            let mut next = Vec::with_capacity(labels.len());
            for label in &labels {
                let fitting =
                    self.instance.fitting(self.machine, item.kind, &label.room, &[], item.most);
                for count in 0..=fitting {
                    let mut new = *label;
                    take(&mut new.room, weights, count);
                    new.worth += f64::from(count) * item.worth;
                    if !self.may_beat(limit, new.worth, at + 1, &new.room, &relaxations) {
                        continue;
                    }
                    if count > 0 {
                        steps.push(Step { before: label.step, kind: item.kind, count });
                        new.step = steps.len() - 1;
                    }
                    if new.worth > best.map_or(self.best.max(self.enough), |best| best.worth) {
                        best = Some(new);
                        limit = limit.max(new.worth * (1.0 + self.effort.slack) + 1e-12);
                    }
                    next.push(new);
                }
                if next.len() > 4 * labels_max {
                    break;
                }
            }
            let cut = next.len() > 4 * labels_max;
            labels = if cut { labels } else { undominated(next, &parts) };
            if cut || labels.len() > labels_max {
                // Where it stops, every content continues one of these.
                let from = if cut { at } else { at + 1 };
                let open = labels.iter().map(|label| {
                    let rests =
                        relaxations.iter().map(|it| self.relaxed_rest(it, from, &label.room));
                    label.worth + rests.fold(f64::INFINITY, f64::min)
                });
                return (open.fold(limit, f64::max), contents(&steps, best));
            }
        }
        (limit, contents(&steps, best))
    }

    /// The multipliers of the whole, those of single parts, and some between.
    fn relaxations(&self, turns: &[usize], parts: &[usize]) -> Vec<Relaxation> {
        let mut all = vec![self.multipliers];
        for &part in parts.iter().filter(|_| parts.len() > 1) {
            for share in [1.0, 0.6, 0.3] {
                let mut mixed = self.multipliers.map(|multiplier| (1.0 - share) * multiplier);
                mixed[part] += share;
                all.push(mixed);
            }
        }
        let relaxation = |multipliers: Multipliers| {
            let item = |(turn, &at): (usize, &usize)| {
                let item = &self.items[at];
                let share = (0..PARTS).map(|part| multipliers[part] * item.shares[part]).sum();
                (turn, share, item.worth, f64::from(item.most))
            };
            let mut items: Vec<(usize, f64, f64, f64)> =
                turns.iter().enumerate().map(item).collect();
            items.sort_by(|a, b| (b.2 * a.1).total_cmp(&(a.2 * b.1)));
            Relaxation { multipliers, items }
        };
        all.into_iter().map(relaxation).collect()
    }

    fn may_beat(
        &self,
        limit: f64,
        worth: f64,
        turn: usize,
        room: &Amounts,
        relaxations: &[Relaxation],
    ) -> bool {
        relaxations.iter().all(|it| worth + self.relaxed_rest(it, turn, room) > limit)
    }

    /// What the items from this turn on are worth at most in this room.
    fn relaxed_rest(&self, relaxation: &Relaxation, turn: usize, room: &Amounts) -> f64 {
        let part =
            |part: usize| relaxation.multipliers[part] * self.scale[part] * to_f64(room[part]);
        let (mut worth, mut room) = (0.0, (0..PARTS).map(part).sum::<f64>());
        for &(at, share, each, most) in &relaxation.items {
            if at < turn {
                continue;
            }
            if share * most > room {
                return (worth + room / share * each) * (1.0 + 1e-10);
            }
            worth += most * each;
            room -= most * share;
        }
        worth * (1.0 + 1e-10)
    }

    /// The parts in which rooms are compared: those that are used, without those that fill up
    /// no faster than another one.
    fn compared(&self) -> Vec<usize> {
        let slower = |part: usize, other: usize| {
            let never = self.items.iter().all(|it| it.shares[part] <= it.shares[other]);
            let equal = self.items.iter().all(|it| it.shares[part] == it.shares[other]);
            part != other && never && (!equal || other < part)
        };
        let used = |&part: &usize| self.items.iter().any(|it| it.shares[part] > 0.0);
        (0..PARTS).filter(used).filter(|&part| !(0..PARTS).any(|it| slower(part, it))).collect()
    }
}

fn contents(steps: &[Step], best: Option<Label>) -> Option<Vec<(usize, u32)>> {
    let mut at = best?.step;
    let mut items = Vec::new();
    while let Some(step) = steps.get(at) {
        items.push((step.kind, step.count));
        at = step.before;
    }
    items.sort_unstable();
    Some(items)
}

/// Without those that another one beats: worth as much, and room as much in every part.
fn undominated(mut labels: Vec<Label>, parts: &[usize]) -> Vec<Label> {
    labels.sort_unstable_by(|a, b| b.worth.total_cmp(&a.worth));
    if parts.len() > 2 {
        let mut kept: Vec<Label> = Vec::new();
        for label in labels {
            let beats = |other: &Label| parts.iter().all(|&p| other.room[p] >= label.room[p]);
            if kept.len() <= LABELS_MAX_WIDE && !kept.iter().any(beats) {
                kept.push(label);
            } else if kept.len() > LABELS_MAX_WIDE {
                // Too many anyway: the caller stops, and counts all of them.
                kept.push(label);
            }
        }
        return kept;
    }
    let [first, second] = [parts.first(), parts.get(1)];
    let room = |label: &Label, part: Option<&usize>| part.map_or(0, |&part| label.room[part]);
    // Of all that are worth more: the second room by the first, falling.
    let mut stairs: BTreeMap<u64, u64> = BTreeMap::new();
    labels.retain(|label| {
        let (x, y) = (room(label, first), room(label, second));
        if stairs.range(x..).next().is_some_and(|(_, &other)| other >= y) {
            return false;
        }
        while let Some((&below, _)) =
            stairs.range(..=x).next_back().filter(|(_, other)| **other <= y)
        {
            stairs.remove(&below);
        }
        stairs.insert(x, y);
        true
    });
    labels
}
