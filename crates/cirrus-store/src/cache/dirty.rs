//! Values that were accepted and are not at the source yet.
//!
//! Owns [`Dirty`]: the values, in the order in which they are written, and what became of those that
//! could not be. No source, no task: whoever writes says how it went.
//! Invariants: of a key one value at a time is being written; a value leaves when it, or a later one
//! of its key, is at the source, or when it is handed back with its error.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::shelf;
use crate::client::Unwritten;
use crate::error::{Error, Kind};
use crate::key::Key;

/// Writes in flight.
const WRITERS_MAX: usize = 64;

/// Accepted values that could not be written; [`Cache::flush`](super::Cache::flush) hands them back.
#[derive(Debug)]
#[non_exhaustive]
pub struct FlushError {
    /// Those that this flush hands back. The cache has forgotten them.
    pub unwritten: Vec<Unwritten>,
    /// How many more another flush, which ran at the same time, has handed back.
    pub elsewhere: u64,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.unwritten.len() as u64 + self.elsewhere;
        write!(f, "{count} accepted values could not be written and are handed back")?;
        match self.unwritten.first() {
            Some(Unwritten { key, error, .. }) => write!(f, "; the first is {key:?}: {error}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FlushError {}

#[derive(Debug)]
pub(super) struct Dirty {
    bytes_max: u64,
    state: Mutex<State>,
    /// A write has ended, or the cache was closed.
    pub(super) changed: Notify,
    /// Of who waits for room: one after the other, so that large values have their turn.
    pub(super) turn: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry, foldhash::fast::RandomState>,
    /// Keys with a value to write of which none is being written.
    waiting: VecDeque<Key>,
    /// The numbers of values that are to be written, or are being written.
    open: BTreeSet<u64>,
    accepted: u64,
    bytes: u64,
    failed: usize,
    handed_back: u64,
    writers: usize,
    /// Writers that are writing; the others are about to.
    busy: usize,
    is_closed: bool,
}

/// What is not at the source of one key: at least one value.
#[derive(Debug, Default)]
struct Entry {
    writing: Option<Accepted>,
    next: Option<Accepted>,
    /// Why `next` could not be written.
    error: Option<Error>,
}

#[derive(Debug)]
struct Accepted {
    value: Bytes,
    bytes: u64,
    /// The number of the first accepted value of which nothing came to the source but through this.
    since: u64,
}

/// What becomes of a value.
#[derive(Debug)]
pub(super) enum Offer {
    /// It is accepted; `is_first` when its key had none, and somebody has to write it.
    Accepted { is_first: bool, writer: Option<Writer> },
    /// There is no room for it now.
    Full,
    /// No value is accepted before a flush, or ever again.
    Refused(Error),
}

/// How far the writes of a key have come.
#[derive(Debug)]
pub(super) enum Progress {
    Written,
    Open,
    Failed(Kind),
}

impl Dirty {
    pub(super) fn new(bytes_max: u64) -> Self {
        let (state, changed, turn) = (Mutex::default(), Notify::new(), Semaphore::new(1));
        Self { bytes_max, state, changed, turn }
    }

    /// Whether the value has no room, however few others there are.
    pub(super) fn is_too_large(&self, key: &Key, value: &Bytes) -> bool {
        shelf::cost_of(key, value) > self.bytes_max
    }

    pub(super) fn offer(self: &Arc<Self>, key: &Key, value: &Bytes) -> Offer {
        let mut state = self.state.lock();
        if let Some(error) = state.refusal(key) {
            return Offer::Refused(error);
        }
        let bytes = shelf::cost_of(key, value);
        let replaced = state.entries.get(key).and_then(|entry| entry.next.as_ref());
        let replaced = replaced.map_or(0, |next| next.bytes);
        if state.bytes - replaced + bytes > self.bytes_max {
            return Offer::Full;
        }
        state.bytes = state.bytes - replaced + bytes;
        let is_first = state.accept(key, value.clone(), bytes);
        let writer = self.writer(&mut state);
        Offer::Accepted { is_first, writer }
    }

    /// The value of the key that was accepted last, if it is not at the source.
    pub(super) fn value(&self, key: &Key) -> Option<Bytes> {
        let state = self.state.lock();
        let entry = state.entries.get(key)?;
        entry.next.as_ref().or(entry.writing.as_ref()).map(|accepted| accepted.value.clone())
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.state.lock().entries.contains_key(key)
    }

    pub(super) fn progress(&self, key: &Key) -> Progress {
        match self.state.lock().entries.get(key) {
            None => Progress::Written,
            Some(Entry { error: Some(error), .. }) => Progress::Failed(error.kind()),
            Some(_) => Progress::Open,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// Tries again what failed. Answers with the writers that it takes, and with what a flush waits for.
    pub(super) fn retry(self: &Arc<Self>) -> (Vec<Writer>, Flush) {
        let mut state = self.state.lock();
        state.retry();
        let flush = Flush { upto: state.accepted, handed_back: state.handed_back };
        let writers = std::iter::from_fn(|| self.writer(&mut state)).collect();
        (writers, flush)
    }

    /// Hands back what failed, if each value that was accepted by then is at the source or has failed:
    /// another flush may be trying again what had.
    pub(super) fn hand_back(&self, flush: &Flush) -> Option<FlushError> {
        let mut state = self.state.lock();
        if !state.is_over(flush) {
            return None;
        }
        let unwritten = state.hand_back();
        let count = unwritten.len() as u64;
        self.changed.notify_waiters();
        Some(FlushError { unwritten, elsewhere: state.handed_back - flush.handed_back - count })
    }

    /// Accepts no more.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_waiters();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().entries.is_empty()
    }

    /// What could not be written of what is left, once that is known.
    pub(super) async fn left(self: Arc<Self>) -> Vec<Unwritten> {
        let all = Flush { upto: u64::MAX, handed_back: 0 };
        self.wait(|| self.hand_back(&all)).await.unwritten
    }

    /// Waits until there is an answer.
    pub(super) async fn wait<T>(&self, answer: impl Fn() -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(answer) = answer() {
                return answer;
            }
            changed.await;
        }
    }

    /// The right to write, if there is something to write and few write already.
    fn writer(self: &Arc<Self>, state: &mut State) -> Option<Writer> {
        if state.writers == WRITERS_MAX || state.writers - state.busy >= state.waiting.len() {
            return None;
        }
        state.writers += 1;
        Some(Writer { dirty: Arc::clone(self), writing: None, is_over: false })
    }
}

/// What a flush waits for, and what was handed back before it began.
#[derive(Debug)]
pub(super) struct Flush {
    upto: u64,
    handed_back: u64,
}

/// The right to write accepted values, one at a time.
#[derive(Debug)]
pub(super) struct Writer {
    dirty: Arc<Dirty>,
    writing: Option<Key>,
    is_over: bool,
}

impl Writer {
    /// The next value to write; `None` when there is none, which ends the writer.
    pub(super) fn next(&mut self) -> Option<(Key, Bytes)> {
        let mut state = self.dirty.state.lock();
        let next = state.start();
        match &next {
            Some((key, _)) => self.writing = Some(key.clone()),
            // At once: what is accepted from now on needs another writer.
            None => {
                state.writers -= 1;
                self.is_over = true;
            }
        }
        next
    }

    /// The value is at the source; whether no other of its key is left.
    pub(super) fn stored(&mut self) -> bool {
        let Some(key) = self.writing.take() else { return false };
        self.dirty.state.lock().stored(&key)
    }

    /// The value could not be written.
    pub(super) fn failed(&mut self, error: Error) {
        if let Some(key) = self.writing.take() {
            self.dirty.state.lock().failed(&key, error);
        }
    }
}

impl Drop for Writer {
    /// One that was cut short (the sink or a policy panicked, the runtime ended) says so of what it
    /// wrote; the last one also of what nobody will write.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let cut_short = |key: &Key| {
            let text =
                "the task that wrote it ended before its time: a panic, or the runtime's end";
            Error::new(Kind::Closed, format!("{key:?}: {text}"))
        };
        let mut state = self.dirty.state.lock();
        state.writers -= 1;
        if let Some(key) = self.writing.take() {
            state.failed(&key, cut_short(&key));
        }
        while state.writers == 0
            && let Some((key, _)) = state.start()
        {
            state.failed(&key, cut_short(&key));
        }
        drop(state);
        self.dirty.changed.notify_waiters();
    }
}

impl State {
    /// Whether each value that was accepted by then is at the source or has failed.
    fn is_over(&self, flush: &Flush) -> bool {
        self.open.first().is_none_or(|first| *first > flush.upto)
    }

    fn refusal(&self, key: &Key) -> Option<Error> {
        if self.is_closed {
            let text = format!("the write of {key:?} was not accepted: the cache is closed");
            return Some(Error::new(Kind::Closed, text));
        }
        if self.failed == 0 {
            return None;
        }
        let failed = |(of, entry): (&Key, &Entry)| {
            let error = entry.error.as_ref()?;
            let count = self.failed;
            let text = format!(
                "the write of {key:?} was not accepted, because {count} accepted ones failed, that of \
                 {of:?} with `{error}`; flush tries them again and hands back what fails",
            );
            Some(Error::new(error.kind(), text))
        };
        self.entries.iter().find_map(failed)
    }

    /// Whether the key had no value.
    fn accept(&mut self, key: &Key, value: Bytes, bytes: u64) -> bool {
        self.accepted += 1;
        let is_first = !self.entries.contains_key(key);
        let entry = self.entries.entry(key.clone()).or_default();
        match &mut entry.next {
            // The one that it replaces will not be written.
            Some(next) => (next.value, next.bytes) = (value, bytes),
            next @ None => {
                *next = Some(Accepted { value, bytes, since: self.accepted });
                self.open.insert(self.accepted);
                if entry.writing.is_none() {
                    self.waiting.push_back(key.clone());
                }
            }
        }
        is_first
    }

    fn start(&mut self) -> Option<(Key, Bytes)> {
        let key = self.waiting.pop_front()?;
        let entry = self.entries.get_mut(&key)?;
        let value = entry.next.as_ref()?.value.clone();
        entry.writing = entry.next.take();
        self.busy += 1;
        Some((key, value))
    }

    fn stored(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if let Some(written) = entry.writing.take() {
            self.busy -= 1;
            self.bytes -= written.bytes;
            self.open.remove(&written.since);
        }
        if entry.next.is_some() {
            self.waiting.push_back(key.clone());
            return false;
        }
        self.entries.remove(key);
        true
    }

    fn failed(&mut self, key: &Key, error: Error) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Some(written) = entry.writing.take() else { return };
        self.busy -= 1;
        match &mut entry.next {
            // What came later is to be written in its stead.
            Some(next) => {
                self.bytes -= written.bytes;
                self.open.remove(&mem::replace(&mut next.since, written.since));
                self.waiting.push_back(key.clone());
            }
            next @ None => {
                self.open.remove(&written.since);
                *next = Some(written);
                entry.error = Some(error);
                self.failed += 1;
            }
        }
    }

    fn retry(&mut self) {
        if self.failed == 0 {
            return;
        }
        for (key, entry) in &mut self.entries {
            if let (Some(_), Some(next)) = (entry.error.take(), &entry.next) {
                self.open.insert(next.since);
                self.waiting.push_back(key.clone());
            }
        }
        self.failed = 0;
    }

    fn hand_back(&mut self) -> Vec<Unwritten> {
        let is_failed = |_: &Key, entry: &mut Entry| entry.error.is_some();
        let failed = self.entries.extract_if(is_failed);
        let unwritten: Vec<Unwritten> = failed
            .filter_map(|(key, entry)| {
                let (next, error) = (entry.next?, entry.error?);
                self.bytes -= next.bytes;
                Some(Unwritten::new(key, next.value, error))
            })
            .collect();
        self.failed = 0;
        self.handed_back += unwritten.len() as u64;
        unwritten
    }
}
