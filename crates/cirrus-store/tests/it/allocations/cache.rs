//! What a hit costs in allocations: nothing, whatever the cache has to do for it besides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cirrus_store::cache::evict::{Clairvoyant, Fifo, Lfu, Lru, Random, S3Fifo, Sieve};
use cirrus_store::cache::prefetch::{Ordered, Sequential, Strided};
use cirrus_store::cache::{
    Cache, CacheOptions, Entry, Evict, Foresight, Freshness, Hits, Place, Prefetch, Source, Trace,
};
use cirrus_store::set::SetName;
use cirrus_store::{ByteSize, Key, Object, Result, Version};

use super::{COUNT, IS_WATCHED, TURN};
use crate::rig::bytes;

const OBJECTS: u64 = 100;

/// Has every object.
struct Full;

impl Source for Full {
    async fn get(&self, _key: &Key) -> Result<Object> {
        let value = Bytes::from(bytes(1000, 1));
        Ok(Object { value, version: Version(1), expires_at: None, modified_at: None })
    }

    async fn get_if_newer(&self, _key: &Key, _version: Version) -> Result<Option<Object>> {
        Ok(None)
    }
}

/// Hears of everything and does nothing about it.
#[derive(Debug)]
struct Listener(u64);

impl Evict for Listener {
    fn hits(&self) -> Hits {
        Hits::Every
    }

    fn on_insert(&mut self, _place: Place, _entry: Entry<'_>) {}

    fn on_access(&mut self, _place: Place) {
        self.0 += 1;
    }

    fn on_remove(&mut self, _place: Place) {}

    fn victim(&mut self) -> Option<Place> {
        None
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("heard", self.0)]
    }
}

/// Passes over all objects in turn, of which each reads every object twice: so many that a prefetch
/// policy has seen how fast the reader is, and hears of hits later.
const PASSES: u64 = 101;

/// How a cache is made, and in which order it is read.
type Case = (String, CacheOptions, Vec<Key>);

/// Each policy that ships, each freshness that asks nobody, each way to fetch early.
fn cases(set: &SetName) -> Vec<Case> {
    let keys: Vec<Key> = (0..OBJECTS).map(|index| set.object_key(index)).collect();
    // No step is like the one before: nothing is guessed from it.
    let half = OBJECTS / 2;
    let widening = (0..half).flat_map(|index| [half - 1 - index, half + index]);
    let widening: Vec<Key> = widening.map(|index| set.object_key(index)).collect();
    let gets = (0..PASSES).flat_map(|_| keys.iter().chain(&keys).cloned());
    let future: Arc<dyn Foresight> = Arc::new(Trace::new(gets));
    let policies: Vec<Box<dyn Evict>> = vec![
        Box::new(Lru::new()),
        Box::new(Fifo::new()),
        Box::new(Random::new(1)),
        Box::new(Sieve::new()),
        Box::new(S3Fifo::new()),
        Box::new(Lfu::new()),
        Box::new(Clairvoyant::new(Arc::clone(&future))),
        Box::new(Listener(0)),
    ];
    let ahead: [(&str, Box<dyn Prefetch>, &Vec<Key>); 3] = [
        ("sequential", Box::new(Sequential::new(set.clone(), OBJECTS)), &keys),
        ("strided", Box::new(Strided::new(set.clone(), OBJECTS)), &widening),
        ("ordered", Box::new(Ordered::new(Arc::clone(&future))), &keys),
    ];
    let options = |evict| {
        let mut options = CacheOptions::default();
        (options.freshness, options.evict) = (Freshness::Immutable, evict);
        options
    };
    let mut cases: Vec<Case> = Vec::new();
    for evict in policies {
        cases.push((evict.name().to_owned(), options(evict), keys.clone()));
    }
    let mut young = CacheOptions::default();
    young.freshness = Freshness::TimeToLive(Duration::from_secs(3600));
    cases.push(("time to live".to_owned(), young, keys.clone()));
    for (name, prefetch, order) in ahead {
        let mut options = options(Box::new(Clairvoyant::new(Arc::clone(&future))));
        options.prefetch = Some(prefetch);
        cases.push((name.to_owned(), options, order.clone()));
    }
    cases
}

#[test]
fn a_hit_allocates_nothing() {
    let _turn = TURN.lock().unwrap();
    let set = SetName::new("s").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut failed = Vec::new();
    for (name, options, keys) in cases(&set) {
        let cache = Cache::new(Full, ByteSize::mib(64), options);
        let get_all = async || {
            for key in &keys {
                assert_eq!(cache.get(key).await.unwrap().value.len(), 1000);
            }
        };
        IS_WATCHED.set(true);
        let before = COUNT.load(Ordering::Relaxed);
        runtime.block_on(get_all());
        // The first hit of a thread makes its ring.
        assert!(cache.try_get(&keys[0]).is_some(), "{name}");
        let first = COUNT.load(Ordering::Relaxed);
        assert!(first - before > OBJECTS, "{name}: what a miss allocates is counted");
        runtime.block_on(async {
            for _ in 1..PASSES {
                assert!(keys.iter().all(|key| cache.try_get(key).is_some()), "{name}");
                get_all().await;
            }
        });
        let count = COUNT.load(Ordering::Relaxed) - first;
        IS_WATCHED.set(false);
        let hits = 2 * (PASSES - 1) * OBJECTS;
        if count > 0 {
            failed.push(format!("{name}: {count} for {hits} hits"));
        }
        let counters = cache.counters();
        assert_eq!(counters.hits + counters.misses, hits + OBJECTS + 1, "{name}: {counters:?}");
    }
    assert!(failed.is_empty(), "allocations: {failed:?}");
}
