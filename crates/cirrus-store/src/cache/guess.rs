//! What is fetched before anybody asks: how the prefetch policy hears of reads, and what is done about
//! what it names.
//!
//! Owns the way of a hit where there is a prefetch policy. Knows nothing of requests: a guess is a
//! flight like any other. Invariant: the policy hears of each read once, a thread's in their order.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::desk::State;
use super::fetch::{Shared, Ticket};
use super::source::Source;
use crate::key::Key;
use crate::object::Object;

impl<S: Source> Shared<S> {
    /// The object, where it is held and may be handed out as it is and a prefetch policy hears of it.
    #[inline]
    pub(super) fn hit_and_guess(self: &Arc<Self>, key: &Key) -> Option<Object> {
        let hash = self.desk.table.hash(key);
        let object = self.desk.hit_untold(hash, key);
        object.or_else(|| self.hit_at_desk(hash, key))
    }

    /// The same at the desk. Guesses are launched only where there is a runtime.
    #[inline(never)]
    fn hit_at_desk(self: &Arc<Self>, hash: u64, key: &Key) -> Option<Object> {
        let mut launches = Vec::new();
        let object = self.desk.with(|state| {
            let seen = state.shelf.find(hash, key);
            // Nothing is held of a key of which a value was accepted.
            let object = self.read(state, seen).or_else(|| self.accepted(state, key))?;
            let hits_waiting = match Handle::try_current() {
                Ok(_) => {
                    self.guess(state, key, true, &mut launches);
                    state.shelf.objects_in(state.pace.untold())
                }
                Err(_) => 0,
            };
            self.desk.let_wait(state, hits_waiting);
            Some(object)
        });
        self.launch(&mut launches);
        object
    }

    /// Tells the prefetch policy of a read, and of those before it that it has not heard of; starts
    /// a flight for each key that it names and that is not here.
    pub(super) fn guess(
        self: &Arc<Self>,
        state: &mut State,
        key: &Key,
        hit: bool,
        launches: &mut Vec<Ticket<S>>,
    ) {
        if state.prefetch.is_none() {
            return;
        }
        let before = state.shelf.take_read();
        let reads = before.len() as u64 + 1;
        state.shelf.count_accesses(reads);
        let bytes = state.shelf.typical_bytes().saturating_mul(reads);
        state.pace.read(bytes, Duration::ZERO, Instant::now());
        let wanted = state.shelf.want(state.pace.wanted());
        let mut room = None;
        for (key, hit) in before.iter().map(|key| (key, true)).chain([(key, hit)]) {
            self.guess_after(state, (key, hit), (&mut room, wanted), launches);
        }
        state.shelf.reuse_read(before);
    }

    /// The same of one read. `room` is how many keys are taken, `None` where that is not known.
    fn guess_after(
        self: &Arc<Self>,
        state: &mut State,
        (key, hit): (&Key, bool),
        (room, wanted): (&mut Option<usize>, usize),
        launches: &mut Vec<Ticket<S>>,
    ) {
        let Some(prefetch) = &mut state.prefetch else { return };
        let room_now = *room.get_or_insert_with(|| {
            let free = self.guesses.available_permits();
            state.shelf.guess_room(self.guesses_max - free).min(free)
        });
        let mut ahead = mem::take(&mut state.ahead);
        ahead.begin(room_now, wanted);
        prefetch.on_access(key, hit, &mut ahead);
        if !ahead.cancelled().is_empty() {
            *room = None;
        }
        for key in ahead.cancelled() {
            let was_cancelled = state.flights.cancel(key)
                || state.shelf.forget_guess(self.desk.table.hash(key), key);
            state.shelf.counters.prefetched_cancelled += u64::from(was_cancelled);
        }
        for key in ahead.keys() {
            let hash = self.desk.table.hash(key);
            let is_here = self.desk.table.contains(hash, key)
                || state.flights.contains(key)
                || self.dirty.contains(key);
            if is_here {
                continue;
            }
            *room = None;
            let Ok(permit) = Arc::clone(&self.guesses).try_acquire_owned() else { break };
            state.shelf.counters.prefetched += 1;
            launches.push(self.ticket(state, key, Some(permit), true).0);
        }
        state.ahead = ahead;
    }
}
