//! Threads of the operating system that read and write few keys through one cache, in rounds.
//!
//! In each round all do as they like; then, after a flush, the cache is compared with its source;
//! then all read all keys, which nobody writes meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;

use super::*;
use crate::cache::evict::reference::numbers;

const THREADS: u64 = 4;
const ROUNDS: u64 = 100;
const STEPS: u64 = 50;
/// Keys that are written.
const WRITTEN: u32 = 5;
/// Keys that are only read.
const STEADY: u32 = 2;

fn name(n: u32) -> Key {
    key(&format!("k{n}"))
}

/// A source that gives way to others at each turn, and counts who asks for the same.
#[derive(Debug, Default)]
struct Crowded {
    map: MapSource,
    turns: AtomicU64,
    asking: Mutex<HashMap<Key, u64>>,
    /// Nobody writes.
    is_quiet: AtomicBool,
    /// Fetches for which there was a rule that allows one at a time.
    ruled: AtomicU64,
    broken: AtomicU64,
}

/// A fetch that is under way.
struct Asking<'a>(&'a Crowded, &'a Key);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.lock().entry(self.1.clone()).and_modify(|count| *count -= 1);
    }
}

impl Crowded {
    /// So many times at most.
    async fn give_way(&self, most: u64) {
        for _ in 0..self.turns.fetch_add(1, SeqCst) * 7 % (most + 1) {
            // Through the runtime's threads, so that it takes as long for whoever asks.
            tokio::spawn(async {}).await.unwrap();
        }
    }

    /// A write overtakes a fetch, and then there may be another: not so where nobody writes.
    fn ask<'a>(&'a self, key: &'a Key) -> Asking<'a> {
        let mut asking = self.asking.lock();
        let count = asking.entry(key.clone()).or_default();
        *count += 1;
        if self.is_quiet.load(SeqCst) || (WRITTEN..WRITTEN + STEADY).any(|n| name(n) == *key) {
            self.ruled.fetch_add(1, SeqCst);
            self.broken.fetch_add(u64::from(*count > 1), SeqCst);
        }
        Asking(self, key)
    }
}

impl Source for Crowded {
    async fn get(&self, key: &Key) -> Result<Object> {
        let _asking = self.ask(key);
        self.give_way(4).await;
        let answer = self.map.get(key).await;
        self.give_way(20).await;
        answer
    }

    async fn get_if_newer(&self, key: &Key, version: Version) -> Result<Option<Object>> {
        let _asking = self.ask(key);
        self.give_way(4).await;
        let answer = self.map.get_if_newer(key, version).await;
        self.give_way(20).await;
        answer
    }
}

impl Sink for Crowded {
    async fn put(&self, key: &Key, value: Bytes) -> Result<Version> {
        self.give_way(20).await;
        let version = self.map.put(key, value).await;
        self.give_way(4).await;
        version
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.give_way(20).await;
        self.map.delete(key).await?;
        self.give_way(4).await;
        Ok(())
    }

    fn adopt(
        &self,
        writes: futures_util::future::BoxFuture<'static, Vec<crate::client::Unwritten>>,
    ) {
        self.map.adopt(writes);
    }
}

/// What a thread knows.
struct Reader<'a> {
    id: u64,
    cache: &'a Cache<Crowded>,
    is_checked: bool,
    sequence: u64,
    /// By key: the sequence number that it wrote last; `None` after a delete of its own.
    wrote: HashMap<u32, Option<u64>>,
    /// By key and writer.
    seen: HashMap<(u32, u64), u64>,
}

impl Reader<'_> {
    /// Values are `writer sequence`.
    fn value(&mut self, n: u32) -> Bytes {
        self.sequence += 1;
        self.wrote.insert(n, Some(self.sequence));
        format!("{} {}", self.id, self.sequence).into()
    }

    async fn get(&mut self, n: u32) {
        match self.cache.get(&name(n)).await {
            Ok(object) => self.saw(n, &object),
            Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{error}"),
        }
    }

    fn saw(&mut self, n: u32, object: &Object) {
        let text = std::str::from_utf8(&object.value).unwrap();
        let (writer, sequence) = text.split_once(' ').unwrap();
        let (writer, sequence) = (writer.parse().unwrap(), sequence.parse().unwrap());
        if writer == self.id {
            // Its own writes are over before it reads.
            assert_eq!(Some(&Some(sequence)), self.wrote.get(&n), "{n}: its own");
        }
        let seen = self.seen.insert((n, writer), sequence).unwrap_or(0);
        // Other writes may be under way: then only version checks promise that none is unread.
        assert!(!self.is_checked || seen <= sequence, "{n}: {writer} {sequence} after {seen}");
    }

    async fn step(&mut self, number: &mut impl FnMut(u32) -> u32) {
        let n = number(WRITTEN);
        match number(20) {
            0..9 => self.get(number(WRITTEN + STEADY)).await,
            9..11 => {
                let value = self.value(n);
                self.cache.put(&name(n), value).await.unwrap();
            }
            11..14 => {
                let value = self.value(n);
                self.cache.put_back(&name(n), value).await.unwrap();
            }
            14..17 => {
                self.wrote.insert(n, None);
                self.cache.delete(&name(n)).await.unwrap();
            }
            17 => self.cache.flush().await.unwrap(),
            18 => self.cache.invalidate(&name(n)),
            _ => {
                if let Some(object) = self.cache.try_get(&name(n)) {
                    self.saw(n, &object);
                }
            }
        }
    }
}

/// After a flush the cache answers with what its source has.
async fn compare(cache: &Cache<Crowded>) {
    cache.flush().await.unwrap();
    for n in 0..WRITTEN + STEADY {
        let held = cache.get(&name(n)).await.ok();
        assert_eq!(held, cache.source().map.current(&name(n)), "k{n}");
    }
}

fn run_threads(freshness: Freshness) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let options = CacheOptions {
        freshness,
        dirty_size: ByteSize::new(2 * (ENTRY + 20)),
        ..CacheOptions::default()
    };
    // Two keys fewer than there are, beside what is accepted.
    let capacity = u64::from(WRITTEN + STEADY) * (ENTRY + 10);
    let cache = Cache::new(Crowded::default(), ByteSize::new(capacity), options);
    for n in WRITTEN..WRITTEN + STEADY {
        cache.source().map.write(&name(n), "99 1");
    }
    let is_checked = freshness == Freshness::VersionCheck;
    let reader = |id| {
        let (wrote, seen) = (HashMap::new(), HashMap::new());
        let reader = Reader { id, cache: &cache, is_checked, sequence: 0, wrote, seen };
        (reader, numbers(id))
    };
    let mut readers: Vec<_> = (0..THREADS).map(reader).collect();
    let runtime = &runtime;
    for _ in 0..ROUNDS {
        std::thread::scope(|scope| {
            for (reader, number) in &mut readers {
                scope.spawn(move || {
                    (0..STEPS).for_each(|_| runtime.block_on(reader.step(number)));
                });
            }
        });
        runtime.block_on(compare(&cache));
        cache.invalidate_prefix(b"");
        cache.source().is_quiet.store(true, SeqCst);
        std::thread::scope(|scope| {
            for (reader, _) in &mut readers {
                scope.spawn(move || {
                    (0..WRITTEN + STEADY).for_each(|n| runtime.block_on(reader.get(n)));
                });
            }
        });
        cache.source().is_quiet.store(false, SeqCst);
    }
    let (ruled, broken) = (cache.source().ruled.load(SeqCst), cache.source().broken.load(SeqCst));
    assert!(ruled > ROUNDS * u64::from(WRITTEN), "{ruled}");
    assert_eq!(broken, 0, "fetches of a key that was being fetched, of {ruled}");
    let counters = cache.counters();
    assert!(counters.hits > 1000 && counters.evictions > 100, "{counters:?}");
}

#[test]
fn threads_agree_with_the_source_where_versions_are_checked() {
    run_threads(Freshness::VersionCheck);
}

#[test]
fn threads_agree_with_the_source_where_nobody_else_writes() {
    run_threads(Freshness::Immutable);
}
