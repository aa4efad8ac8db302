//! The interleavings of gets and writes of one key, by a model checker: who shares which fetch, and
//! what is kept of what it brings.
//!
//! Compiles the fetches and the writes of the cache a second time, over loom's locks. Who waits for a
//! task carries it out, beside what other threads do. Bugs planted in the table of flights and in that of writes have to be found: see
//! [`Planted`]. Not modelled: the channels by which flights answer, which are tokio's.

#![expect(clippy::duplicate_mod, reason = "over other locks and tasks")]
#![expect(clippy::arc_with_non_send_sync, reason = "loom's threads are all of one of the system's")]
#![expect(dead_code, unreachable_pub, reason = "the core has more than is modelled")]

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::{self, BoxFuture};
use futures_util::poll;
use loom::sync::Mutex;
use loom::thread::{self, JoinHandle};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::key;
use crate::cache::evict::{Fifo, Place};
use crate::cache::{
    Freshness, chain, counters, dirty, evict, freshness, pace, prefetch, source, threads,
};
use crate::client::Unwritten;
use crate::error::{Kind, Result};
use crate::key::{Key, Version};
use crate::object::Object;
use fetch::Shared;
use shelf::{Budget, ENTRY_OVERHEAD_BYTES};
use source::{Sink, Source};

#[path = "../desk.rs"]
mod desk;
#[path = "../fetch.rs"]
mod fetch;
#[path = "../guess.rs"]
mod guess;
#[path = "../hits.rs"]
mod hits;
#[path = "../shelf.rs"]
mod shelf;
#[path = "../write.rs"]
mod shipped;
#[path = "../table.rs"]
mod table;

/// The shipped table of flights; planted bugs make it forget a rule.
mod flight {
    use std::ops::{Deref, DerefMut};

    use super::Planted;
    use crate::cache::flight;
    pub(super) use crate::cache::flight::{Answer, FlightId, Share, Since, Waiting, callers};
    use crate::key::Key;

    #[derive(Debug, Default)]
    pub(super) struct Flights {
        table: flight::Flights,
        started: Option<FlightId>,
        landed: u32,
    }

    impl Flights {
        pub(super) fn start(
            &mut self,
            key: &Key,
            guess: bool,
        ) -> (FlightId, tokio::sync::watch::Sender<Answer>) {
            let (id, answer) = self.table.start(key, guess);
            self.started = Some(id);
            (id, answer)
        }

        pub(super) fn share(&mut self, key: &Key, since: Since) -> Option<Share> {
            if Planted::NobodyShares.is_here() {
                return None;
            }
            self.table.share(key, if Planted::AllShare.is_here() { Since::Ever } else { since })
        }

        pub(super) fn land(&mut self, key: &Key, id: FlightId) -> Option<bool> {
            self.landed += 1;
            if Planted::StaysWhenCutShort.is_here() && self.landed == 1 {
                return None;
            }
            let is_any = Planted::LandsForAnother.is_here();
            self.table.land(key, self.started.filter(|_| is_any).unwrap_or(id))
        }

        pub(super) fn overtake(&mut self, key: &Key) {
            if !Planted::NotOvertaken.is_here() {
                self.table.overtake(key);
            }
        }
    }

    impl Deref for Flights {
        type Target = flight::Flights;

        fn deref(&self) -> &flight::Flights {
            &self.table
        }
    }

    impl DerefMut for Flights {
        fn deref_mut(&mut self) -> &mut flight::Flights {
            &mut self.table
        }
    }
}

/// The shipped writes; a planted bug hides those that are under way.
mod write {
    use std::ops::{Deref, DerefMut};

    use super::{Planted, shipped};
    use crate::key::Key;

    #[derive(Debug, Default)]
    pub(super) struct Writes(shipped::Writes);

    impl Writes {
        pub(super) fn are_under_way(&self, key: &Key) -> bool {
            self.0.are_under_way(key) && !Planted::KeptBesideAWrite.is_here()
        }
    }

    impl Deref for Writes {
        type Target = shipped::Writes;

        fn deref(&self) -> &shipped::Writes {
            &self.0
        }
    }

    impl DerefMut for Writes {
        fn deref_mut(&mut self) -> &mut shipped::Writes {
            &mut self.0
        }
    }
}

/// Loom's, as the core names them. Rings and counters are not what is looked at here.
mod sync {
    use std::collections::VecDeque;
    use std::fmt;
    use std::pin::Pin;
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    // Not a random one: interleavings are told apart by which locks they take.
    pub(super) use foldhash::fast::FixedState as Hashes;
    pub(super) use loom::sync::MutexGuard;

    use super::IS_CUT_SHORT;

    pub(super) const RING_HITS: usize = 2;
    pub(super) const SHARDS_MIN: usize = 1;
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
    pub(super) struct Token;

    type Task = Pin<Box<dyn Future<Output = ()>>>;

    /// Tasks that wait for a thread: one that waits itself.
    #[derive(Default)]
    pub(super) struct TaskTracker(std::sync::Mutex<VecDeque<Task>>);

    impl fmt::Debug for TaskTracker {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("TaskTracker").finish_non_exhaustive()
        }
    }

    impl TaskTracker {
        pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
            if !IS_CUT_SHORT.replace(false) {
                self.0.lock().unwrap().push_back(Box::pin(task));
            }
        }

        pub(super) fn token(&self) -> Token {
            Token
        }

        pub(super) fn next(&self) -> Option<Task> {
            self.0.lock().unwrap().pop_front()
        }
    }
}

/// What a model can be made to do wrong, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// A get starts a fetch although there is one.
    NobodyShares,
    /// A get takes the answer to a request that was sent before it.
    AllShare,
    /// A fetch that was overtaken lands for the one that came after it.
    LandsForAnother,
    /// A write that ends lets fetches land that were sent before.
    NotOvertaken,
    /// What a fetch brings while a write is under way is kept.
    KeptBesideAWrite,
    /// A fetch whose task ends before its time stays in the table.
    StaysWhenCutShort,
}

std::thread_local! {
    // Loom's threads are all of one of the system's.
    static PLANTED: Cell<Planted> = const { Cell::new(Planted::Nothing) };
    /// The next task ends before it begins, as when its runtime ends.
    static IS_CUT_SHORT: Cell<bool> = const { Cell::new(false) };
    static HOLDS: Cell<bool> = const { Cell::new(true) };
}

impl Planted {
    fn is_here(self) -> bool {
        PLANTED.get() == self
    }
}

/// A future that is ready at once, or waits for what other threads do.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        thread::yield_now();
    }
}

/// One object, whose value is its version.
#[derive(Debug)]
struct Memory {
    version: Mutex<u64>,
    gets: std::sync::atomic::AtomicU64,
}

impl Memory {
    fn write(&self) -> Version {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        Version(*version)
    }

    fn read(&self) -> Object {
        self.gets.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let version = Version(*self.version.lock().unwrap());
        Object { value: Bytes::from_static(b"x"), version, expires_at: None, modified_at: None }
    }
}

impl Source for Memory {
    async fn get(&self, _key: &Key) -> Result<Object> {
        Ok(self.read())
    }

    async fn get_if_newer(&self, _key: &Key, version: Version) -> Result<Option<Object>> {
        Ok(Some(self.read()).filter(|object| object.version > version))
    }
}

impl Sink for Memory {
    async fn put(&self, _key: &Key, _value: Bytes) -> Result<Version> {
        Ok(self.write())
    }

    async fn delete(&self, _key: &Key) -> Result<()> {
        self.write();
        Ok(())
    }

    fn adopt(&self, _writes: BoxFuture<'static, Vec<Unwritten>>) {}
}

/// As the shipped one, for what is compiled here.
struct Cache<S> {
    owner: Owner<S>,
}

struct Owner<S> {
    shared: Arc<Shared<S>>,
}

impl<S: Source> Cache<S> {
    fn source(&self) -> &S {
        &self.owner.shared.source
    }
}

impl Cache<Memory> {
    /// Holds nothing; the object has version 1.
    fn new(freshness: Freshness) -> Arc<Self> {
        let budget = Budget { main_max: 2 * (ENTRY_OVERHEAD_BYTES + 2), guessed_max: 0 };
        let gets = std::sync::atomic::AtomicU64::new(0);
        let shared = Shared {
            source: Memory { version: Mutex::new(1), gets },
            desk: desk::Desk::new(Box::new(Fifo::new()), None, budget, freshness),
            dirty: Arc::new(dirty::Dirty::new(0)),
            adopt: OnceLock::new(),
            freshness,
            is_quick: freshness == Freshness::Immutable,
            fetches: Arc::new(Semaphore::new(9)),
            guesses: Arc::new(Semaphore::new(0)),
            guesses_max: 0,
            tasks: sync::TaskTracker::default(),
            closing: CancellationToken::new(),
        };
        Arc::new(Self { owner: Owner { shared: Arc::new(shared) } })
    }

    /// The version that a get answers with.
    fn get(&self) -> std::result::Result<u64, Kind> {
        let (shared, key) = (&self.owner.shared, key("a"));
        let object = match shared.hit(&key) {
            Some(object) => Ok(object),
            None => self.wait(pin!(shared.get(&key))),
        };
        object.map(|object| object.version.0).map_err(|error| error.kind())
    }

    fn get_beside(self: &Arc<Self>) -> JoinHandle<std::result::Result<u64, Kind>> {
        let cache = Arc::clone(self);
        thread::spawn(move || cache.get())
    }

    /// Carries out tasks until the future is ready.
    fn wait<T>(&self, mut future: Pin<&mut impl Future<Output = T>>) -> T {
        loop {
            if let Poll::Ready(output) =
                future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                return output;
            }
            match self.owner.shared.tasks.next() {
                Some(task) => block_on(task),
                None => thread::yield_now(),
            }
        }
    }
}

/// Two get what is absent.
fn two_gets() -> bool {
    let cache = Cache::new(Freshness::Immutable);
    let other = cache.get_beside();
    let both = (cache.get(), other.join().unwrap());
    let gets = cache.source().gets.load(std::sync::atomic::Ordering::Relaxed);
    both == (Ok(1), Ok(1)) && gets == 1
}

/// A get beside a write, and gets after it.
fn a_get_and_a_write() -> bool {
    let cache = Cache::new(Freshness::Immutable);
    let other = cache.get_beside();
    let write = async { Ok(cache.source().write()) };
    let written = block_on(cache.write_with(&key("a"), write)).is_ok();
    let after = cache.get();
    let beside = other.join().unwrap();
    written && after == Ok(2) && matches!(beside, Ok(1 | 2)) && cache.get() == Ok(2)
}

/// A get beside a write that the source has carried out when it is given up.
fn a_get_and_a_write_that_is_given_up() -> bool {
    let cache = Cache::new(Freshness::Immutable);
    let other = cache.get_beside();
    let is_open = block_on(async {
        let write = async {
            cache.source().write();
            future::pending().await
        };
        let name = key("a");
        let mut write = pin!(cache.write_with::<()>(&name, write));
        poll!(&mut write).is_pending()
    });
    let beside = other.join().unwrap();
    is_open && matches!(beside, Ok(1 | 2)) && cache.get() == Ok(2)
}

/// A get after a write by somebody else, beside one that may have been sent before.
fn a_get_after_a_write_elsewhere() -> bool {
    let cache = Cache::new(Freshness::VersionCheck);
    let other = cache.get_beside();
    cache.source().write();
    let after = cache.get();
    let beside = other.join().unwrap();
    after == Ok(2) && matches!(beside, Ok(1 | 2))
}

/// The first fetch ends before it began; who waits for it is told, and the next one to ask leads.
fn a_fetch_that_is_cut_short() -> bool {
    let cache = Cache::new(Freshness::Immutable);
    IS_CUT_SHORT.set(true);
    let other = cache.get_beside();
    let both = [cache.get(), other.join().unwrap()];
    let is_told = both.contains(&Err(Kind::Closed));
    is_told
        && both.iter().all(|got| matches!(got, Ok(1) | Err(Kind::Closed)))
        && cache.get() == Ok(1)
}

/// Whether what a model checks holds in every interleaving with up to `preemptions`.
///
/// A model does not panic: loom cannot clean up after one that does.
fn holds(preemptions: usize, model: fn() -> bool) -> bool {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    HOLDS.set(true);
    builder.check(move || {
        let holds = model();
        IS_CUT_SHORT.set(false);
        HOLDS.set(holds && HOLDS.get());
    });
    HOLDS.get()
}

fn finds(planted: Planted, model: fn() -> bool) -> bool {
    PLANTED.set(planted);
    let holds = holds(3, model);
    PLANTED.set(Planted::Nothing);
    !holds
}

#[test]
fn no_interleaving_keeps_or_answers_with_what_is_too_old() {
    assert!(holds(3, two_gets));
    assert!(holds(3, a_get_and_a_write));
    assert!(holds(3, a_get_and_a_write_that_is_given_up));
    assert!(holds(3, a_get_after_a_write_elsewhere));
    assert!(holds(3, a_fetch_that_is_cut_short));
}

#[test]
fn planted_bugs_are_found() {
    assert!(finds(Planted::NobodyShares, two_gets));
    assert!(finds(Planted::AllShare, a_get_after_a_write_elsewhere));
    assert!(finds(Planted::LandsForAnother, a_get_and_a_write));
    assert!(finds(Planted::NotOvertaken, a_get_and_a_write));
    assert!(finds(Planted::NotOvertaken, a_get_and_a_write_that_is_given_up));
    assert!(finds(Planted::KeptBesideAWrite, a_get_and_a_write_that_is_given_up));
    assert!(finds(Planted::StaysWhenCutShort, a_fetch_that_is_cut_short));
}
