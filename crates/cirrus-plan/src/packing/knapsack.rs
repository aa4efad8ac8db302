//! The most that one machine can hold, in money.
//!
//! Owns [`fill`]: given what each replica is worth, the best content of a machine, and a bound
//! that no content exceeds. Knows one machine at a time. The bound is valid for any multipliers.
//!
//! The search goes depth first over kinds by worth per share of the machine. Shares of the parts
//! are summed with multipliers (a surrogate constraint), and the bound of a branch is the
//! fractional filling of that one sum, which for good multipliers is the linear relaxation.

mod labels;

use super::instance::{Amounts, Instance, PARTS, take};
use crate::pool::to_f64;

/// Multipliers of the parts: not negative, 1 together.
pub(super) type Multipliers = [f64; PARTS];

/// How long to search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) nodes: u32,
    /// Contents that are better by less than this share are not looked for.
    pub(super) slack: f64,
    /// How many contents a search in layers may hold, where going depth first takes more nodes than
    /// that; 0: there is none.
    pub(super) labels_max: usize,
    /// How often multipliers are improved.
    pub(super) rounds: u32,
    /// How many contents of one search are kept.
    pub(super) contents: usize,
}

/// What was found, and what no content is worth more than.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// Contents worth more than was enough, the best one last.
    pub(super) contents: Vec<Vec<(usize, u32)>>,
    pub(super) bound: f64,
    /// Whether the search was given up before it had looked at everything.
    pub(super) is_cut: bool,
}

/// Fills a machine with at most `left` of each kind, each worth `worths` dollars.
/// Contents whose worth is at most `enough` are of no interest.
pub(super) fn fill(
    instance: &Instance,
    machine: usize,
    worths: &[f64],
    left: &[u32],
    multipliers: &mut Multipliers,
    (enough, effort): (f64, Effort),
) -> Filled {
    let mut search = Search::new(instance, machine, worths, left);
    let root = search.tune(multipliers, effort.rounds, enough);
    let (alone, content) = search.alone(worths, left);
    if root.max(alone) <= enough {
        return Filled { bound: root.max(alone), ..Filled::default() };
    }
    (search.effort, search.enough) = (effort, enough);
    search.descend(0, 0.0, instance.machines[machine].room);
    let proven = search.best.max(enough) * (1.0 + effort.slack) + 1e-12;
    let mut bound = root.min(proven);
    let is_cut = search.nodes >= effort.nodes;
    let mut contents = std::mem::take(&mut search.contents);
    if is_cut {
        bound = root;
        if effort.labels_max > 0 {
            let (proven, better) = search.layered();
            bound = root.min(proven);
            // Layers know no rules between kinds.
            contents.extend(better.filter(|items| instance.room(machine, items).is_some()));
        }
    }
    contents.drain(..contents.len().saturating_sub(effort.contents));
    contents.iter_mut().for_each(|items| items.sort_unstable());
    if alone > search.best.max(enough) {
        contents.push(content);
    }
    Filled { contents, bound: bound.max(alone), is_cut }
}

struct Item {
    kind: usize,
    worth: f64,
    most: u32,
    shares: Multipliers,
    /// The sum of its shares by the multipliers.
    share: f64,
    has_rules: bool,
}

struct Search<'a> {
    instance: &'a Instance,
    machine: usize,
    items: Vec<Item>,
    multipliers: Multipliers,
    /// One over the machine's room.
    scale: Multipliers,
    chosen: Vec<(usize, u32)>,
    best: f64,
    enough: f64,
    contents: Vec<Vec<(usize, u32)>>,
    nodes: u32,
    effort: Effort,
}

impl<'a> Search<'a> {
    fn new(instance: &'a Instance, machine: usize, worths: &[f64], left: &[u32]) -> Self {
        let it = &instance.machines[machine];
        let scale = it.room.map(|room| if room == 0 { 0.0 } else { 1.0 / to_f64(room) });
        let item = |kind: usize| {
            let fee = to_f64(it.fees[kind]?) / 1e6;
            let demand = &instance.kinds[kind];
            let most = instance.fitting(machine, kind, &it.room, &[], left[kind]);
            (most > 0 && worths[kind] > fee && !demand.alone).then(|| Item {
                kind,
                worth: worths[kind] - fee,
                most,
                shares: std::array::from_fn(|part| to_f64(demand.weights[part]) * scale[part]),
                share: 0.0,
                has_rules: !demand.apart.is_empty(),
            })
        };
        Self {
            instance,
            machine,
            items: (0..instance.kinds.len()).filter_map(item).collect(),
            multipliers: [0.0; PARTS],
            scale,
            chosen: Vec::new(),
            best: 0.0,
            enough: 0.0,
            contents: Vec::new(),
            nodes: 0,
            effort: Effort { nodes: 0, slack: 0.0, labels_max: 0, rounds: 0, contents: 0 },
        }
    }

    /// The best of the kinds that share a machine with nobody.
    fn alone(&self, worths: &[f64], left: &[u32]) -> (f64, Vec<(usize, u32)>) {
        let it = &self.instance.machines[self.machine];
        let worth = |kind: usize| worths[kind] - to_f64(it.fees[kind].unwrap_or(0)) / 1e6;
        let fits = |kind: &usize| {
            let room = &it.room;
            self.instance.kinds[*kind].alone
                && self.instance.fitting(self.machine, *kind, room, &[], left[*kind]) > 0
        };
        let kinds = (0..self.instance.kinds.len()).filter(fits);
        let best = kinds.max_by(|&a, &b| worth(a).total_cmp(&worth(b)));
        best.map_or((0.0, Vec::new()), |kind| (worth(kind), vec![(kind, 1)]))
    }

    /// Improves the multipliers until the bound of the whole is `enough`, sorts the items by them,
    /// and returns that bound.
    fn tune(&mut self, multipliers: &mut Multipliers, rounds: u32, enough: f64) -> f64 {
        let used: Vec<usize> =
            (0..PARTS).filter(|&part| self.items.iter().any(|it| it.shares[part] > 0.0)).collect();
        let mut current = [0.0; PARTS];
        let sum: f64 = used.iter().map(|&part| multipliers[part]).sum();
        for &part in &used {
            // Never quite zero, so that each can grow again.
            let fresh = 1.0 / to_f64(used.len() as u64);
            current[part] =
                if sum > 0.0 { 0.98 * multipliers[part] / sum + 0.02 * fresh } else { fresh };
        }
        let (mut best, mut kept) = (f64::INFINITY, current);
        for round in 0..=rounds {
            let (bound, use_of) = self.relaxed(&current);
            if bound < best {
                (best, kept) = (bound, current);
            }
            if best <= enough {
                break;
            }
            let step = 1.0 / (1.0 + f64::from(round)).sqrt();
            let mut sum = 0.0;
            for &part in &used {
                current[part] *= (step * (use_of[part] - 1.0)).clamp(-2.0, 2.0).exp();
                sum += current[part];
            }
            used.iter().for_each(|&part| current[part] /= sum);
        }
        self.relaxed(&kept);
        (*multipliers, self.multipliers) = (kept, kept);
        best
    }

    /// Sorts by these multipliers; the fractional filling's worth, and its use of each part.
    fn relaxed(&mut self, multipliers: &Multipliers) -> (f64, Multipliers) {
        for item in &mut self.items {
            item.share = (0..PARTS).map(|part| multipliers[part] * item.shares[part]).sum();
        }
        self.items.sort_unstable_by(|a, b| {
            (b.worth * a.share).total_cmp(&(a.worth * b.share)).then(a.kind.cmp(&b.kind))
        });
        let (mut worth, mut room, mut use_of) = (0.0, 1.0, [0.0; PARTS]);
        for item in &self.items {
            let most = f64::from(item.most);
            let amount = if item.share * most <= room { most } else { room / item.share };
            worth += amount * item.worth;
            room -= amount * item.share;
            (0..PARTS).for_each(|part| use_of[part] += amount * item.shares[part]);
            if amount < most {
                break;
            }
        }
        // Wider than rounding can have been.
        (worth * (1.0 + 1e-10), use_of)
    }

    /// What the items from `at` on are worth at most in this room.
    fn rest(&self, at: usize, room: &Amounts) -> f64 {
        let parts =
            (0..PARTS).map(|part| self.multipliers[part] * self.scale[part] * to_f64(room[part]));
        let (mut worth, mut room) = (0.0, parts.sum::<f64>());
        for item in &self.items[at..] {
            let most = f64::from(item.most);
            if item.share * most > room {
                return (worth + room / item.share * item.worth) * (1.0 + 1e-10);
            }
            worth += most * item.worth;
            room -= most * item.share;
        }
        worth * (1.0 + 1e-10)
    }

    /// What a content has to beat to be of interest.
    fn limit(&self) -> f64 {
        self.best.max(self.enough) * (1.0 + self.effort.slack) + 1e-12
    }

    fn descend(&mut self, mut at: usize, worth: f64, room: Amounts) {
        self.nodes += 1;
        if worth > self.best {
            self.best = worth;
            if worth > self.enough {
                self.contents.push(self.chosen.clone());
            }
        }
        while at < self.items.len() && self.nodes < self.effort.nodes {
            if worth + self.rest(at, &room) <= self.limit() {
                return;
            }
            let item = &self.items[at];
            let (kind, each, most) = (item.kind, item.worth, item.most);
            let others: &[(usize, u32)] = if item.has_rules { &self.chosen } else { &[] };
            let fitting = self.instance.fitting(self.machine, kind, &room, others, most);
            for count in (1..=fitting).rev() {
                let mut smaller = room;
                take(&mut smaller, &self.instance.kinds[kind].weights, count);
                self.chosen.push((kind, count));
                self.descend(at + 1, worth + f64::from(count) * each, smaller);
                self.chosen.pop();
                // Fewer of it: worth it only if the rest makes up for them.
                let fewer = worth + f64::from(count - 1) * each;
                let mut larger = room;
                take(&mut larger, &self.instance.kinds[kind].weights, count - 1);
                let least = self.limit();
                if fewer + self.rest(at + 1, &larger) <= least || self.nodes >= self.effort.nodes {
                    break;
                }
            }
            at += 1;
        }
    }
}
