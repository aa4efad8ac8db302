//! How an absent object is fetched: once, for all who wait, whoever of them gives up.
//!
//! Owns the lock over shelf, flights and policies, and the tasks that fetch. A fetch is a task of
//! the cache, not of a caller, so a caller that is dropped takes nothing from the others.
//! Invariant: the lock is never held over an await, nor while values are dropped.

use std::hash::BuildHasher;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Freshness;
use super::flight::{Answer, FlightId, Flights, Moment, Share};
use super::prefetch::{Ahead, Prefetch};
use super::shelf::{Arrival, Shelf};
use super::source::Source;
use crate::error::{Kind, Result};
use crate::key::Key;
use crate::object::Object;

/// What the handles of a cache and its tasks share.
#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) source: S,
    pub(super) state: Mutex<State>,
    pub(super) freshness: Freshness,
    pub(super) hasher: foldhash::fast::RandomState,
    /// A permit for each fetch that somebody waits for.
    pub(super) fetches: Arc<Semaphore>,
    /// A permit for each guess.
    pub(super) guesses: Arc<Semaphore>,
    /// 0 where there is no prefetch policy.
    pub(super) guesses_max: usize,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) shelf: Shelf,
    pub(super) flights: Flights,
    pub(super) prefetch: Option<Box<dyn Prefetch>>,
    /// Memory of the last [`Ahead`].
    pub(super) ahead: Vec<Key>,
}

/// One call of get, over all its steps.
#[derive(Debug)]
pub(super) struct Visit<S: Source> {
    since: Option<Moment>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// Flights that the last step started, to be launched without the lock.
    pub(super) launches: Vec<Ticket<S>>,
}

impl<S: Source> Default for Visit<S> {
    fn default() -> Self {
        Self { since: None, permit: None, launches: Vec::new() }
    }
}

/// What a get does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Answers.
    Held(Object),
    /// Answers with what the flight brings.
    Join(watch::Receiver<Answer>),
    /// Waits until the flight is over, and steps again.
    Wait(watch::Receiver<Answer>),
    /// Waits for a permit to fetch, and steps again.
    Full,
}

/// The right to fly: whoever drops it ends the flight.
#[derive(Debug)]
pub(super) struct Ticket<S: Source> {
    shared: Arc<Shared<S>>,
    key: Key,
    hash: u64,
    id: FlightId,
    answer: watch::Sender<Answer>,
    /// Gives its place back when the flight ends.
    _permit: OwnedSemaphorePermit,
}

impl<S: Source> Drop for Ticket<S> {
    /// A flight that was cut short (the cache closed, the source panicked) leaves no trace; its
    /// callers see that nobody will answer.
    fn drop(&mut self) {
        self.shared.with(|state| state.flights.land(&self.key, self.id));
    }
}

/// What a request to the source brought.
struct Landing {
    object: Object,
    /// It is what the cache held already.
    unchanged: bool,
}

impl<S: Source> Shared<S> {
    /// Acts under the lock, and drops what left the cache after it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = act(&mut state);
        let leaving = mem::take(&mut state.shelf.leaving);
        drop(state);
        drop(leaving);
        result
    }

    pub(super) fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key.as_bytes())
    }

    /// The object, where it is held and a get has nothing else to do: no check, no guess.
    ///
    /// It does what [`Shared::step`] does, without what only a get that waits needs.
    pub(super) fn hit(&self, key: &Key) -> Option<Object> {
        let is_checked = match self.freshness {
            Freshness::VersionCheck => true,
            Freshness::Immutable | Freshness::TimeToLive(_) => false,
        };
        if is_checked || self.guesses_max > 0 {
            return None;
        }
        let hash = self.hash(key);
        let mut state = self.state.lock();
        let shelf = &mut state.shelf;
        let place = shelf.find(hash, key)?;
        let held = shelf.held(place)?;
        if !self.is_fresh(held.checked_at) || has_expired(&held.object) {
            return None;
        }
        let object = held.object.clone();
        shelf.counters.hits += 1;
        // Without guesses a read makes nothing leave.
        shelf.access(place);
        Some(object)
    }

    /// What a get of `key` does next.
    pub(super) fn step(self: &Arc<Self>, key: &Key, visit: &mut Visit<S>) -> Step {
        let hash = self.hash(key);
        self.with(|state| {
            let is_first = visit.since.is_none();
            let since = *visit.since.get_or_insert(state.flights.now());
            let place = state.shelf.find(hash, key);
            let held = place.and_then(|place| state.shelf.held(place));
            let fresh = held
                .filter(|held| self.is_fresh(held.checked_at) && !has_expired(&held.object))
                .map(|held| held.object.clone());
            let step = match (place, fresh) {
                (Some(place), Some(object)) => {
                    state.shelf.counters.hits += 1;
                    state.shelf.access(place);
                    Step::Held(object)
                }
                (Some(_) | None, None) | (None, Some(_)) => {
                    self.join_or_lead(state, key, since, visit)
                }
            };
            if is_first {
                state.shelf.count_access();
                self.guess(state, key, place.is_some(), visit);
            }
            step
        })
    }

    /// Sends the flights that a step started on their way. Panics outside of a tokio runtime.
    pub(super) fn launch(self: &Arc<Self>, tickets: &mut Vec<Ticket<S>>) {
        for ticket in tickets.drain(..) {
            self.tasks.spawn(fly(ticket));
        }
    }

    /// Keeps what a put has written.
    pub(super) fn keep(&self, key: &Key, object: Object, checked_at: Instant) {
        let hash = self.hash(key);
        self.with(|state| {
            // A flight that was sent before the put ended may bring what was there before.
            state.flights.overtake(key);
            let key = key.clone();
            state.shelf.insert(Arrival { key, hash, object, checked_at, guess: false });
        });
    }

    /// Lets go of the object, and of what flights that are under way will bring.
    pub(super) fn forget(&self, key: &Key) {
        let hash = self.hash(key);
        self.with(|state| {
            state.flights.overtake(key);
            state.shelf.forget(hash, key);
        });
    }

    fn is_fresh(&self, checked_at: Instant) -> bool {
        match self.freshness {
            Freshness::Immutable => true,
            Freshness::VersionCheck => false,
            Freshness::TimeToLive(limit) => checked_at.elapsed() < limit,
        }
    }

    fn join_or_lead(
        self: &Arc<Self>,
        state: &mut State,
        key: &Key,
        since: Moment,
        visit: &mut Visit<S>,
    ) -> Step {
        // With version checks a get sees every write that ended before it began, so the answer to
        // a request that was sent before it began may be too old.
        let since = match self.freshness {
            Freshness::VersionCheck => Some(since),
            Freshness::Immutable | Freshness::TimeToLive(_) => None,
        };
        match state.flights.share(key, since) {
            Some(Share::Join { answer, guessed }) => {
                state.shelf.counters.prefetched_used += u64::from(guessed);
                Step::Join(answer)
            }
            Some(Share::Wait(answer)) => Step::Wait(answer),
            None => {
                let permit = visit.permit.take();
                match permit.or_else(|| Arc::clone(&self.fetches).try_acquire_owned().ok()) {
                    None => Step::Full,
                    Some(permit) => {
                        let ticket = self.ticket(state, key, permit, false);
                        let answer = ticket.answer.subscribe();
                        visit.launches.push(ticket);
                        Step::Join(answer)
                    }
                }
            }
        }
    }

    /// Asks the prefetch policy, and starts a flight for each key it names that is not here.
    fn guess(self: &Arc<Self>, state: &mut State, key: &Key, hit: bool, visit: &mut Visit<S>) {
        let Some(prefetch) = &mut state.prefetch else { return };
        let free = self.guesses.available_permits();
        let room = state.shelf.guess_room(self.guesses_max - free).min(free);
        let mut ahead = Ahead::reuse(mem::take(&mut state.ahead), room);
        prefetch.on_access(key, hit, &mut ahead);
        let mut keys = ahead.into_keys();
        for key in keys.drain(..) {
            if state.flights.contains(&key) || state.shelf.find(self.hash(&key), &key).is_some() {
                continue;
            }
            let Ok(permit) = Arc::clone(&self.guesses).try_acquire_owned() else { break };
            state.shelf.counters.prefetched += 1;
            visit.launches.push(self.ticket(state, &key, permit, true));
        }
        state.ahead = keys;
    }

    fn ticket(
        self: &Arc<Self>,
        state: &mut State,
        key: &Key,
        permit: OwnedSemaphorePermit,
        guess: bool,
    ) -> Ticket<S> {
        let (id, answer) = state.flights.start(key, guess);
        let hash = self.hash(key);
        Ticket { shared: Arc::clone(self), key: key.clone(), hash, id, answer, _permit: permit }
    }

    /// Marks the flight as sent; answers with what is held and need only be confirmed.
    fn depart(&self, ticket: &Ticket<S>) -> Option<Object> {
        self.with(|state| {
            state.shelf.counters.fetches += 1;
            state.flights.send(&ticket.key, ticket.id);
            let place = state.shelf.find(ticket.hash, &ticket.key)?;
            let object = &state.shelf.held(place)?.object;
            (!has_expired(object)).then(|| object.clone())
        })
    }

    async fn ask(&self, key: &Key, held: Option<Object>) -> Result<Landing> {
        let Some(held) = held else {
            return Ok(Landing { object: self.source.get(key).await?, unchanged: false });
        };
        Ok(match self.source.get_if_newer(key, held.version).await? {
            Some(object) => Landing { object, unchanged: false },
            None => Landing { object: held, unchanged: true },
        })
    }

    /// Keeps what came, and answers those who wait.
    fn land(&self, ticket: &Ticket<S>, sent_at: Instant, outcome: Result<Landing>) {
        let answer = self.with(|state| {
            let guess = state.flights.land(&ticket.key, ticket.id);
            // The table's own receiver is gone, and nobody joins any more.
            let callers = ticket.answer.receiver_count() as u64;
            let counters = &mut state.shelf.counters;
            match &outcome {
                Ok(Landing { unchanged: true, .. }) => counters.hits += callers,
                Ok(_) | Err(_) => counters.misses += callers,
            }
            match (outcome, guess) {
                (Ok(Landing { object, .. }), None) => Ok(object),
                (Ok(Landing { object, .. }), Some(guess)) => {
                    state.shelf.insert(Arrival {
                        key: ticket.key.clone(),
                        hash: ticket.hash,
                        object: object.clone(),
                        checked_at: sent_at,
                        guess,
                    });
                    Ok(object)
                }
                (Err(error), guess) => {
                    if error.kind() == Kind::NotFound && guess.is_some() {
                        state.shelf.forget(ticket.hash, &ticket.key);
                    }
                    Err(Arc::new(error))
                }
            }
        });
        ticket.answer.send_replace(Some(answer));
    }
}

async fn fly<S: Source>(ticket: Ticket<S>) {
    let shared = Arc::clone(&ticket.shared);
    // What the answer says was true no earlier than this.
    let sent_at = Instant::now();
    let held = shared.depart(&ticket);
    let outcome = tokio::select! {
        () = shared.closing.cancelled() => return,
        outcome = shared.ask(&ticket.key, held) => outcome,
    };
    shared.land(&ticket, sent_at, outcome);
}

fn has_expired(object: &Object) -> bool {
    object.expires_at.is_some_and(|at| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or(Duration::ZERO) >= Duration::from_millis(at)
    })
}
