//! How an absent object is fetched: once, for all who wait, whoever of them gives up.
//!
//! Owns the tasks that fetch. A fetch is a task of the cache, not of a caller, so a caller that is
//! dropped takes nothing from the others.
//! Invariant: the desk's lock is never held over an await, nor while values are dropped.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desk::{Desk, State};
use super::dirty::Dirty;
use super::flight::{Answer, FlightId, Share, Since, Waiting, callers};
use super::freshness::{Freshness, has_expired};
use super::shelf::{Arrival, Seen, cost};
use super::source::{Source, for_one_of_many};
use super::sync::TaskTracker;
use crate::client::{Unwritten, detached};
use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::object::Object;

/// [`Sink::adopt`](super::Sink::adopt).
pub(super) type Adopt<S> = fn(&S, BoxFuture<'static, Vec<Unwritten>>);

/// What the handles of a cache and its tasks share.
#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) source: S,
    pub(super) desk: Desk,
    pub(super) dirty: Arc<Dirty>,
    /// How the source takes over what is dirty when the cache is dropped; set before anything is.
    pub(super) adopt: OnceLock<Adopt<S>>,
    pub(super) freshness: Freshness,
    /// Whether a hit has nothing to do at the desk.
    pub(super) is_quick: bool,
    /// A permit for each fetch that somebody waits for.
    pub(super) fetches: Arc<Semaphore>,
    /// A permit for each guess.
    pub(super) guesses: Arc<Semaphore>,
    /// 0 where there is no prefetch policy.
    pub(super) guesses_max: usize,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

/// One call of get, over all its steps.
#[derive(Debug)]
pub(super) struct Visit<S: Source> {
    since: Option<Since>,
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
    Wait(Waiting),
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
    /// Gives its place back when the flight ends; `None` where the flight shares a request.
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S: Source> Ticket<S> {
    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}

impl<S: Source> Drop for Ticket<S> {
    /// A flight that was cut short (the cache closed, the source panicked) leaves no trace; its
    /// callers see that nobody will answer.
    fn drop(&mut self) {
        // No policy is called here, since it may be one that has just panicked.
        self.shared.desk.lock().flights.land(&self.key, self.id);
    }
}

/// What a request to the source brought.
pub(super) struct Landing {
    object: Object,
    /// It is what the cache held already.
    unchanged: bool,
}

impl Landing {
    /// Of an object that the cache did not hold.
    pub(super) fn new(object: Object) -> Self {
        Self { object, unchanged: false }
    }
}

impl<S: Source> Shared<S> {
    /// The object, where it is held and a get has nothing else to do: no check, no guess.
    ///
    /// It does what [`Shared::step`] does, without what only a get that waits needs.
    #[inline]
    pub(super) fn hit(&self, key: &Key) -> Option<Object> {
        if self.is_quick { self.desk.hit(key) } else { None }
    }

    /// The object, from here or from the source; [`Cache::get`](super::Cache::get) has looked for it.
    pub(super) async fn get(self: &Arc<Self>, key: &Key) -> Result<Object> {
        let mut visit = Visit::default();
        loop {
            let step = self.step(key, &mut visit);
            self.launch(&mut visit.launches);
            match step {
                Step::Held(object) => return Ok(object),
                Step::Join(answer) => {
                    drop(visit);
                    return await_answer(key, answer).await;
                }
                Step::Wait(flight) => {
                    visit.permit = None;
                    // Whatever it brings is too old for this caller.
                    flight.end().await;
                }
                Step::Full => {
                    let permit = Arc::clone(&self.fetches).acquire_owned().await;
                    visit.permit = Some(permit.map_err(|_| closed(key))?);
                }
            }
        }
    }

    /// What a get of `key` does next.
    pub(super) fn step(self: &Arc<Self>, key: &Key, visit: &mut Visit<S>) -> Step {
        let hash = self.desk.table.hash(key);
        self.desk.with(|state| {
            let is_first = visit.since.is_none();
            let since = *visit.since.get_or_insert_with(|| self.since(state));
            let seen = state.shelf.find(hash, key);
            let was_held = seen.is_some();
            let held = self.accepted(state, key).or_else(|| self.read(state, seen));
            let step = match held {
                Some(object) => Step::Held(object),
                None => self.join_or_lead(state, key, since, visit),
            };
            if is_first {
                self.guess(state, key, was_held, &mut visit.launches);
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

    /// The object in memory of our own, if it can be kept: a value that lies in a node's memory
    /// would stay there for as long as we hold it.
    pub(super) fn detached(&self, key: &Key, object: Object) -> Object {
        if self.desk.is_too_large(key, &object) {
            return object;
        }
        Object { value: detached(object.value), ..object }
    }

    /// Lets go of the object, and of what flights that are under way will bring.
    pub(super) fn forget(&self, key: &Key) {
        let hash = self.desk.table.hash(key);
        self.desk.with(|state| {
            state.flights.overtake(key);
            state.shelf.forget(hash, key);
        });
    }

    /// The same for all keys that begin with `prefix`.
    pub(super) fn forget_all(&self, prefix: &[u8]) {
        self.desk.with(|state| {
            state.flights.overtake_all(prefix);
            state.shelf.forget_all(prefix);
        });
    }

    /// Reads what was found, if it may be handed out as it is.
    pub(super) fn read(&self, state: &mut State, seen: Option<Seen>) -> Option<Object> {
        let seen = seen.filter(|seen| self.freshness.admits(seen.checked_at, &seen.object))?;
        state.shelf.counters.hits += 1;
        state.shelf.access(seen.place);
        Some(seen.object)
    }

    /// Whose answer is current enough for a get that begins now.
    pub(super) fn since(&self, state: &State) -> Since {
        match self.freshness {
            Freshness::Immutable => Since::Ever,
            // It sees every write that ended before now, which the answer to an earlier request
            // may not.
            Freshness::VersionCheck => Since::Moment(state.flights.now()),
            Freshness::TimeToLive(limit) => {
                Instant::now().checked_sub(limit).map_or(Since::Ever, Since::Time)
            }
        }
    }

    fn join_or_lead(
        self: &Arc<Self>,
        state: &mut State,
        key: &Key,
        since: Since,
        visit: &mut Visit<S>,
    ) -> Step {
        if let Some(step) = self.join(state, key, since) {
            return step;
        }
        let permit = visit.permit.take();
        let permit = permit.or_else(|| Arc::clone(&self.fetches).try_acquire_owned().ok());
        if permit.is_none() {
            return Step::Full;
        }
        let (ticket, answer) = self.ticket(state, key, permit, false);
        visit.launches.push(ticket);
        Step::Join(answer)
    }

    /// What a get does about a flight of `key`, if there is one.
    pub(super) fn join(&self, state: &mut State, key: &Key, since: Since) -> Option<Step> {
        Some(match state.flights.share(key, since)? {
            Share::Join { answer, guessed } => {
                state.shelf.counters.prefetched_used += u64::from(guessed);
                state.shelf.counters.prefetched_late += u64::from(guessed);
                Step::Join(answer)
            }
            Share::Wait(answer) => Step::Wait(answer),
        })
    }

    /// Starts a flight for `key`, which has none: the right to fly, and what its callers wait for.
    pub(super) fn ticket(
        self: &Arc<Self>,
        state: &mut State,
        key: &Key,
        permit: Option<OwnedSemaphorePermit>,
        guess: bool,
    ) -> (Ticket<S>, watch::Receiver<Answer>) {
        let (id, answer) = state.flights.start(key, guess);
        let (callers, hash) = (answer.subscribe(), self.desk.table.hash(key));
        let (shared, key) = (Arc::clone(self), key.clone());
        (Ticket { shared, key, hash, id, answer, _permit: permit }, callers)
    }

    /// Marks the flight as sent; answers with what is held and need only be confirmed.
    pub(super) fn depart(&self, ticket: &Ticket<S>, sent_at: Instant) -> Option<Object> {
        self.desk.with(|state| {
            state.shelf.counters.fetches += 1;
            state.flights.send(&ticket.key, ticket.id, sent_at);
            let seen = state.shelf.find(ticket.hash, &ticket.key)?;
            (!has_expired(&seen.object)).then_some(seen.object)
        })
    }

    async fn ask(&self, key: &Key, held: Option<Object>) -> Result<Landing> {
        let Some(held) = held else {
            return Ok(Landing::new(self.source.get(key).await?));
        };
        Ok(match self.source.get_if_newer(key, held.version).await? {
            Some(object) => Landing::new(object),
            None => Landing { object: held, unchanged: true },
        })
    }

    /// Keeps what came, and answers those who wait.
    pub(super) fn land(&self, ticket: &Ticket<S>, sent_at: Instant, outcome: Result<Landing>) {
        let answer = self.desk.with(|state| {
            // Beside a write it is unknown whether this is what was before, also when that write is
            // given up: then nothing may be held.
            let is_kept = !state.writes.are_under_way(&ticket.key);
            let guess = state.flights.land(&ticket.key, ticket.id).filter(|_| is_kept);
            // The table's own receiver is gone, and nobody joins any more.
            let callers = callers(&ticket.answer);
            if let (true, Ok(Landing { object, .. })) = (self.guesses_max > 0, &outcome) {
                let took = sent_at.elapsed();
                state.pace.landed(took, cost(&ticket.key, object));
                let waited = if callers > 0 { took } else { Duration::ZERO };
                state.pace.read(0, waited, Instant::now());
            }
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
        ticket.answer.send_modify(|flight| flight.landed = Some(answer));
    }
}

async fn fly<S: Source>(ticket: Ticket<S>) {
    let shared = Arc::clone(&ticket.shared);
    // What the answer says was true no earlier than this.
    let sent_at = Instant::now();
    let held = shared.depart(&ticket, sent_at);
    let outcome = tokio::select! {
        biased;
        () = shared.closing.cancelled() => return,
        // Nobody waits, nobody can join: a guess that was cancelled, or overtaken by a write.
        () = ticket.answer.closed() => return,
        outcome = shared.ask(&ticket.key, held) => outcome,
    };
    let outcome = outcome.map(|Landing { object, unchanged }| Landing {
        object: shared.detached(&ticket.key, object),
        unchanged,
    });
    shared.land(&ticket, sent_at, outcome);
}

pub(super) async fn await_answer(key: &Key, mut answer: watch::Receiver<Answer>) -> Result<Object> {
    let landed = match answer.wait_for(Answer::has_landed).await {
        Ok(flight) => flight.landed.clone(),
        Err(_) => None,
    };
    match landed {
        Some(Ok(object)) => Ok(object),
        Some(Err(error)) => Err(for_one_of_many(key, error)),
        None => Err(closed(key)),
    }
}

pub(super) fn closed(key: &Key) -> Error {
    let text =
        "nothing came of the fetch: the cache was closed, or its source or a policy panicked";
    Error::new(Kind::Closed, format!("{key:?}: {text}"))
}
