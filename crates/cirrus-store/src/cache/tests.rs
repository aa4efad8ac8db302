//! The cache as a whole: against a map, under many callers.
//!
//! Time is tokio's paused clock, so that a latency costs nothing and no test depends on speed.

mod ahead;
mod batches;
mod flights;
mod interleavings;
mod model;
mod parallel;
mod policies;
mod reads;
mod writes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::map_source::MapSource;
use super::prefetch::Sequential;
use super::shelf::ENTRY_OVERHEAD_BYTES;
use super::*;
use crate::error::{Error, Kind};
use crate::key::Version;
use crate::set::SetName;

const ENTRY: u64 = ENTRY_OVERHEAD_BYTES;

fn key(text: &str) -> Key {
    Key::try_from(text).unwrap()
}

fn ten_ms(_: &Key) -> Duration {
    Duration::from_millis(10)
}

fn immutable() -> CacheOptions {
    CacheOptions { freshness: Freshness::Immutable, ..CacheOptions::default() }
}

fn cache_of(source: MapSource, options: CacheOptions) -> Cache<Arc<MapSource>> {
    Cache::new(Arc::new(source), ByteSize::mib(1), options)
}

#[tokio::test]
async fn a_second_get_is_a_hit() {
    let cache = cache_of(MapSource::default(), immutable());
    cache.source().write(&key("a"), "1");
    assert_eq!(cache.get(&key("a")).await.unwrap().value, "1");
    assert_eq!(cache.get(&key("a")).await.unwrap().value, "1");
    assert_eq!(cache.source().gets(), 1);
    let counters = cache.counters();
    assert_eq!((counters.hits, counters.misses, counters.fetches), (1, 1, 1));
    assert_eq!((counters.entries, counters.bytes), (1, ENTRY + 2));
    assert_eq!(cache.get(&key("b")).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_concurrent_gets_make_one_fetch() {
    for freshness in [Freshness::Immutable, Freshness::VersionCheck] {
        let options = CacheOptions { freshness, ..CacheOptions::default() };
        let cache = cache_of(MapSource::with_latency(ten_ms), options);
        cache.source().write(&key("a"), "1");
        let a = key("a");
        for answer in join_all((0..100).map(|_| cache.get(&a))).await {
            assert_eq!(answer.unwrap().value, "1");
        }
        assert_eq!((cache.source().gets(), cache.source().checks()), (1, 0));
        assert_eq!(cache.counters().misses, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_takes_nothing_from_the_others() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    cache.source().write(&key("a"), "1");
    let (first, second) = (cache.clone(), cache.clone());
    let first = tokio::spawn(async move { first.get(&key("a")).await });
    let second = tokio::spawn(async move { second.get(&key("a")).await });
    sleep(Duration::from_millis(5)).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(second.await.unwrap().unwrap().value, "1");
    assert_eq!(cache.source().gets(), 1);

    // With nobody left to wait the fetch still fills the cache.
    cache.source().write(&key("b"), "2");
    let b = key("b");
    assert!(tokio::time::timeout(Duration::from_millis(1), cache.get(&b)).await.is_err());
    sleep(Duration::from_millis(20)).await;
    assert_eq!(cache.get(&b).await.unwrap().value, "2");
    assert_eq!(cache.source().gets(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_fails_for_all_who_shared_it_and_for_nobody_else() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    cache.source().write(&key("a"), "1");
    cache.source().fail_next(1);
    let a = key("a");
    for answer in join_all((0..3).map(|_| cache.get(&a))).await {
        let error = answer.unwrap_err();
        assert_eq!((error.kind(), error.detail()), (Kind::Timeout, 7));
        assert!(error.to_string().contains("the test says so"), "{error}");
    }
    assert_eq!(cache.get(&a).await.unwrap().value, "1");
}

#[tokio::test(start_paused = true)]
async fn a_version_check_sees_every_write_that_ended_before_the_get() {
    let cache = cache_of(MapSource::with_latency(ten_ms), CacheOptions::default());
    let a = key("a");
    cache.source().write(&a, "old");
    let early = cache.clone();
    let early = tokio::spawn(async move { early.get(&key("a")).await });
    sleep(Duration::from_millis(5)).await;
    cache.source().write(&a, "new");
    // The request that is in flight was answered from before the write.
    let late = join_all((0..10).map(|_| cache.get(&a))).await;
    assert_eq!(early.await.unwrap().unwrap().value, "old");
    for answer in late {
        assert_eq!(answer.unwrap().value, "new");
    }
    assert_eq!((cache.source().gets(), cache.source().checks()), (1, 1));
    assert_eq!(cache.get(&a).await.unwrap().value, "new");
    // Ten waited for a flight before theirs, and count once.
    assert_eq!((cache.counters().hits, cache.counters().misses), (1, 11));
    cache.source().erase(&a);
    assert_eq!(cache.get(&a).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(cache.counters().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn time_to_live_is_at_most_that_stale() {
    let limit = Duration::from_millis(100);
    let options =
        CacheOptions { freshness: Freshness::TimeToLive(limit), ..CacheOptions::default() };
    let cache = cache_of(MapSource::with_latency(ten_ms), options);
    let a = key("a");
    let mut written = vec![(Instant::now(), cache.source().write(&a, "x"))];
    for round in 0..500u64 {
        sleep(Duration::from_millis(round * 7 % 13)).await;
        if round.is_multiple_of(3) {
            written.push((Instant::now(), cache.source().write(&a, "x")));
        }
        let began = Instant::now();
        let got = cache.get(&a).await.unwrap().version;
        let replaced = written.iter().find(|(_, version)| *version > got);
        assert!(replaced.is_none_or(|(at, _)| began.duration_since(*at) <= limit));
    }
    let counters = cache.counters();
    assert!(counters.hits > 5 * counters.misses, "{counters:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_flight_is_joined_only_as_long_as_its_answer_is_young_enough() {
    let ms = Duration::from_millis;
    let options =
        CacheOptions { freshness: Freshness::TimeToLive(ms(100)), ..CacheOptions::default() };
    let cache = cache_of(MapSource::with_latency(|_| Duration::from_millis(300)), options);
    let a = key("a");
    cache.source().write(&a, "old");
    let get_after = |delay| {
        let (cache, a) = (cache.clone(), a.clone());
        tokio::spawn(async move {
            sleep(delay).await;
            cache.get(&a).await.unwrap().value
        })
    };
    let gets = [ms(0), ms(90), ms(150), ms(250)].map(get_after);
    sleep(ms(10)).await;
    cache.source().write(&a, "new");
    let mut values = Vec::new();
    for get in gets {
        values.push(get.await.unwrap());
    }
    assert_eq!(values, ["old", "old", "new", "new"]);
    assert_eq!((cache.source().gets(), cache.source().checks()), (1, 1));
}

#[tokio::test]
async fn an_expired_object_is_fetched_again() {
    let cache = cache_of(MapSource::default(), immutable());
    cache.source().write_expired(&key("a"), "1");
    cache.get(&key("a")).await.unwrap();
    cache.source().erase(&key("a"));
    assert_eq!(cache.get(&key("a")).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn writes_go_through_and_overtake_fetches() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    let a = key("a");
    cache.source().write(&a, "old");
    let early = cache.clone();
    let early = tokio::spawn(async move { early.get(&key("a")).await });
    sleep(Duration::from_millis(5)).await;
    let version = cache.put(&a, "new".into()).await.unwrap();
    assert_eq!(early.await.unwrap().unwrap().value, "old");
    let object = cache.get(&a).await.unwrap();
    assert_eq!((object.value, object.version), ("new".into(), version));
    assert_eq!(cache.source().gets(), 1);
    cache.delete(&a).await.unwrap();
    assert_eq!(cache.get(&a).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn values_beyond_the_capacity_pass_through() {
    let cache = Cache::new(MapSource::default(), ByteSize::kib(1), immutable());
    cache.source().write(&key("large"), vec![7; 2048]);
    for _ in 0..2 {
        assert_eq!(cache.get(&key("large")).await.unwrap().value.len(), 2048);
    }
    let counters = cache.counters();
    assert_eq!((cache.source().gets(), counters.not_kept, counters.bytes), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn fetches_in_flight_are_bounded() {
    let options = CacheOptions { fetches_max: 3, ..immutable() };
    let cache = cache_of(MapSource::with_latency(ten_ms), options);
    let keys: Vec<Key> = (0..30).map(|n| key(&format!("k{n}"))).collect();
    for key in &keys {
        cache.source().write(key, "x");
    }
    let began = Instant::now();
    for answer in join_all(keys.iter().map(|key| cache.get(key))).await {
        assert_eq!(answer.unwrap().value, "x");
    }
    assert_eq!(cache.source().in_flight_max(), 3);
    assert!(began.elapsed() < Duration::from_millis(120), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn closing_ends_fetches_and_keeps_what_is_held() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    cache.source().write(&key("a"), "1");
    cache.get(&key("a")).await.unwrap();
    let waiting = cache.clone();
    let waiting = tokio::spawn(async move { waiting.get(&key("b")).await });
    sleep(Duration::from_millis(5)).await;
    cache.close().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), Kind::Closed);
    assert_eq!(cache.get(&key("a")).await.unwrap().value, "1");
    assert_eq!(cache.get(&key("c")).await.unwrap_err().kind(), Kind::Closed);
}

#[tokio::test]
async fn a_cache_over_a_cache_is_a_source() {
    let inner = cache_of(MapSource::default(), CacheOptions::default());
    let outer = Cache::new(inner.clone(), ByteSize::mib(1), CacheOptions::default());
    inner.source().write(&key("a"), "1");
    assert_eq!(outer.get(&key("a")).await.unwrap().value, "1");
    inner.source().write(&key("a"), "2");
    assert_eq!(outer.get(&key("a")).await.unwrap().value, "2");
    outer.put(&key("a"), "3".into()).await.unwrap();
    assert_eq!(inner.get(&key("a")).await.unwrap().value, "3");
    let answers = outer.get_many(&[key("a"), key("b")]).await;
    assert_eq!(answers[0].as_ref().unwrap().value, "3");
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), Kind::NotFound);
}

/// The counters against the entries themselves.
fn check_books(cache: &Cache<Arc<MapSource>>) {
    let (mut entries, mut bytes) = (0, 0);
    cache.owner.shared.desk.table.for_each(|held| {
        entries += 1;
        bytes += shelf::cost(&held.key, &held.object);
    });
    let counters = cache.counters();
    assert_eq!((counters.entries, counters.bytes), (entries, bytes));
}

#[test]
fn the_overhead_covers_what_an_entry_takes() {
    let table = (size_of::<table::Held>() + 1) * 16 / 7;
    let slot = size_of::<Option<shelf::Slot>>() * 5 / 4;
    // The guesses' chain, the default policy's with its bit, and the free list; their vectors double.
    let links = 2 * (8 + 9 + size_of::<Place>());
    let headers = 2 * (32 + 16);
    let taken = (table + slot + links + headers) as u64;
    assert!(taken <= ENTRY_OVERHEAD_BYTES, "{taken}");
    assert!(taken > ENTRY_OVERHEAD_BYTES * 3 / 4, "{taken}");
}
