//! What falls into each slot of time.
//!
//! Owns [`Slots`]: the open slots in a ring, samples cut at their borders, what is carried to slots
//! that are not open yet. Knows nothing of capacities, of requests in force, of figures.
//! Invariant: a part of a sample is in one slot, or carried, or late, and in no two of them.

mod slot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::figures::Event;
use crate::record::{Amount, Micros};
pub(crate) use slot::{AskedSum, ClassSums, Slot, Span, UseSum};

/// What is summed of a sample.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) machine: u32,
    /// It says which task it is of.
    pub(crate) is_task: bool,
    pub(crate) used: Amount,
    pub(crate) memory_max: Option<f64>,
    /// The request that the sample itself has.
    pub(crate) asked_by_use: Amount,
    /// The request in force: of the task's placement, or else the sample's own.
    pub(crate) asked: Amount,
    /// See [`ClassSums::index`].
    pub(crate) class: u8,
}

/// The open slots.
#[derive(Clone)]
pub(crate) struct Slots {
    length: Micros,
    /// The number of the first open slot: slot 0 begins at time 0.
    first: i64,
    /// From the first open slot on: the window, the newest record's slot, and one more.
    open: VecDeque<Slot>,
    /// Ends of samples that reach past the last open slot.
    carried: Vec<Carried>,
}

#[derive(Clone)]
struct Carried {
    from: Micros,
    end: Micros,
    sample: Sample,
}

impl Slots {
    pub(crate) fn new(length: Micros, window: u32) -> Self {
        let open = (0..i64::from(window) + 2).map(|index| Slot::new(index, length)).collect();
        Self { length, first: 0, open, carried: Vec::new() }
    }

    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    /// Whether nothing lies in any open slot, nor is carried.
    pub(crate) fn is_idle(&self) -> bool {
        self.carried.is_empty() && self.open.iter().all(Slot::is_empty)
    }

    /// Makes this slot the first. Only when idle: nothing is lost.
    pub(crate) fn jump(&mut self, first: i64) {
        self.first = first;
        for (slot, index) in self.open.iter_mut().zip(first..) {
            slot.clear(index, self.length);
        }
    }

    /// Adds a sample; returns how much of it came too late.
    pub(crate) fn add_sample(&mut self, start: Micros, end: Micros, sample: &Sample) -> Micros {
        let begin = self.first * self.length;
        let from = start.max(begin);
        let mut place = from.div_euclid(self.length) - self.first;
        let mut from = from;
        while from < end {
            let slot = usize::try_from(place).ok().and_then(|place| self.open.get_mut(place));
            let Some(slot) = slot else {
                self.carried.push(Carried { from, end, sample: sample.clone() });
                break;
            };
            let to = end.min(slot.end);
            slot.add_sample(from, to, sample);
            from = to;
            place += 1;
        }
        end.min(begin).saturating_sub(start).max(0)
    }

    /// Adds a gauge; false when it came too late. It is not past the open slots: whoever adds has
    /// closed what its time puts past the window.
    pub(crate) fn add_gauge(&mut self, at: Micros, machine: u32, used: Amount) -> bool {
        match usize::try_from(at.div_euclid(self.length) - self.first) {
            Ok(place) => {
                self.open[place].add_gauge(machine, used);
                true
            }
            Err(_) => false,
        }
    }

    /// Adds an event, as [`add_gauge`](Self::add_gauge) does; one that comes too late counts from the first open slot on. Returns how long
    /// it had held by then.
    pub(crate) fn add_event(&mut self, at: Micros, event: Event) -> Micros {
        let place = usize::try_from(at.div_euclid(self.length) - self.first);
        self.open[place.unwrap_or(0)].events.push((at, event));
        match place {
            Ok(_) => 0,
            Err(_) => self.first * self.length - at,
        }
    }

    /// Takes the first open slot out, and opens one more.
    pub(crate) fn take_first(&mut self) -> Slot {
        let slot = self.open.pop_front().expect("there are always two slots or more");
        self.first += 1;
        slot
    }

    /// Gives the room of a closed slot to the one that opens.
    pub(crate) fn hand_on(&mut self, mut slot: Slot) {
        let index = self.first + i64::try_from(self.open.len()).unwrap_or(i64::MAX);
        slot.clear(index, self.length);
        self.carried.retain(|carried| {
            let (from, to) = (carried.from.max(slot.start), carried.end.min(slot.end));
            if from < to {
                slot.add_sample(from, to, &carried.sample);
            }
            carried.end > slot.end
        });
        self.open.push_back(slot);
    }
}
