//! Clients that wait for an item of a list: first come, first served.
//!
//! Owns the line of each key. Knows nothing of connections. Invariant: an item is in its list, in
//! the hands of one ticket, or in the reply of that ticket's owner; an owner that leaves without a
//! reply puts it back where it was. Locks: a key's shard, then the lines, then a ticket.
//!
//! Who pushes through RESP serves the line before its shard is unlocked. The native protocol
//! knows no lines: its pushes signal those who wait, who then serve the line themselves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use crate::key::Key;
use crate::server::keyspace::{End, Item, Place, Value};
use crate::server::memory::Memory;

/// The lines of all keys of a node.
#[derive(Debug, Default)]
pub(in crate::server) struct Lines {
    /// Tickets in any line: while there are none, nobody looks for a line.
    waiting: AtomicUsize,
    lines: Mutex<HashMap<Key, VecDeque<Arc<Ticket>>>>,
}

/// One client's place in the lines of its keys.
#[derive(Debug)]
pub(super) struct Ticket {
    end: End,
    state: Mutex<State>,
    /// Signals that an item came.
    pub(super) served: Notify,
}

#[derive(Debug)]
enum State {
    Waits,
    Has(Served),
    Left,
}

/// An item that was taken for a ticket, and from where.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) key: Key,
    pub(super) item: Item,
    /// Where the log has the pop.
    position: Arc<AtomicU64>,
    end: End,
    _counted: Counted,
}

/// Bytes of an item that is in nobody's list; counted even if the node is full.
#[derive(Debug)]
struct Counted {
    memory: Memory,
    bytes: u64,
}

impl Counted {
    fn new(memory: &Memory, bytes: u64) -> Self {
        memory.charge(bytes);
        Self { memory: memory.clone(), bytes }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.memory.give(self.bytes);
    }
}

impl Ticket {
    pub(super) fn new(end: End) -> Arc<Self> {
        let state = Mutex::new(State::Waits);
        Arc::new(Self { end, state, served: Notify::new() })
    }

    /// Leaves, with what the ticket has got.
    pub(super) fn leave(&self) -> Option<Served> {
        match std::mem::replace(&mut *self.state.lock(), State::Left) {
            State::Has(served) => Some(served),
            State::Waits | State::Left => None,
        }
    }

    pub(super) fn is_served(&self) -> bool {
        matches!(*self.state.lock(), State::Has(_))
    }
}

impl Served {
    /// Where the log has the pop: to be asked after its shard was locked, as whoever served it may
    /// not have written it before.
    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Puts the item back where it was.
    pub(super) fn put_back(self, place: &mut Place<'_>, epoch: u32) {
        let Self { key, item, end, _counted: counted, .. } = self;
        drop(counted);
        let value = match &item {
            Item::Small { bytes, crc } => Value::Small { bytes, crc: *crc },
            Item::Large(large) => Value::Large(large.clone()),
        };
        if let Err(fault) = place.queue_push(end, value, epoch) {
            warn!("an item of {key:?} was lost with its client: {:?}", fault.kind);
        }
    }
}

impl Lines {
    /// Gives what is in the list at `place` to those who wait for it. To be called with the shard
    /// locked, after a push and before anybody else takes an item.
    #[inline]
    pub(super) fn serve(&self, key: &[u8], place: &mut Place<'_>, memory: &Memory, epoch: u32) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.serve_line(key, place, memory, epoch);
        }
    }

    fn serve_line(&self, key: &[u8], place: &mut Place<'_>, memory: &Memory, epoch: u32) {
        let mut lines = self.lines.lock();
        let Some(line) = lines.get_mut(key) else { return };
        while let Some(ticket) = line.front() {
            let mut state = ticket.state.lock();
            if matches!(*state, State::Waits) {
                // Nothing there, or a value: they go on waiting.
                let Ok(Some(popped)) = place.queue_pop(ticket.end, epoch) else { return };
                let counted = Counted::new(memory, popped.item.stored().len() as u64);
                let key = Key::new(key.to_vec()).expect("the line's key");
                let (item, end, position) = (popped.item, ticket.end, place.position());
                *state = State::Has(Served { key, item, position, end, _counted: counted });
                ticket.served.notify_one();
            }
            drop(state);
            line.pop_front();
        }
        lines.remove(key);
    }

    /// Puts a ticket at the end of the lines of these keys, whose shards are locked.
    pub(super) fn join(&self, keys: &[Key], ticket: &Arc<Ticket>) {
        let mut lines = self.lines.lock();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        for key in keys {
            lines.entry(key.clone()).or_default().push_back(ticket.clone());
        }
    }

    /// Takes a ticket that has left out of its lines.
    pub(super) fn part(&self, keys: &[Key], ticket: &Arc<Ticket>) {
        let mut lines = self.lines.lock();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        for key in keys {
            if let Some(line) = lines.get_mut(key.as_bytes()) {
                line.retain(|other| !Arc::ptr_eq(other, ticket));
                if line.is_empty() {
                    lines.remove(key.as_bytes());
                }
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}
