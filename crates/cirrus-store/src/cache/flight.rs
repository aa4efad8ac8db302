//! Which objects are being fetched, and who may share the answer.
//!
//! Owns the table of flights. Knows nothing of the source, of bytes held, or of tasks.
//! Invariant: a key has at most one flight in the table; one that was overtaken by a write is not
//! in it: its own callers get its answer, nobody else joins, and the cache keeps nothing of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::Error;
use crate::key::Key;
use crate::object::Object;

/// What a flight brought.
pub(super) type Landed = Result<Object, Arc<Error>>;

/// What is known of a flight to those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// `None` before it lands.
    pub(super) landed: Option<Landed>,
    /// How many wait for its end only.
    waiting: AtomicU64,
}

impl Answer {
    pub(super) fn has_landed(&self) -> bool {
        self.landed.is_some()
    }
}

/// How many get what the flight brings.
pub(super) fn callers(flight: &watch::Sender<Answer>) -> u64 {
    let waiting = flight.borrow().waiting.load(Ordering::Relaxed);
    (flight.receiver_count() as u64).saturating_sub(waiting)
}

/// Waits for the end of a flight whose answer it cannot take.
#[derive(Debug)]
pub(super) struct Waiting(watch::Receiver<Answer>);

impl Waiting {
    fn new(answer: watch::Receiver<Answer>) -> Self {
        answer.borrow().waiting.fetch_add(1, Ordering::Relaxed);
        Self(answer)
    }

    pub(super) async fn end(mut self) {
        // A closed channel is an end too.
        drop(self.0.wait_for(Answer::has_landed).await);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.borrow().waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The flights, by key.
#[derive(Debug, Default)]
pub(super) struct Flights {
    table: HashMap<Key, Flight, foldhash::fast::RandomState>,
    started: u64,
    sent: u64,
}

/// One request to the source, for all who want its object.
#[derive(Debug)]
pub(super) struct Flight {
    id: FlightId,
    /// When its request was sent; `None` before.
    sent: Option<Sent>,
    /// Nobody has asked for the object.
    guess: bool,
    answer: watch::Receiver<Answer>,
}

/// Tells a flight from later ones of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlightId(u64);

/// A moment, measured in requests sent: a flight sent later sees every write that ended before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// When a request was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    moment: Moment,
    at: Instant,
}

/// Which flights are current enough for a caller: those that are not sent yet, and of others
#[derive(Debug, Clone, Copy)]
pub(super) enum Since {
    /// all;
    Ever,
    /// those that were sent after this;
    Moment(Moment),
    /// those that were sent after this, by the clock.
    Time(Instant),
}

impl Since {
    fn admits(self, sent: Sent) -> bool {
        match self {
            Self::Ever => true,
            Self::Moment(moment) => sent.moment > moment,
            Self::Time(time) => sent.at > time,
        }
    }
}

/// What a caller does about a key that is in flight.
#[derive(Debug)]
pub(super) enum Share {
    /// Takes the flight's answer; `guessed` when it is the first to ask for the object.
    Join { answer: watch::Receiver<Answer>, guessed: bool },
    /// Waits until the flight is over, and looks again: it was sent too early.
    Wait(Waiting),
}

impl Flights {
    /// Now.
    pub(super) fn now(&self) -> Moment {
        Moment(self.sent)
    }

    /// Starts a flight for `key`, which has none.
    pub(super) fn start(&mut self, key: &Key, guess: bool) -> (FlightId, watch::Sender<Answer>) {
        self.started += 1;
        let id = FlightId(self.started);
        let (sender, answer) = watch::channel(Answer::default());
        self.table.insert(key.clone(), Flight { id, sent: None, guess, answer });
        (id, sender)
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.table.contains_key(key)
    }

    /// How a caller shares the flight of `key`, if there is one.
    pub(super) fn share(&mut self, key: &Key, since: Since) -> Option<Share> {
        let flight = self.table.get_mut(key)?;
        let answer = flight.answer.clone();
        if flight.sent.is_some_and(|sent| !since.admits(sent)) {
            return Some(Share::Wait(Waiting::new(answer)));
        }
        let guessed = std::mem::take(&mut flight.guess);
        Some(Share::Join { answer, guessed })
    }

    /// The flight's request is about to be sent.
    pub(super) fn send(&mut self, key: &Key, id: FlightId, at: Instant) {
        self.sent += 1;
        if let Some(flight) = self.table.get_mut(key).filter(|flight| flight.id == id) {
            flight.sent = Some(Sent { moment: Moment(self.sent), at });
        }
    }

    /// The flight is over: whether it was a guess still, or `None` if a write overtook it.
    pub(super) fn land(&mut self, key: &Key, id: FlightId) -> Option<bool> {
        if self.table.get(key)?.id != id {
            return None;
        }
        self.table.remove(key).map(|flight| flight.guess)
    }

    /// Nobody wants the guess any more: gives the flight up, if nobody has joined it. Says whether
    /// there was one.
    pub(super) fn cancel(&mut self, key: &Key) -> bool {
        let is_guess = self.table.get(key).is_some_and(|flight| flight.guess);
        if is_guess {
            self.table.remove(key);
        }
        is_guess
    }

    /// A write overtakes the flight of `key`, if there is one.
    pub(super) fn overtake(&mut self, key: &Key) {
        self.table.remove(key);
    }

    /// The same for all keys that begin with `prefix`.
    pub(super) fn overtake_all(&mut self, prefix: &[u8]) {
        self.table.retain(|key, _| !key.as_bytes().starts_with(prefix));
    }
}
