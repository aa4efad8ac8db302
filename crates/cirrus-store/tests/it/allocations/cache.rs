//! What a hit costs in allocations: nothing, whatever the cache has to do for it besides.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cirrus_store::cache::prefetch::Sequential;
use cirrus_store::cache::{Cache, CacheOptions, Entry, Evict, Freshness, Hits, Place, Source};
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

#[test]
fn a_hit_allocates_nothing() {
    let _turn = TURN.lock().unwrap();
    let set = SetName::new("s").unwrap();
    let options = |freshness| {
        let mut options = CacheOptions::default();
        options.freshness = freshness;
        options
    };
    let mut lossless = options(Freshness::Immutable);
    lossless.evict = Box::new(Listener(0));
    let mut ahead = options(Freshness::Immutable);
    ahead.prefetch = Some(Box::new(Sequential::new(set.clone(), OBJECTS)));
    let caches = [
        ("immutable", options(Freshness::Immutable)),
        ("time to live", options(Freshness::TimeToLive(Duration::from_secs(3600)))),
        ("lossless", lossless),
        ("prefetch", ahead),
    ];
    let keys: Vec<Key> = (0..OBJECTS).map(|index| set.object_key(index)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, options) in caches {
        let cache = Cache::new(Full, ByteSize::mib(64), options);
        let pass = async || {
            for key in &keys {
                assert_eq!(cache.get(key).await.unwrap().value.len(), 1000);
            }
            keys.iter().all(|key| cache.try_get(key).is_some())
        };
        IS_WATCHED.set(true);
        let before = COUNT.load(Ordering::Relaxed);
        assert!(runtime.block_on(pass()), "{name}");
        let first = COUNT.load(Ordering::Relaxed);
        assert!(first - before > OBJECTS, "{name}: what a miss allocates is counted");
        runtime.block_on(async {
            for _ in 0..10 {
                assert!(pass().await, "{name}");
            }
        });
        let count = COUNT.load(Ordering::Relaxed) - first;
        IS_WATCHED.set(false);
        assert_eq!(count, 0, "{name}: allocations for {} hits", 20 * OBJECTS);
        let counters = cache.counters();
        assert_eq!(counters.hits + counters.misses, 22 * OBJECTS, "{name}: {counters:?}");
    }
}
