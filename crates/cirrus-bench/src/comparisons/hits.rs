//! What it costs to read an object that is held, against a map behind a mutex and other caches.
//!
//! All hold every object, so every read is a hit. All have the same types of key and value, the
//! same hash function, and answer with an object that is the caller's own; keys are drawn before
//! (Zipf, 0.99) and lie in memory in the order of reading. No process but this one.

use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use cirrus_store::cache::evict::{Clairvoyant, Fifo, Lfu, Lru, Random, S3Fifo};
use cirrus_store::cache::prefetch::{Ordered, Sequential};
use cirrus_store::cache::{Cache, CacheOptions, Foresight, Freshness, Source, Trace};
use cirrus_store::set::SetName;
use cirrus_store::{ByteSize, Key, Object, Version};
use hashbrown::HashMap;
use parking_lot::Mutex;
use quick_cache::sync::DefaultLifecycle;

use crate::comparisons::{Bench, Cell, Family, size_name};
use crate::load::{Latency, random};
use crate::processor::{Processors, pin};
use crate::ratio::Target;
use crate::row::{Number, Row, Subject};
use crate::side::{Compared, Side, Work};

const VALUE_BYTES: usize = 64;
const ZIPF_EXPONENT: f64 = 0.99;

/// Keys that are drawn; a reader begins again after the last.
const READS: usize = 1 << 18;

/// Reads between two looks at the clock.
const READS_AT_ONCE: usize = 1 << 10;

type Hasher = foldhash::fast::RandomState;

pub(super) const FAMILY: Family = Family {
    name: "hits",
    about: "a cache's hits, against a map behind a mutex and against other caches",
    cells: || {
        let mut cells = Vec::new();
        for threads in [1, 2] {
            for objects in [1_000, 100_000] {
                for peer in [Peer::Map, Peer::Moka, Peer::QuickCache, Peer::Foyer] {
                    cells.push(cell(peer, Policy::Default, objects, threads));
                }
                for policy in OF_ANY_READER {
                    cells.push(cell(Peer::Map, policy, objects, threads));
                }
            }
        }
        for objects in [1_000, 100_000] {
            for policy in OF_ONE_READER {
                cells.push(cell(Peer::Map, policy, objects, 1));
            }
        }
        cells
    },
};

#[derive(Debug, Clone, Copy)]
enum Peer {
    Map,
    Moka,
    QuickCache,
    Foyer,
}

/// What our cache evicts by, how fresh it is, what it fetches early: the default but for what is named.
#[derive(Debug, Clone, Copy)]
enum Policy {
    Default,
    Lru,
    Fifo,
    Random,
    Lfu,
    S3Fifo,
    TimeToLive,
    Sequential,
    Clairvoyant,
    /// With `Clairvoyant`.
    Ordered,
}

const OF_ANY_READER: [Policy; 6] =
    [Policy::Lru, Policy::Fifo, Policy::Random, Policy::Lfu, Policy::S3Fifo, Policy::TimeToLive];

/// The order that was announced, or that is guessed, is that of one thread.
const OF_ONE_READER: [Policy; 3] = [Policy::Sequential, Policy::Clairvoyant, Policy::Ordered];

impl Policy {
    fn name(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Lru => "/lru",
            Self::Fifo => "/fifo",
            Self::Random => "/random",
            Self::Lfu => "/lfu",
            Self::S3Fifo => "/s3-fifo",
            Self::TimeToLive => "/ttl",
            Self::Sequential => "/sequential",
            Self::Clairvoyant => "/clairvoyant",
            Self::Ordered => "/ordered",
        }
    }

    fn options(self, reads: &[Key], objects: u32) -> Result<CacheOptions> {
        let mut options = CacheOptions::default();
        options.freshness = Freshness::Immutable;
        let rounds = || Arc::new(Rounds(Trace::new(reads.iter().cloned())));
        match self {
            Self::Default => {}
            Self::Lru => options.evict = Box::new(Lru::new()),
            Self::Fifo => options.evict = Box::new(Fifo::new()),
            Self::Random => options.evict = Box::new(Random::new(7)),
            Self::Lfu => options.evict = Box::new(Lfu::new()),
            Self::S3Fifo => options.evict = Box::new(S3Fifo::new()),
            Self::TimeToLive => {
                options.freshness = Freshness::TimeToLive(Duration::from_secs(3600));
            }
            Self::Sequential => {
                options.prefetch = Some(Box::new(Sequential::new(set()?, objects.into())));
            }
            Self::Clairvoyant => options.evict = Box::new(Clairvoyant::new(rounds())),
            Self::Ordered => {
                let rounds = rounds();
                options.evict = Box::new(Clairvoyant::new(rounds.clone()));
                options.prefetch = Some(Box::new(Ordered::new(rounds)));
            }
        }
        Ok(options)
    }
}

/// The same reads again and again.
#[derive(Debug)]
struct Rounds(Trace);

const ROUND: u64 = READS as u64;

impl Foresight for Rounds {
    fn object_of(&self, key: &Key) -> Option<u64> {
        self.0.object_of(key)
    }

    fn next_use(&self, object: u64, time: u64) -> Option<u64> {
        let round = time - time % ROUND;
        let this = self.0.next_use(object, time - round).map(|at| round + at);
        this.or_else(|| Some(round + ROUND + self.0.next_use(object, 0)?))
    }

    fn key_at(&self, time: u64) -> Option<Key> {
        self.0.key_at(time % ROUND)
    }
}

fn cell(peer: Peer, policy: Policy, objects: u32, threads: usize) -> Cell {
    let (short, about, target) = match peer {
        Peer::Map => ("map", "hashbrown's map behind parking_lot's mutex", 1.5),
        Peer::Moka => ("moka", "moka 0.12", 1.0),
        Peer::QuickCache => ("quick_cache", "quick_cache 0.7", 1.0),
        Peer::Foyer => ("foyer", "foyer-memory 0.22", 1.0),
    };
    let size = size_name(VALUE_BYTES);
    let name = format!("hits/{size}/{threads}t/{}k/{short}{}", objects / 1000, policy.name());
    let subject = Subject { name: name.clone(), peer: about.to_owned(), value_bytes: VALUE_BYTES };
    Cell {
        name,
        is_quick: true,
        measure: Box::new(move |bench| {
            let target = Target::AtMost(target);
            measure(bench, &subject, (peer, policy), (objects, threads), target)
        }),
    }
}

fn measure(
    bench: &mut Bench,
    subject: &Subject,
    (peer, policy): (Peer, Policy),
    (count, threads): (u32, usize),
    target: Target,
) -> Result<Vec<Row>> {
    let objects = objects(count)?;
    let (reads, processors) = (reads(&objects), bench.processors);
    let options = policy.options(&reads, count)?;
    let cache = bench.runtime.block_on(cirrus(&objects, &reads, options))?;
    // Outside of a runtime nothing is fetched early.
    let _entered = bench.runtime.enter();
    let mut ours = Reader::new(cache, &reads, threads, processors);
    let mut theirs: Box<dyn Side + '_> = match peer {
        Peer::Map => Box::new(Reader::new(map(&objects), &reads, threads, processors)),
        Peer::Moka => Box::new(Reader::new(moka(&objects), &reads, threads, processors)),
        Peer::QuickCache => {
            Box::new(Reader::new(quick_cache(&objects), &reads, threads, processors))
        }
        Peer::Foyer => Box::new(Reader::new(foyer(&objects), &reads, threads, processors)),
    };
    let compared = Compared::run(&mut ours, &mut *theirs, bench.turns)?;
    Ok(vec![subject.row(&compared, Number::NanosecondsPerHit, Some(target))])
}

/// Holds objects.
trait Store: Sync {
    /// The length of the object's value; 0 if it is not held.
    fn read(&self, key: &Key) -> usize;
}

/// Reads of a store.
struct Reader<'a, S> {
    store: S,
    reads: &'a [Key],
    threads: usize,
    processors: Processors,
    /// Which part of the reads each thread comes to next; each begins with another one.
    next: Vec<AtomicUsize>,
}

impl<'a, S: Store> Reader<'a, S> {
    fn new(store: S, reads: &'a [Key], threads: usize, processors: Processors) -> Self {
        let parts = reads.len() / READS_AT_ONCE;
        let next = (0..threads).map(|thread| AtomicUsize::new(parts / threads * thread)).collect();
        Self { store, reads, threads, processors, next }
    }

    /// Reads for about `slice`, from where the thread was.
    fn read(&self, thread: usize, slice: Duration) -> Result<u64> {
        let parts = self.reads.chunks_exact(READS_AT_ONCE);
        let first = self.next[thread].load(Relaxed);
        let (began, mut count) = (Instant::now(), 0);
        for part in parts.clone().cycle().skip(first) {
            let bytes: usize = part.iter().map(|key| self.store.read(key)).sum();
            ensure!(bytes == part.len() * VALUE_BYTES, "a read that is no hit");
            count += 1;
            if began.elapsed() >= slice {
                break;
            }
        }
        self.next[thread].store((first + count) % parts.len(), Relaxed);
        Ok((count * READS_AT_ONCE) as u64)
    }
}

impl<S: Store> Side for Reader<'_, S> {
    fn server(&self) -> u32 {
        std::process::id()
    }

    fn work(&mut self, slice: Duration, _latency: &mut Latency) -> Result<Work> {
        let began = Instant::now();
        if self.threads == 1 {
            return Ok(Work { operations: self.read(0, slice)?, elapsed: began.elapsed() });
        }
        let (this, barrier) = (&*self, &Barrier::new(self.threads));
        let read = move |thread, processor| {
            let pinned = pin(processor);
            barrier.wait();
            pinned?;
            this.read(thread, slice)
        };
        let processors = [self.processors.client, self.processors.server];
        let operations = thread::scope(|scope| {
            let start = |thread| scope.spawn(move || read(thread, processors[thread % 2]));
            let threads: Vec<_> = (0..self.threads).map(start).collect();
            let count = |thread: thread::ScopedJoinHandle<'_, Result<u64>>| {
                thread.join().map_err(|_| anyhow!("a reader panicked"))?
            };
            threads.into_iter().map(count).sum::<Result<u64>>()
        })?;
        Ok(Work { operations, elapsed: began.elapsed() })
    }
}

/// The objects are of one set, so that those that come next in it can be guessed.
fn set() -> Result<SetName> {
    Ok(SetName::new("bench")?)
}

/// That many objects.
fn objects(count: u32) -> Result<Vec<(Key, Object)>> {
    let set = set()?;
    let object = |number: u32| {
        let value = Bytes::from(vec![1; VALUE_BYTES]);
        let object = Object { value, version: Version(1), expires_at: None, modified_at: None };
        (set.object_key(number.into()), object)
    };
    Ok((0..count).map(object).collect())
}

/// Keys in the order of reading.
#[expect(clippy::cast_precision_loss, reason = "at most 100,000 keys, 53 random bits")]
fn reads(objects: &[(Key, Object)]) -> Vec<Key> {
    let mut state = 7;
    // Which one is read how often has nothing to do with where it lies.
    let mut keys: Vec<&Key> = objects.iter().map(|(key, _)| key).collect();
    keys.sort_by_cached_key(|_| random(&mut state));
    let mut sum = 0.0;
    let mut sum_to = |rank: usize| {
        sum += (rank as f64).powf(-ZIPF_EXPONENT);
        sum
    };
    let sums: Vec<f64> = (1..=keys.len()).map(&mut sum_to).collect();
    let mut draw = || {
        let at = (random(&mut state) >> 11) as f64 / (1u64 << 53) as f64 * sum;
        keys[sums.partition_point(|sum| *sum <= at).min(keys.len() - 1)].clone()
    };
    (0..READS).map(|_| draw()).collect()
}

/// Where the objects come from.
struct Given(HashMap<Key, Object, Hasher>);

impl Source for Given {
    async fn get(&self, key: &Key) -> cirrus_store::Result<Object> {
        let absent = || cirrus_store::Error::new(cirrus_store::Kind::NotFound, "not one of ours");
        self.0.get(key).cloned().ok_or_else(absent)
    }

    async fn get_if_newer(
        &self,
        key: &Key,
        version: Version,
    ) -> cirrus_store::Result<Option<Object>> {
        let object = self.get(key).await?;
        Ok((object.version > version).then_some(object))
    }
}

/// Room for all objects, as caches that count bytes see them.
const CAPACITY: ByteSize = ByteSize::gib(1);

/// A cache that was read once in the order of reading, as announced.
async fn cirrus(
    objects: &[(Key, Object)],
    reads: &[Key],
    options: CacheOptions,
) -> Result<Cache<Given>> {
    let source = Given(objects.iter().cloned().collect());
    let cache = Cache::new(source, CAPACITY, options);
    for key in reads {
        cache.get(key).await?;
    }
    Ok(cache)
}

impl Store for Cache<Given> {
    /// What a task that awaits it does.
    fn read(&self, key: &Key) -> usize {
        let get = pin!(self.get(key));
        match get.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(object)) => black_box(object).value.len(),
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        }
    }
}

type Map = Mutex<HashMap<Key, Object, Hasher>>;

fn map(objects: &[(Key, Object)]) -> Map {
    Mutex::new(objects.iter().cloned().collect())
}

impl Store for Map {
    fn read(&self, key: &Key) -> usize {
        let object = self.lock().get(key).cloned();
        black_box(object).map_or(0, |object| object.value.len())
    }
}

type Moka = moka::sync::Cache<Key, Object, Hasher>;

fn moka(objects: &[(Key, Object)]) -> Moka {
    let capacity = 2 * objects.len() as u64;
    let cache = moka::sync::CacheBuilder::new(capacity).build_with_hasher(Hasher::default());
    objects.iter().cloned().for_each(|(key, object)| cache.insert(key, object));
    cache.run_pending_tasks();
    cache
}

impl Store for Moka {
    fn read(&self, key: &Key) -> usize {
        black_box(self.get(key)).map_or(0, |object| object.value.len())
    }
}

type QuickCache = quick_cache::sync::Cache<Key, Object, quick_cache::UnitWeighter, Hasher>;

fn quick_cache(objects: &[(Key, Object)]) -> QuickCache {
    let capacity = 2 * objects.len();
    let (weighter, lifecycle) = (quick_cache::UnitWeighter, DefaultLifecycle::default());
    let cache = QuickCache::with(capacity, capacity as u64, weighter, Hasher::default(), lifecycle);
    objects.iter().cloned().for_each(|(key, object)| cache.insert(key, object));
    cache
}

impl Store for QuickCache {
    fn read(&self, key: &Key) -> usize {
        black_box(self.get(key)).map_or(0, |object| object.value.len())
    }
}

type Foyer = foyer_memory::Cache<Key, Object, Hasher>;

fn foyer(objects: &[(Key, Object)]) -> Foyer {
    let builder = foyer_memory::CacheBuilder::new(2 * objects.len());
    let cache = builder.with_hash_builder(Hasher::default()).build();
    for (key, object) in objects {
        cache.insert(key.clone(), object.clone());
    }
    cache
}

impl Store for Foyer {
    fn read(&self, key: &Key) -> usize {
        // Its entry is a reference to the object: no copy is needed to read it.
        black_box(self.get(key)).map_or(0, |entry| entry.value().value.len())
    }
}
