//! The cluster that is made up.
//!
//! Owns: what is so at every tick, as a function of the seed.
//! Knows nothing of: files and figures.
//! Invariant: a tick is a quarter of a slot, an amount a multiple of 1/1024.

use std::io;

use super::{Layout, Scenario};
use crate::record::{Class, Micros};

/// Ticks in a slot.
pub(super) const TICKS: u32 = 4;
/// For how many ticks a task that moves stays: it moves in the middle of a slot.
const STAY: u32 = 8 * TICKS + 2;

/// Processors and memory in 1/1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Units {
    pub(super) cpu: u64,
    pub(super) memory: u64,
}

/// What a task used from `start` to `end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) task: u32,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) mean: Units,
    pub(super) memory_max: u64,
    /// What the task asked for at the time.
    pub(super) request: Units,
    /// What the row says of it in Google's traces: not the same.
    pub(super) assigned: u64,
}

/// What happens to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Starts,
    Updates,
    Ends,
}

/// What happens at a tick.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Machine {
        machine: u32,
        before: Option<Units>,
        now: Option<Units>,
    },
    Plan {
        task: u32,
        request: Units,
    },
    Task {
        machine: u32,
        task: u32,
        change: Change,
        request: Units,
    },
    /// Shares of the machine's capacity.
    Gauge {
        machine: u32,
        share: Units,
        capacity: Units,
    },
    Sample {
        machine: u32,
        sample: Sample,
    },
    /// A row of the generic format: a capacity and until when, what a task uses, or both.
    Row {
        machine: u32,
        capacity: Option<(Units, u32)>,
        sample: Option<Sample>,
    },
}

pub(super) struct Model {
    pub(super) scenario: Scenario,
    pub(super) layout: Layout,
}

impl Model {
    pub(super) fn new(scenario: &Scenario, layout: Layout) -> io::Result<Model> {
        let Scenario { machines, tasks, slots, slot, .. } = *scenario;
        let fits = machines.checked_mul(tasks).is_some() && slots.checked_mul(2 * TICKS).is_some();
        if machines == 0 || tasks == 0 || slots < 2 || slot <= 0 || slot % 4_000_000 != 0 || !fits {
            let text = "a trace has machines, tasks, at least two slots, each of a multiple of 4 s";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Model { scenario: scenario.clone(), layout })
    }

    pub(super) fn ticks(&self) -> u32 {
        self.scenario.slots * TICKS
    }

    pub(super) fn time(&self, tick: u32) -> Micros {
        self.scenario.slot / Micros::from(TICKS) * Micros::from(tick)
    }

    /// A number below `below`, of a thing and what is asked of it.
    fn draw(&self, what: u64, a: u32, b: u32, below: u64) -> u64 {
        let mut x = self.scenario.seed ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = x.wrapping_add(u64::from(a) << 32 | u64::from(b));
        // The finaliser of SplitMix64.
        for factor in [0xbf58_476d_1ce4_e5b9u64, 0x94d0_49bb_1331_11eb] {
            x = (x ^ x >> 29).wrapping_mul(factor);
        }
        (x ^ x >> 32) % below.max(1)
    }

    /// A machine's capacity, `None` while it is not there.
    pub(super) fn capacity(&self, machine: u32, tick: u32) -> Option<Units> {
        let ticks = self.ticks();
        let alibaba = self.layout.is_alibaba();
        // One moment in each half.
        let half = ticks / 2;
        let first = 1 + self.below(1, machine, half - 1);
        let second = half + 1 + self.below(2, machine, half - 2);
        let class = self.below(3, machine, 4);
        let class = match machine % 5 {
            1 if alibaba && tick < first.next_multiple_of(TICKS) => return None,
            1 if tick < first && !alibaba => return None,
            2 if tick >= second && !alibaba => return None,
            3 if tick >= first => class + 1,
            4 if alibaba => class,
            4 if tick >= second => class + 1,
            4 if tick >= first => return None,
            _ => class,
        };
        let cpu = if class.is_multiple_of(2) { 1024 } else { 512 };
        let memory = if class % 4 < 2 { 1024 } else { 512 };
        // Alibaba's are whole cores.
        Some(Units { cpu: if alibaba { cpu * 64 } else { cpu }, memory })
    }

    fn below(&self, what: u64, a: u32, below: u32) -> u32 {
        // Below a u32.
        u32::try_from(self.draw(what, a, 0, u64::from(below))).unwrap_or(0)
    }

    /// The task at a place of a machine.
    pub(super) fn occupant(&self, machine: u32, seat: u32, tick: u32) -> Option<u32> {
        self.capacity(machine, tick)?;
        let Scenario { machines, tasks, .. } = self.scenario;
        let stays = if seat % 4 == 3 { tick / STAY } else { 0 };
        let home = (u64::from(machine) + u64::from(stays)) % u64::from(machines);
        Some(u32::try_from(home).unwrap_or(0) * tasks + seat)
    }

    /// How often its request has changed.
    fn version(&self, task: u32, tick: u32) -> u32 {
        let changes = !self.layout.is_alibaba() && (task % self.scenario.tasks).is_multiple_of(4);
        u32::from(changes && tick > self.ticks() / 2)
    }

    /// An amount of which the tasks of a machine have at most `all` together.
    fn amount(&self, what: u64, a: u32, b: u32, all: u32) -> Units {
        let below = u64::from((all / self.scenario.tasks.min(all)).min(1023)) + 1;
        let scale = if self.layout.is_alibaba() { 64 } else { 1 };
        let cpu = self.draw(what, a, b, below) * scale;
        Units { cpu, memory: self.draw(what + 1, a, b, below) }
    }

    pub(super) fn request(&self, task: u32, tick: u32) -> Units {
        // About as much as there is.
        self.amount(10, task, self.version(task, tick), 2048)
    }

    /// `None` where the format has no classes.
    pub(super) fn class(&self, task: u32) -> Option<Class> {
        let classes: &[Class] = match self.layout {
            Layout::Google2011 => {
                &[Class::Free, Class::Middle, Class::Production, Class::Monitoring]
            }
            Layout::Google2019(_) | Layout::Generic => &[
                Class::Free,
                Class::BestEffort,
                Class::Middle,
                Class::Production,
                Class::Monitoring,
            ],
            Layout::Alibaba2018 | Layout::Spar => return None,
        };
        let at = self.draw(12, task, 0, classes.len() as u64);
        classes.get(usize::try_from(at).ok()?).copied()
    }

    /// A machine's gauge, as shares of its capacity.
    pub(super) fn gauge(&self, machine: u32, tick: u32) -> Option<(Units, Units)> {
        if self.layout != Layout::Alibaba2018 || !tick.is_multiple_of(2) {
            return None;
        }
        let capacity = self.capacity(machine, tick)?;
        let (cpu, memory) =
            (self.draw(20, machine, tick, 1025), self.draw(21, machine, tick, 1025));
        Some((Units { cpu, memory }, capacity))
    }

    /// The windows of time that a place is sampled in and that cover a tick: a slot; or a slot that
    /// is half a slot late; or a slot and the middle of it once more.
    fn windows(&self, seat: u32, tick: u32) -> [Option<(u32, u32)>; 2] {
        let slot = tick / TICKS * TICKS;
        let whole = Some((slot, slot + TICKS));
        match seat % 3 {
            0 => [whole, None],
            1 if tick < TICKS / 2 => [Some((0, TICKS / 2)), None],
            1 => {
                let start = (tick - TICKS / 2) / TICKS * TICKS + TICKS / 2;
                [Some((start, (start + TICKS).min(self.ticks()))), None]
            }
            _ => {
                let middle = (slot + 1, slot + TICKS - 1);
                [whole, (middle.0 <= tick && tick < middle.1).then_some(middle)]
            }
        }
    }

    /// The samples of a place that start at a tick. A window is cut where the task moves, the
    /// machine goes, or the request changes.
    pub(super) fn samples(
        &self,
        machine: u32,
        seat: u32,
        tick: u32,
    ) -> impl Iterator<Item = Sample> + use<'_> {
        let key = move |tick: u32| {
            let task = self.occupant(machine, seat, tick)?;
            Some((task, self.version(task, tick)))
        };
        let now = key(tick);
        let windows = self.windows(seat, tick).into_iter().enumerate();
        windows.filter_map(move |(which, window)| {
            let (start, end) = window?;
            let (task, _) = now?;
            if start < tick && key(tick - 1) == now {
                return None;
            }
            let end = (tick + 1..end).find(|&later| key(later) != now).unwrap_or(end);
            let which = u32::try_from(which).unwrap_or(0);
            // Below the largest machine even where samples overlap.
            let mean = self.amount(30, task, tick * 2 + which, 640);
            let memory_max = mean.memory + self.draw(32, task, tick * 2 + which, 32);
            let request = self.request(task, tick);
            let assigned = self.draw(33, task, tick, 512);
            Some(Sample { task, start: tick, end, mean, memory_max, request, assigned })
        })
    }

    /// What happens at a tick, in the order of the records.
    pub(super) fn events(&self, tick: u32, events: &mut Vec<Event>) {
        if self.layout == Layout::Generic {
            return self.generic_rows(tick, events);
        }
        let machines = 0..self.scenario.machines;
        if self.layout != Layout::Spar {
            for machine in machines.clone() {
                let before = tick.checked_sub(1).and_then(|tick| self.capacity(machine, tick));
                let now = self.capacity(machine, tick);
                if before != now {
                    events.push(Event::Machine { machine, before, now });
                }
            }
        }
        if !self.layout.is_alibaba() {
            self.tasks(tick, events);
        } else if tick == 0 {
            let tasks = 0..self.scenario.machines * self.scenario.tasks;
            events.extend(tasks.map(|task| Event::Plan { task, request: self.request(task, 0) }));
        }
        for machine in machines.clone() {
            if let Some((share, capacity)) = self.gauge(machine, tick) {
                events.push(Event::Gauge { machine, share, capacity });
            }
        }
        for machine in machines {
            for seat in 0..self.scenario.tasks {
                let samples = self.samples(machine, seat, tick);
                events.extend(samples.map(|sample| Event::Sample { machine, sample }));
            }
        }
    }

    /// Ends come before starts, so that a task that moves ends where it was first.
    fn tasks(&self, tick: u32, events: &mut Vec<Event>) {
        let mut starts = Vec::new();
        for machine in 0..self.scenario.machines {
            for seat in 0..self.scenario.tasks {
                let before = tick.checked_sub(1).and_then(|t| self.occupant(machine, seat, t));
                let now = self.occupant(machine, seat, tick);
                let change = if before == now { Change::Updates } else { Change::Starts };
                if let Some(task) = before.filter(|_| before != now) {
                    let request = self.request(task, tick);
                    events.push(Event::Task { machine, task, change: Change::Ends, request });
                }
                if let Some(task) = now {
                    let updates =
                        tick > 0 && self.version(task, tick - 1) != self.version(task, tick);
                    if change == Change::Starts || updates {
                        let request = self.request(task, tick);
                        starts.push(Event::Task { machine, task, change, request });
                    }
                }
            }
        }
        events.append(&mut starts);
    }

    fn generic_rows(&self, tick: u32, events: &mut Vec<Event>) {
        for machine in 0..self.scenario.machines {
            let now = self.capacity(machine, tick);
            let starts = tick.is_multiple_of(TICKS) || self.capacity(machine, tick - 1) != now;
            let end = (tick + 1).next_multiple_of(TICKS);
            let end = (tick + 1..end).find(|&t| self.capacity(machine, t) != now).unwrap_or(end);
            let mut capacity = now.filter(|_| starts).map(|units| (units, end));
            let seats = 0..self.scenario.tasks;
            let mut samples = seats.flat_map(|seat| self.samples(machine, seat, tick)).peekable();
            // The first row of a task tells the capacity too if it is of the same time.
            if capacity.is_some() && samples.peek().is_none_or(|sample| sample.end != end) {
                events.push(Event::Row { machine, capacity: capacity.take(), sample: None });
            }
            for sample in samples {
                let (capacity, sample) = (capacity.take(), Some(sample));
                events.push(Event::Row { machine, capacity, sample });
            }
        }
    }
}
