//! What policies hear of reads by many threads, and what a policy that panics leaves behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use parking_lot::Mutex;

use super::*;
use crate::cache::evict::Fifo;

/// What a policy was told, by key.
type Log = Arc<Mutex<Vec<(Told, Key)>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Inserted,
    Read,
    Removed,
}

/// First in, first out, and writes down what it hears.
#[derive(Debug)]
struct Scribe {
    hits: Hits,
    fifo: Fifo,
    held: HashMap<Place, Key>,
    log: Log,
}

impl Scribe {
    fn new(hits: Hits) -> (Box<Self>, Log) {
        let log = Log::default();
        let (fifo, held) = Default::default();
        (Box::new(Self { hits, fifo, held, log: Arc::clone(&log) }), log)
    }

    fn write(&self, told: Told, place: Place) {
        let key = self.held.get(&place).expect("of a place that holds something").clone();
        self.log.lock().push((told, key));
    }
}

impl Evict for Scribe {
    fn hits(&self) -> Hits {
        self.hits
    }

    fn on_insert(&mut self, place: Place, entry: Entry<'_>) {
        assert!(self.held.insert(place, entry.key.clone()).is_none());
        self.write(Told::Inserted, place);
        self.fifo.on_insert(place, entry);
    }

    fn on_access(&mut self, place: Place) {
        self.write(Told::Read, place);
    }

    fn on_remove(&mut self, place: Place) {
        self.write(Told::Removed, place);
        self.held.remove(&place);
        self.fifo.on_remove(place);
    }

    fn victim(&mut self) -> Option<Place> {
        self.fifo.victim()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("told", self.log.lock().len() as u64)]
    }
}

fn reads(log: &Log) -> HashMap<Key, u64> {
    let mut reads = HashMap::new();
    for (told, key) in log.lock().iter() {
        *reads.entry(key.clone()).or_default() += u64::from(*told == Told::Read);
    }
    reads
}

async fn filled(capacity: ByteSize, evict: Box<dyn Evict>, keys: &[Key]) -> Cache<Arc<MapSource>> {
    let options = CacheOptions { evict, ..immutable() };
    let cache = Cache::new(Arc::new(MapSource::default()), capacity, options);
    for key in keys {
        cache.source().write(key, "x");
        cache.get(key).await.unwrap();
    }
    cache
}

fn names(count: usize) -> Vec<Key> {
    (0..count).map(|n| key(&format!("k{n}"))).collect()
}

#[tokio::test]
async fn a_thread_alone_has_all_its_reads_told_in_order() {
    for hits in [Hits::Sampled, Hits::Every] {
        let keys = names(10);
        let (evict, log) = Scribe::new(hits);
        let cache = filled(ByteSize::mib(1), evict, &keys).await;
        let order = (0..1000usize).map(|n| n * n % 10);
        for n in order.clone() {
            cache.get(&keys[n]).await.unwrap();
        }
        assert_eq!(cache.counters().hits, 1000);
        let told: Vec<_> = log.lock()[10..].to_vec();
        let expected: Vec<_> = order.map(|n| (Told::Read, keys[n].clone())).collect();
        assert_eq!(told, expected, "{hits:?}");
        assert_eq!(cache.policy().counters, [("told", 1010)]);
    }
}

/// Four threads read what a fifth makes come and go; each knows how often it found which key.
#[test]
fn a_policy_that_hears_every_read_hears_each_once_and_of_the_right_key() {
    const THREADS: usize = 4;
    const READS: usize = 250_000;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let keys = names(16);
    let (evict, log) = Scribe::new(Hits::Every);
    let room = ByteSize::new(8 * (ENTRY + 8));
    let cache = runtime.block_on(filled(room, evict, &keys));
    let before = reads(&log);
    let (is_over, start) = (AtomicBool::new(false), Barrier::new(THREADS + 1));
    let found = thread::scope(|scope| {
        let reader = |thread: usize| {
            let (cache, keys, start) = (cache.clone(), &keys, &start);
            scope.spawn(move || {
                let mut found: HashMap<Key, u64> = HashMap::new();
                start.wait();
                for n in 0..READS {
                    let key = &keys[(n * 7 + thread * 3) % keys.len()];
                    if cache.try_get(key).is_some() {
                        *found.entry(key.clone()).or_default() += 1;
                    }
                }
                found
            })
        };
        let readers: Vec<_> = (0..THREADS).map(reader).collect();
        let writer = scope.spawn(|| {
            start.wait();
            let mut misses = 0;
            while !is_over.load(SeqCst) {
                for key in &keys {
                    cache.invalidate(key);
                    runtime.block_on(cache.get(key)).unwrap();
                    misses += 1;
                }
            }
            misses
        });
        let readers: Vec<_> = readers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, SeqCst);
        assert!(writer.join().unwrap() > 0);
        let mut found = before;
        for (key, count) in readers.into_iter().flat_map(|counts| counts.unwrap()) {
            *found.entry(key).or_default() += count;
        }
        found
    });
    let counters = cache.counters();
    assert_eq!(reads(&log), found);
    assert_eq!((counters.hits_left_out, counters.hits), (0, found.values().sum::<u64>()));
}

/// Reads that hand over to each other are told in that order, whatever threads they are of.
#[test]
fn reads_of_different_threads_are_told_in_their_order() {
    const ROUNDS: usize = 5000;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let keys = names(3);
    let (evict, log) = Scribe::new(Hits::Every);
    let cache = runtime.block_on(filled(ByteSize::mib(1), evict, &keys));
    let turn = Barrier::new(keys.len());
    thread::scope(|scope| {
        for (thread, key) in keys.iter().enumerate() {
            let (cache, turn, threads) = (cache.clone(), &turn, keys.len());
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    if round % threads == thread {
                        assert!(cache.try_get(key).is_some());
                    }
                    turn.wait();
                }
            });
        }
    });
    assert_eq!(cache.counters().hits, ROUNDS as u64);
    let told = log.lock()[keys.len()..].to_vec();
    let expected: Vec<_> = (0..ROUNDS).map(|n| (Told::Read, keys[n % 3].clone())).collect();
    assert!(told == expected);
}

/// No reader waits for a policy that can do without; all are counted.
#[test]
fn reads_that_are_left_out_are_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let keys = names(1);
    let (evict, log) = Scribe::new(Hits::Sampled);
    let cache = runtime.block_on(filled(ByteSize::mib(1), evict, &keys));
    assert!(cache.try_get(&keys[0]).is_some());
    let desk = cache.owner.shared.desk.lock();
    for _ in 0..1000 {
        assert!(cache.try_get(&keys[0]).is_some());
    }
    drop(desk);
    let counters = cache.counters();
    let told = reads(&log)[&keys[0]];
    assert_eq!((counters.hits, counters.hits_left_out), (1001, 1001 - told));
    assert_eq!(told, sync::RING_HITS as u64);
}

#[test]
fn threads_that_end_leave_their_rings_to_others() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let keys = names(2);
    let (evict, log) = Scribe::new(Hits::Every);
    let cache = runtime.block_on(filled(ByteSize::mib(1), evict, &keys));
    for _ in 0..100 {
        let cache = cache.clone();
        let key = keys[0].clone();
        thread::spawn(move || assert!(cache.try_get(&key).is_some())).join().unwrap();
    }
    let numbers = threads::numbers();
    assert!(numbers < 100, "{numbers}");
    assert!(cache.owner.shared.desk.lock().shelf.rings() <= numbers);
    assert_eq!(cache.counters().hits, 100);
    assert_eq!(reads(&log)[&keys[0]], 100);
}

/// Panics at the nth call.
#[derive(Debug)]
struct Bomb {
    fifo: Fifo,
    calls_left: u32,
}

impl Bomb {
    fn tick(&mut self) {
        self.calls_left = self.calls_left.wrapping_sub(1);
        assert!(self.calls_left != 0, "the policy's own panic");
    }
}

impl Evict for Bomb {
    fn admit(&mut self, _entry: Entry<'_>) -> bool {
        self.tick();
        true
    }

    fn on_insert(&mut self, place: Place, entry: Entry<'_>) {
        self.tick();
        self.fifo.on_insert(place, entry);
    }

    fn on_access(&mut self, _place: Place) {
        self.tick();
    }

    fn on_remove(&mut self, place: Place) {
        self.tick();
        self.fifo.on_remove(place);
    }

    fn victim(&mut self) -> Option<Place> {
        self.tick();
        self.fifo.victim()
    }
}

/// Wherever it panics: the books are right, and gets are answered afterwards.
#[test]
fn a_policy_that_panics_leaves_the_cache_consistent() {
    let keys = names(6);
    let mut panics = 0;
    for calls_left in 1..40 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let evict = Box::new(Bomb { fifo: Fifo::default(), calls_left });
        let room = ByteSize::new(4 * (ENTRY + 3));
        let options = CacheOptions { evict, ..immutable() };
        let cache = Cache::new(Arc::new(MapSource::default()), room, options);
        for key in &keys {
            cache.source().write(key, "x");
        }
        for n in 0..40 {
            let key = &keys[n * n % keys.len()];
            let get = AssertUnwindSafe(|| runtime.block_on(cache.get(key)));
            match catch_unwind(get) {
                Ok(Ok(object)) => assert_eq!(object.value, "x"),
                // The fetch's task panicked.
                Ok(Err(error)) => {
                    assert!(error.to_string().contains("a policy panicked"), "{error}");
                    panics += 1;
                }
                Err(_) => panics += 1,
            }
            if n % 7 == 0 {
                let key = &keys[n % keys.len()];
                panics +=
                    u32::from(catch_unwind(AssertUnwindSafe(|| cache.invalidate(key))).is_err());
            }
        }
        check_books(&cache);
        assert!(cache.counters().bytes <= room.bytes());
        for key in &keys {
            assert_eq!(runtime.block_on(cache.get(key)).unwrap().value, "x");
        }
    }
    assert!(panics >= 35, "{panics}");
}
