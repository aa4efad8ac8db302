//! What the policies on trial would have hit, against what they do when they run alone.

use proptest::prelude::*;

use super::*;
use crate::ByteSize;
use crate::cache::evict::reference::{min_hits, numbers};
use crate::cache::evict::suite::{compare, hash, key, steps};
use crate::cache::evict::{Fifo, Lfu, Lru, Random, S3Fifo, Sieve};
use crate::cache::map_source::MapSource;
use crate::cache::{CacheOptions, Freshness};

fn on_trial() -> Vec<Box<dyn Evict>> {
    vec![
        Box::new(Lru::new()),
        Box::new(Fifo::new()),
        Box::new(Lfu::new()),
        Box::new(Random::new(3)),
        Box::new(S3Fifo::new()),
        Box::new(Sieve::new()),
    ]
}

/// What an entry takes beside key and value.
async fn overhead() -> u64 {
    let cache = cache(1, Box::new(Lru::new()), None);
    cache.source().write(&key(1), "");
    cache.get(&key(1)).await.unwrap();
    cache.counters().bytes - 1
}

/// A cache for pages of 1,000 bytes each, keys and overhead included.
fn cache(pages: u64, evict: Box<dyn Evict>, shadow: Option<Shadow>) -> Cache<MapSource> {
    let options =
        CacheOptions { freshness: Freshness::Immutable, evict, shadow, ..CacheOptions::default() };
    Cache::new(MapSource::default(), ByteSize::new(1000 * pages), options)
}

async fn read(cache: &Cache<MapSource>, page: u32) {
    let key = key(page);
    if cache.source().current(&key).is_none() {
        let len = 1000 - overhead().await - key.as_bytes().len() as u64;
        cache.source().write(&key, vec![0; usize::try_from(len).unwrap()]);
    }
    cache.get(&key).await.unwrap();
}

fn skewed(seed: u64, len: u32, pages: u32) -> Vec<u32> {
    let mut number = numbers(seed);
    let page = |_| {
        let most = 1 + number(pages);
        number(most)
    };
    (0..len).map(page).collect()
}

#[tokio::test]
async fn lines_are_what_real_caches_hit_and_what_min_would() {
    let reads = skewed(1, 3000, 60);
    let shadow = Shadow::new(on_trial());
    let watched = cache(20, Box::new(Sieve::new()), Some(shadow));
    for page in &reads {
        read(&watched, *page).await;
    }
    let report = watched.shadow_report();
    assert_eq!(report[0].hits, watched.counters().hits);
    assert_eq!((report[0].policy, report[0].reads), ("sieve", 3000));
    assert_eq!((report[0].bytes, report[0].hit_bytes), (3_000_000, 1000 * report[0].hits));
    for (policy, line) in on_trial().into_iter().zip(&report[1..]) {
        assert_eq!(policy.name(), line.policy);
        let alone = cache(20, policy, None);
        for page in &reads {
            read(&alone, *page).await;
        }
        assert_eq!(line.hits, alone.counters().hits, "{}", line.policy);
    }
    let min = report.last().unwrap();
    assert_eq!((min.policy, min.hits), ("min", min_hits(&reads, |_| 1, 20)));
    assert_eq!(report.len(), 8);
}

#[tokio::test]
async fn without_a_shadow_there_is_no_report() {
    let cache = cache(3, Box::new(Lru::new()), None);
    read(&cache, 1).await;
    assert!(cache.shadow_report().is_empty());
    let watched = self::cache(3, Box::new(Lru::new()), Some(Shadow::new(Vec::new())));
    let report = watched.shadow_report();
    assert_eq!((report.len(), report[0].hit_ratio(), report[1].hits), (2, 0.0, 0));
}

#[tokio::test]
async fn what_is_invalidated_is_a_miss_for_all() {
    let cache = cache(10, Box::new(Lru::new()), Some(Shadow::new(on_trial())));
    for _ in 0..5 {
        read(&cache, 1).await;
        cache.invalidate(&key(1));
    }
    let report = cache.shadow_report();
    assert!(report[..7].iter().all(|line| (line.reads, line.hits) == (5, 0)), "{report:?}");
}

proptest! {
    #[test]
    fn a_policy_decides_the_same_when_others_are_tried(steps in steps()) {
        let (mut watched, _) = watch(Box::new(Lfu::new()), Some(Shadow::new(on_trial())));
        compare(&mut *watched, &mut Lfu::new(), &steps);
    }
}

/// Reads pages of size 1 into a watch of its own.
fn watched(shadow: Shadow, capacity: u64, reads: &[u32]) -> Vec<ShadowLine> {
    let (mut running, watch) = watch(Box::new(Lru::new()), Some(shadow));
    running.on_capacity(capacity);
    let watch = watch.unwrap();
    for page in reads {
        let key = key(*page);
        watch.lock().read(Entry { key: &key, key_hash: hash(*page), bytes: 1 }, false);
    }
    let window = watch.lock().window();
    window.report()
}

#[test]
fn in_any_window_nothing_hits_more_than_min() {
    for seed in 0..200 {
        let reads = skewed(seed, 1000, 40);
        let window = 1 + usize::try_from(seed).unwrap() * 7;
        let report = watched(Shadow::new(on_trial()).with_window(window), 1 + seed % 30, &reads);
        let min = report.last().unwrap();
        assert_eq!(min.reads, window.min(1000) as u64);
        assert!(report.iter().all(|line| line.hits <= min.hits), "seed {seed}: {report:?}");
    }
}

#[test]
fn a_sample_tells_about_the_same() {
    let reads = skewed(5, 400_000, 20_000);
    let all = watched(Shadow::new(on_trial()), 4000, &reads);
    let some = watched(Shadow::new(on_trial()).with_sample(8), 4000, &reads);
    assert!(some[0].reads < all[0].reads / 6 && some[0].reads > all[0].reads / 10);
    for (all, some) in all.iter().zip(&some) {
        let gap = (all.hit_ratio() - some.hit_ratio()).abs();
        assert!(gap < 0.03, "{}: {} {}", all.policy, all.hit_ratio(), some.hit_ratio());
    }
}
