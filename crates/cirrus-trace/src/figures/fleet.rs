//! Which machines are up with what capacity, and what tasks have reserved on them.
//!
//! Owns [`Fleet`]: machines by index, tasks that run. Knows nothing of what was used.
//! Invariant: events are applied in the order of time, slot by slot, and every machine's sums
//! cover the measured part of the slot and no more.
//!
//! A machine that leaves puts its tasks out: `stay` numbers its stays, and a task that was placed
//! in an earlier stay holds nothing. A machine whose `until` has passed is down, but its tasks stay.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::record::{Amount, Class, MachineId, Micros, Task, TaskId};
use crate::slots::Span;

/// The index of no machine.
pub(crate) const NO_MACHINE: u32 = u32::MAX;

/// Processors and memory; a number that is not one stands for what is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Capacity(pub(crate) [f64; 2]);

impl From<Amount> for Capacity {
    fn from(amount: Amount) -> Self {
        Self([amount.cpu.unwrap_or(f64::NAN), amount.memory.unwrap_or(f64::NAN)])
    }
}

impl Capacity {
    /// What is known of it, and else what the other says.
    #[inline]
    pub(crate) fn or(self, other: Amount) -> Amount {
        let known = |amount: f64| Some(amount).filter(|amount| !amount.is_nan());
        Amount { cpu: known(self.0[0]).or(other.cpu), memory: known(self.0[1]).or(other.memory) }
    }
}

/// What changes at a moment.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Machine(MachineEvent),
    Task(TaskEvent),
}

#[derive(Clone, Debug)]
pub(crate) struct MachineEvent {
    pub(crate) machine: u32,
    pub(crate) until: Micros,
    /// `None`: it leaves.
    pub(crate) capacity: Option<Capacity>,
}

#[derive(Clone, Debug)]
pub(crate) struct TaskEvent {
    task: TaskId,
    runs: bool,
    machine: u32,
    asked: [f64; 2],
}

impl TaskEvent {
    pub(crate) fn starts(task: TaskId, machine: u32, request: Amount) -> Self {
        let asked = [request.cpu.unwrap_or(0.0), request.memory.unwrap_or(0.0)];
        Self { task, runs: true, machine, asked }
    }

    pub(crate) fn ends(task: TaskId) -> Self {
        Self { task, runs: false, machine: NO_MACHINE, asked: [0.0; 2] }
    }
}

impl From<MachineEvent> for Event {
    fn from(event: MachineEvent) -> Self {
        Event::Machine(event)
    }
}

impl From<TaskEvent> for Event {
    fn from(event: TaskEvent) -> Self {
        Event::Task(event)
    }
}

/// Sums over the measured part of a slot, while the machine was up and its memory known: capacity
/// and requests times microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) up: Micros,
    pub(crate) capacity: [f64; 2],
    pub(crate) reserved: [f64; 2],
    /// Its capacity when it was last up in it.
    pub(crate) last: Option<Capacity>,
    /// Its capacity at the middle of the slot.
    pub(crate) middle: Option<Capacity>,
}

#[derive(Clone, Debug)]
struct State {
    /// `None`: it is not there, or its memory is not known.
    capacity: Option<Capacity>,
    until: Micros,
    /// The time of the record that made it so.
    since: Micros,
    /// Up to where sums go.
    done: Micros,
    stay: u32,
    tasks: u32,
    reserved: [f64; 2],
    /// Whether its memory was ever known.
    counted: bool,
    sums: Sums,
}

/// The newest placement of a task that was pushed: what samples are joined with. Small, because
/// every sample looks one up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) request: Capacity,
    pub(crate) class: Option<Class>,
}

#[derive(Clone, Debug)]
struct Held {
    machine: u32,
    stay: u32,
    asked: [f64; 2],
}

#[derive(Clone, Debug)]
struct TaskState {
    /// The time of the newest placement that was pushed.
    known_at: Micros,
    /// What was pushed, but not yet applied.
    pending: u32,
    since: Micros,
    held: Option<Held>,
}

#[derive(Clone, Default)]
pub(crate) struct Fleet {
    index: HashMap<MachineId, u32, RandomState>,
    machines: Vec<State>,
    tasks: HashMap<TaskId, u32, RandomState>,
    /// By the index of the task.
    known: Vec<Option<Known>>,
    states: Vec<TaskState>,
    /// Indices of tasks that are forgotten.
    free: Vec<u32>,
    span: Option<Span>,
    /// The largest capacity of any machine at any time.
    pub(crate) largest: [f64; 2],
    pub(crate) tasks_ended_without_start: u64,
}

impl Fleet {
    /// The index of a machine.
    #[inline]
    pub(crate) fn machine(&mut self, id: MachineId) -> u32 {
        if let Some(index) = self.index.get(&id) {
            return *index;
        }
        let index = u32::try_from(self.machines.len()).expect("fewer machines than 2^32");
        self.index.insert(id, index);
        self.machines.push(State {
            capacity: None,
            until: Micros::MAX,
            since: Micros::MIN,
            done: Micros::MIN,
            stay: 0,
            tasks: 0,
            reserved: [0.0; 2],
            counted: false,
            sums: Sums::default(),
        });
        index
    }

    /// The newest placement that was pushed of a task. A task is forgotten when the slot in which it
    /// ended has closed.
    #[inline]
    pub(crate) fn known(&self, task: TaskId) -> Option<&Known> {
        match self.tasks.is_empty() {
            true => None,
            false => self.known[*self.tasks.get(&task)? as usize].as_ref(),
        }
    }

    /// Notes a record of a task, whose event is applied when its slot closes.
    pub(crate) fn expect(&mut self, task: &Task) {
        let index = *self.tasks.entry(task.task).or_insert_with(|| {
            let state =
                TaskState { known_at: Micros::MIN, pending: 0, since: Micros::MIN, held: None };
            if let Some(index) = self.free.pop() {
                self.states[index as usize] = state;
                return index;
            }
            self.states.push(state);
            self.known.push(None);
            u32::try_from(self.states.len() - 1).expect("fewer tasks at a time than 2^32")
        }) as usize;
        let state = &mut self.states[index];
        state.pending += 1;
        if let Some(runs) = &task.runs
            && task.at >= state.known_at
        {
            state.known_at = task.at;
            self.known[index] =
                Some(Known { request: Capacity::from(runs.request), class: runs.class });
        }
    }

    /// Machines whose memory was ever known, and others.
    pub(crate) fn counted(&self) -> [u64; 2] {
        let counted = self.machines.iter().filter(|machine| machine.counted).count() as u64;
        [counted, self.machines.len() as u64 - counted]
    }

    /// Begins a slot.
    pub(crate) fn open(&mut self, span: Span) {
        self.span = Some(span);
    }

    /// Applies an event of the slot, or a late one of an earlier slot.
    pub(crate) fn apply(&mut self, at: Micros, event: Event) {
        match event {
            Event::Machine(event) => self.apply_machine(at, &event),
            Event::Task(event) => self.apply_task(at, &event),
        }
    }

    /// Every machine's sums up to the end of the slot, by index.
    pub(crate) fn sums(&mut self) -> impl Iterator<Item = &Sums> {
        let span = self.span;
        self.machines.iter_mut().map(move |machine| {
            if let Some(span) = &span {
                machine.advance(span.end, span);
            }
            &machine.sums
        })
    }

    /// As [`sums`](Self::sums), which has been called.
    pub(crate) fn summed(&self) -> impl Iterator<Item = &Sums> {
        self.machines.iter().map(|machine| &machine.sums)
    }

    /// Empties the sums.
    pub(crate) fn clear(&mut self) {
        for machine in &mut self.machines {
            machine.sums = Sums::default();
        }
    }

    fn apply_machine(&mut self, at: Micros, event: &MachineEvent) {
        let Some(span) = &self.span else { return };
        let machine = &mut self.machines[event.machine as usize];
        if at < machine.since {
            return;
        }
        machine.advance(at, span);
        if event.capacity.is_none() {
            machine.stay += 1;
            machine.tasks = 0;
            machine.reserved = [0.0; 2];
        }
        machine.since = at;
        machine.until = event.until;
        machine.capacity = event.capacity.filter(|capacity| !capacity.0[1].is_nan());
        if let Some(capacity) = machine.capacity {
            machine.counted = true;
            for (largest, capacity) in self.largest.iter_mut().zip(capacity.0) {
                *largest = largest.max(capacity);
            }
        }
    }

    fn apply_task(&mut self, at: Micros, event: &TaskEvent) {
        let (Some(span), Some(index)) = (&self.span, self.tasks.get(&event.task).copied()) else {
            return;
        };
        let state = &mut self.states[index as usize];
        state.pending -= 1;
        if at >= state.since {
            state.since = at;
            let held = state.held.take();
            self.tasks_ended_without_start += u64::from(held.is_none() && !event.runs);
            if let Some(held) = held
                && let Some(machine) = self.machines.get_mut(held.machine as usize)
                && machine.stay == held.stay
            {
                machine.advance(at, span);
                machine.release(held.asked);
            }
            if event.runs {
                let mut stay = 0;
                if let Some(machine) = self.machines.get_mut(event.machine as usize) {
                    machine.advance(at, span);
                    machine.reserve(event.asked);
                    stay = machine.stay;
                }
                state.held = Some(Held { machine: event.machine, stay, asked: event.asked });
            }
        }
        if state.held.is_none() && state.pending == 0 {
            self.tasks.remove(&event.task);
            self.known[index as usize] = None;
            self.free.push(index);
        }
    }
}

impl State {
    /// Sums up to a moment.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a slot are fewer than 2^53")]
    fn advance(&mut self, at: Micros, span: &Span) {
        let done = self.done.max(span.start);
        let stop = at.min(self.until);
        self.done = done.max(at);
        let Some(capacity) = self.capacity else { return };
        if done <= span.middle && span.middle < stop {
            self.sums.middle = Some(capacity);
        }
        let time = stop.min(span.to) - done.max(span.from);
        if time <= 0 {
            return;
        }
        self.sums.up += time;
        self.sums.last = Some(capacity);
        for resource in 0..2 {
            let capacity = capacity.0[resource];
            if !capacity.is_nan() {
                self.sums.capacity[resource] += capacity * time as f64;
            }
            self.sums.reserved[resource] += self.reserved[resource] * time as f64;
        }
    }

    fn reserve(&mut self, asked: [f64; 2]) {
        self.tasks += 1;
        self.reserved[0] += asked[0];
        self.reserved[1] += asked[1];
    }

    /// Nothing is reserved where no task is: what rounding has left goes.
    fn release(&mut self, asked: [f64; 2]) {
        self.tasks -= 1;
        match self.tasks {
            0 => self.reserved = [0.0; 2],
            _ => {
                self.reserved[0] = (self.reserved[0] - asked[0]).max(0.0);
                self.reserved[1] = (self.reserved[1] - asked[1]).max(0.0);
            }
        }
    }
}

#[cfg(test)]
impl Fleet {
    /// How many tasks there is room for.
    pub(crate) fn tasks_held(&self) -> usize {
        self.states.len()
    }
}
