//! The interleavings of a few reads and changes, by a model checker that knows weak memory.
//!
//! Compiles the cache's core a second time, over loom's locks and atomics, with rings and a table
//! that are small. A policy keeps what it hears. Bugs planted beneath the core have to be found: see
//! [`Planted`]. Not modelled: the numbers of threads, which go over another lock.

#![expect(clippy::duplicate_mod, reason = "over other locks and atomics")]
#![expect(dead_code, reason = "the core has more than is modelled")]

use std::cell::Cell;
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread::{self, JoinHandle};
use tokio::time::Instant;

use super::key;
use crate::cache::evict::{Entry, Evict, Hits, Place};
use crate::cache::{Freshness, chain, counters, evict, flight, freshness, pace, prefetch, write};
use crate::key::{Key, Version};
use crate::object::Object;
use desk::Desk;
use shelf::{Arrival, Budget, ENTRY_OVERHEAD_BYTES};

#[path = "../desk.rs"]
mod desk;
#[path = "../shelf.rs"]
mod shelf;
#[path = "../hits.rs"]
mod shipped;
#[path = "../table.rs"]
mod table;

/// The shipped rings; a planted bug makes them deaf while an entry leaves.
mod hits {
    pub(super) use super::shipped::{Hit, Ring, Rings, Tickets};

    use super::sync::Arc;
    use super::{Planted, shipped};

    #[derive(Debug)]
    pub(super) struct Reads(shipped::Reads);

    impl Reads {
        pub(super) fn new(tickets: Option<Arc<Tickets>>) -> Self {
            Self(shipped::Reads::new(tickets))
        }

        pub(super) fn ring<'a>(&mut self, rings: &'a Rings) -> Option<&'a Ring> {
            self.0.ring(rings)
        }

        pub(super) fn take(&mut self) -> Vec<Hit> {
            if Planted::UntoldBeforeRemoval.is_quiet() { self.0.take() } else { Vec::new() }
        }

        pub(super) fn reuse(&mut self, taken: Vec<Hit>) {
            self.0.reuse(taken);
        }

        pub(super) fn left_out(&self) -> u64 {
            self.0.left_out()
        }

        pub(super) fn rings(&self) -> usize {
            self.0.rings()
        }
    }
}

/// Numbers of loom's threads. No two of a model's have the same.
mod threads {
    use std::cell::Cell;
    std::thread_local! {
        // Of one model: its threads are all of one of the system's.
        static NEXT: Cell<usize> = const { Cell::new(0) };
    }

    loom::thread_local! {
        static NUMBER: Cell<usize> = Cell::new(usize::MAX);
    }

    pub(super) fn number() -> usize {
        NUMBER.with(Cell::get)
    }

    pub(super) fn take_number() -> Option<usize> {
        let number = NEXT.replace(NEXT.get() + 1);
        NUMBER.with(|own| own.set(number));
        Some(number)
    }

    pub(super) fn begin_again() {
        NEXT.set(0);
    }
}

/// Loom's, as the core names them.
mod sync {
    pub(super) use std::sync::Arc;

    // Not a random one: interleavings are told apart by which locks they take.
    pub(super) use foldhash::fast::FixedState as Hashes;
    pub(super) use loom::sync::MutexGuard;
    pub(super) use loom::sync::atomic::Ordering;

    use super::Planted;

    pub(super) const RING_HITS: usize = 2;
    pub(super) const SHARDS_MIN: usize = 2;
    pub(super) const SHARDS_PER_PROCESSOR: usize = 0;

    #[derive(Debug, Default)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(inner: T) -> Self {
            Self(loom::sync::Mutex::new(inner))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }

        pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    #[derive(Debug)]
    pub(super) struct AtomicU64 {
        number: loom::sync::atomic::AtomicU64,
        /// It is the one that numbers reads: no other is added to.
        is_ticket: std::sync::atomic::AtomicBool,
    }

    #[derive(Debug)]
    pub(super) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(super) fn new(is: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(is))
        }

        pub(super) fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        pub(super) fn store(&self, is: bool, order: Ordering) {
            self.0.store(is && !Planted::NoTickets.is_here(), order);
        }
    }

    impl AtomicU64 {
        pub(super) fn new(number: u64) -> Self {
            let number = loom::sync::atomic::AtomicU64::new(number);
            Self { number, is_ticket: false.into() }
        }

        pub(super) fn load(&self, order: Ordering) -> u64 {
            let is_late = Planted::LateLimit.is_here() && self.is_ticket.load(Ordering::Relaxed);
            self.number.load(order) + if is_late { 1 << 20 } else { 0 }
        }

        pub(super) fn store(&self, number: u64, order: Ordering) {
            let is_relaxed = Planted::Relaxed.is_here();
            self.number.store(number, if is_relaxed { Ordering::Relaxed } else { order });
        }

        pub(super) fn fetch_add(&self, number: u64, order: Ordering) -> u64 {
            self.is_ticket.store(true, Ordering::Relaxed);
            let is_relaxed = Planted::RelaxedTicket.is_here();
            let order = if is_relaxed { Ordering::Relaxed } else { order };
            let before = self.number.fetch_add(number, order);
            if Planted::SameTicket.is_here() { 0 } else { before }
        }
    }
}

/// What a model can be made to do wrong, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// The number of hits in a ring is published without the hits.
    Relaxed,
    /// Who sees a read's number need not see the reads that ended before it.
    RelaxedTicket,
    /// Reads all get the same number.
    SameTicket,
    /// Reads get no number although there are two rings.
    NoTickets,
    /// A read that is not numbered yet when the rings are looked at is told.
    LateLimit,
    /// What is noted of an entry is not told before it leaves.
    UntoldBeforeRemoval,
}

std::thread_local! {
    // Loom's threads are all of one of the system's.
    static PLANTED: Cell<Planted> = const { Cell::new(Planted::Nothing) };
    static IS_REMOVING: Cell<bool> = const { Cell::new(false) };
    static HOLDS: Cell<bool> = const { Cell::new(true) };
}

impl Planted {
    fn is_here(self) -> bool {
        PLANTED.get() == self
    }

    fn is_quiet(self) -> bool {
        !(self.is_here() && IS_REMOVING.get())
    }
}

/// First in, first out; keeps the keys of what was read, in the order in which it heard of them.
#[derive(Debug)]
struct Listener {
    hits: Hits,
    held: Vec<(Place, Key)>,
    told: Told,
}

type Told = std::sync::Arc<parking_lot::Mutex<Vec<Key>>>;

impl Evict for Listener {
    fn hits(&self) -> Hits {
        self.hits
    }

    fn on_insert(&mut self, place: Place, entry: Entry<'_>) {
        self.held.push((place, entry.key.clone()));
    }

    fn on_access(&mut self, place: Place) {
        let held = self.held.iter().find(|(held, _)| *held == place);
        self.told.lock().push(held.map_or_else(|| key("nothing"), |(_, key)| key.clone()));
    }

    fn on_remove(&mut self, place: Place) {
        IS_REMOVING.set(false);
        self.held.retain(|(held, _)| *held != place);
    }

    fn victim(&mut self) -> Option<Place> {
        IS_REMOVING.set(true);
        self.held.first().map(|(place, _)| *place)
    }
}

/// What holds one object of one byte by each of these names, and has room for no more.
fn desk(hits: Hits, names: &[&str]) -> (Arc<Desk>, Told) {
    threads::begin_again();
    let told = Told::default();
    let evict = Box::new(Listener { hits, held: Vec::new(), told: told.clone() });
    let main_max = names.len() as u64 * (ENTRY_OVERHEAD_BYTES + 2);
    let desk = Desk::new(evict, None, Budget { main_max, guessed_max: 0 }, Freshness::Immutable);
    names.iter().for_each(|name| insert(&desk, name));
    (Arc::new(desk), told)
}

fn insert(desk: &Desk, name: &str) {
    let (key, value) = (key(name), bytes::Bytes::from_static(b"x"));
    let object = Object { value, version: Version(1), expires_at: None, modified_at: None };
    let (hash, checked_at) = (desk.table.hash(&key), Instant::now());
    let arrival = Arrival { key, hash, object, checked_at, guess: false };
    desk.with(|state| state.shelf.insert(arrival));
}

fn read(desk: &Desk, name: &str) -> bool {
    desk.hit(&key(name)).is_some()
}

fn spawn<T: 'static>(desk: &Arc<Desk>, act: impl FnOnce(&Desk) -> T + 'static) -> JoinHandle<T> {
    let desk = Arc::clone(desk);
    thread::spawn(move || act(&desk))
}

/// Whether what a model checks holds in every interleaving with up to `preemptions`.
///
/// A model does not panic: loom cannot clean up after one that does.
fn holds(preemptions: usize, model: fn() -> bool) -> bool {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    IS_REMOVING.set(false);
    HOLDS.set(true);
    builder.check(move || HOLDS.set(model() && HOLDS.get()));
    HOLDS.get()
}

fn finds(planted: Planted, model: fn() -> bool) -> bool {
    PLANTED.set(planted);
    let holds = holds(3, model);
    PLANTED.set(Planted::Nothing);
    !holds
}

/// A thread reads what another makes leave, and its place is used again.
fn a_read_and_a_removal() -> bool {
    let (desk, told) = desk(Hits::Every, &["a", "b"]);
    let reader = spawn(&desk, |desk| (0..2).filter(|_| read(desk, "a")).count());
    // Makes `a` leave, takes its place, and is read itself.
    insert(&desk, "c");
    let is_read = read(&desk, "c");
    let found = reader.join().unwrap();
    let hits = desk.with(|state| state.shelf.counters().hits);
    let told = told.lock();
    let count = |name| told.iter().filter(|told| **told == key(name)).count();
    is_read && hits == 1 + found as u64 && ["a", "b", "c"].map(count) == [found, 0, 1]
}

/// A thread fills its ring more than once while another listens.
fn reads_and_a_listener() -> bool {
    let (desk, told) = desk(Hits::Every, &["a", "b"]);
    let names = ["b", "b", "a", "b"];
    let reader = spawn(&desk, move |desk| names.iter().all(|name| read(desk, name)));
    desk.with(|_| ());
    let all_found = reader.join().unwrap();
    desk.with(|_| ());
    all_found && *told.lock() == names.map(key)
}

/// A thread reads, perhaps after another has read, while a third listens.
fn reads_that_hand_over() -> bool {
    let (desk, told) = desk(Hits::Every, &["a", "b", "c"]);
    let has_read = Arc::new(AtomicBool::new(false));
    let first_has_read = Arc::clone(&has_read);
    let first = spawn(&desk, move |desk| {
        let found = read(desk, "a");
        has_read.store(true, Ordering::Release);
        found
    });
    let second = spawn(&desk, move |desk| {
        let found = read(desk, "b");
        let is_after_first = first_has_read.load(Ordering::Acquire);
        (found && read(desk, "c"), is_after_first)
    });
    desk.with(|_| ());
    let found = first.join().unwrap();
    let (both_found, is_after_first) = second.join().unwrap();
    desk.with(|_| ());
    let told = told.lock();
    let at = |name| told.iter().position(|told| *told == key(name));
    let (Some(a), Some(b), Some(c)) = (at("a"), at("b"), at("c")) else { return false };
    found && both_found && told.len() == 3 && b < c && (!is_after_first || a < c)
}

/// Nobody waits for a policy that can do without, and every read is counted.
fn reads_that_may_be_left_out() -> bool {
    let (desk, told) = desk(Hits::Sampled, &["a"]);
    let reader = spawn(&desk, |desk| (0..4).all(|_| read(desk, "a")));
    desk.with(|_| ());
    let all_found = reader.join().unwrap();
    let counters = desk.with(|state| state.shelf.counters());
    let heard = told.lock().len() as u64;
    all_found && counters.hits == 4 && heard + counters.hits_left_out == 4
}

#[test]
fn no_interleaving_loses_or_misplaces_a_read() {
    assert!(holds(6, a_read_and_a_removal));
    assert!(holds(6, reads_and_a_listener));
    assert!(holds(6, reads_that_may_be_left_out));
    assert!(holds(4, reads_that_hand_over));
}

#[test]
fn planted_bugs_are_found() {
    assert!(finds(Planted::Relaxed, reads_and_a_listener));
    assert!(finds(Planted::RelaxedTicket, reads_that_hand_over));
    assert!(finds(Planted::SameTicket, reads_that_hand_over));
    assert!(finds(Planted::NoTickets, reads_that_hand_over));
    assert!(finds(Planted::LateLimit, reads_that_hand_over));
    assert!(finds(Planted::UntoldBeforeRemoval, a_read_and_a_removal));
}
