//! The log of a simulated coordinator, whose power fails at any moment.
//!
//! Owns what is durable, what is being written and what waits. May not know what events mean.
//! Invariant: a power cut keeps everything that was called synced, and of the rest all of the group
//! that was being written or nothing: that is what the journal's own tests show of its file.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Dice;
use crate::coordinator::gate::{Gate, GateKeeper, Log, Recovered};
use crate::coordinator::state::{Durable, Event};

/// What the coordinator writes to.
#[derive(Debug)]
pub(super) struct SimLog {
    disk: SharedDisk,
    gate: Gate,
}

/// The disk, which outlives its coordinators.
#[derive(Debug, Clone)]
pub(super) struct SharedDisk(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    /// Encoded, by sequence.
    events: BTreeMap<u64, Vec<u8>>,
    snapshot: Option<(u64, Vec<u8>)>,
    writing: Vec<Entry>,
    queued: Vec<Entry>,
    /// The sequence of the last event that was queued.
    last: u64,
    last_snapshot: u64,
    snapshot_every: u64,
    keeper: GateKeeper,
}

#[derive(Debug)]
enum Entry {
    Event(u64, Event),
    Snapshot(u64, Box<Durable>),
}

impl SharedDisk {
    /// An empty disk; a snapshot is made every so many events.
    pub(super) fn new(snapshot_every: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            events: BTreeMap::new(),
            snapshot: None,
            writing: Vec::new(),
            queued: Vec::new(),
            last: 0,
            last_snapshot: 0,
            snapshot_every,
            keeper: Gate::new(0).0,
        })))
    }

    /// The log of a coordinator that starts, and what those before it left.
    pub(super) fn open(&self) -> (SimLog, Recovered) {
        let mut disk = self.0.lock();
        let disk = &mut *disk;
        let mut recovered = Recovered::default();
        disk.last = 0;
        if let Some((at, bytes)) = &disk.snapshot {
            recovered.snapshot = Some(postcard::from_bytes(bytes).unwrap());
            disk.last = *at;
        }
        disk.last_snapshot = disk.last;
        let mut last = disk.last;
        for (sequence, bytes) in &disk.events {
            last += 1;
            assert_eq!(*sequence, last, "an event is missing");
            recovered.events.push(postcard::from_bytes(bytes).unwrap());
        }
        disk.last = last;
        let (keeper, gate) = Gate::new(disk.last);
        disk.keeper = keeper;
        (SimLog { disk: self.clone(), gate }, recovered)
    }

    /// The group that was being written is durable, and the next one begins.
    pub(super) fn sync(&self) {
        let mut disk = self.0.lock();
        if let Some(through) = disk.land() {
            disk.keeper.synced(through);
        }
        disk.writing = std::mem::take(&mut disk.queued);
    }

    /// Everything that is not durable is gone, but for a group that was just written and not yet
    /// called synced. Answers how many events were forgotten.
    pub(super) fn lose_power(&self, dice: &mut Dice) -> u64 {
        let mut disk = self.0.lock();
        let queued = disk.queued.len() + disk.writing.len();
        if dice.one_in(2) {
            disk.writing.clear();
        }
        let forgotten = queued - disk.writing.len();
        disk.queued.clear();
        disk.land();
        forgotten as u64
    }

    pub(super) fn has_snapshot(&self) -> bool {
        self.0.lock().snapshot.is_some()
    }
}

impl Disk {
    /// Makes the group durable that was being written; answers up to where, unless it is empty.
    fn land(&mut self) -> Option<u64> {
        let mut through = None;
        for entry in std::mem::take(&mut self.writing) {
            match entry {
                Entry::Event(sequence, event) => {
                    self.events.insert(sequence, postcard::to_stdvec(&event).unwrap());
                    through = Some(sequence);
                }
                Entry::Snapshot(sequence, durable) => {
                    self.snapshot = Some((sequence, postcard::to_stdvec(&durable).unwrap()));
                    self.events = self.events.split_off(&(sequence + 1));
                    through = Some(sequence);
                }
            }
        }
        through
    }
}

impl Log for SimLog {
    fn append(&self, events: Vec<Event>) -> u64 {
        let mut disk = self.disk.0.lock();
        for event in events {
            disk.last += 1;
            let entry = Entry::Event(disk.last, event);
            disk.queued.push(entry);
        }
        disk.last
    }

    fn wants_snapshot(&self) -> bool {
        let disk = self.disk.0.lock();
        disk.last - disk.last_snapshot >= disk.snapshot_every
    }

    fn snapshot(&self, durable: Durable) {
        let mut disk = self.disk.0.lock();
        disk.last_snapshot = disk.last;
        let entry = Entry::Snapshot(disk.last, Box::new(durable));
        disk.queued.push(entry);
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }
}
