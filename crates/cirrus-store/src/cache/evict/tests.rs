//! Clairvoyant through the real cache, against references that share no code with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Clairvoyant;
use super::reference::{min_hits, numbers, optimal_hits};
use crate::cache::map_source::MapSource;
use crate::cache::prefetch::Ordered;
use crate::cache::{Cache, CacheOptions, Freshness, Prefetch, Trace};
use crate::{ByteSize, Key};

const LATENCY: Duration = Duration::from_millis(1);

fn key(page: u32) -> Key {
    Key::try_from(format!("{page:04}")).unwrap()
}

fn options() -> CacheOptions {
    CacheOptions { freshness: Freshness::Immutable, ..CacheOptions::default() }
}

/// What an entry without a value takes.
async fn empty_entry_bytes() -> u64 {
    let cache = Cache::new(MapSource::default(), ByteSize::mib(1), options());
    cache.source().write(&key(0), "");
    cache.get(&key(0)).await.unwrap();
    cache.counters().bytes
}

/// The hits of a cache that holds `capacity` times what the smallest entry takes; page sizes are
/// multiples of that.
async fn hits(unit: u64, reads: &[u32], size: fn(u32) -> u64, capacity: u64) -> u64 {
    let trace = Trace::new(reads.iter().map(|page| key(*page)));
    let evict = Box::new(Clairvoyant::new(Arc::new(trace)));
    let capacity = ByteSize::new(capacity * unit);
    let cache = Cache::new(MapSource::default(), capacity, CacheOptions { evict, ..options() });
    for page in 0..64 {
        let len = usize::try_from((size(page) - 1) * unit).unwrap();
        cache.source().write(&key(page), vec![0; len]);
    }
    for page in reads {
        cache.get(&key(*page)).await.unwrap();
    }
    let counters = cache.counters();
    assert_eq!(counters.hits + counters.misses, reads.len() as u64);
    assert!(counters.bytes <= capacity.bytes());
    counters.hits
}

/// Uniform, skewed, in a loop, or a loop beside something popular.
fn reads(seed: u64) -> (Vec<u32>, u64) {
    let mut number = numbers(seed);
    let pages = 2 + number(39);
    let len = 50 + number(250);
    let reads = (0..len).map(|at| match seed % 4 {
        0 => number(pages),
        1 => {
            let most = 1 + number(pages);
            number(most)
        }
        2 => at % pages,
        _ if number(3) == 0 => number(1 + pages / 4),
        _ => at % pages,
    });
    (reads.collect(), u64::from(1 + number(pages)))
}

#[tokio::test]
async fn with_equal_sizes_clairvoyant_is_min_exactly() {
    let unit = empty_entry_bytes().await;
    let mut all_hits = 0;
    for seed in 0..2000 {
        let (reads, capacity) = reads(seed);
        let min = min_hits(&reads, |_| 1, capacity);
        assert_eq!(hits(unit, &reads, |_| 1, capacity).await, min, "seed {seed}");
        all_hits += min;
    }
    assert!(all_hits > 100_000, "{all_hits}");
}

fn unequal(page: u32) -> u64 {
    u64::from(page * 7 % 5 + 1)
}

#[tokio::test]
async fn with_unequal_sizes_clairvoyant_has_what_furthest_next_use_has() {
    let unit = empty_entry_bytes().await;
    for seed in 0..1000 {
        let (reads, capacity) = reads(seed);
        let (reference, capacity) = (min_hits(&reads, unequal, 2 * capacity), 2 * capacity);
        assert_eq!(hits(unit, &reads, unequal, capacity).await, reference, "seed {seed}");
    }
}

/// The gap that docs/cache.md states.
#[tokio::test]
async fn with_unequal_sizes_clairvoyant_is_near_the_optimum() {
    let unit = empty_entry_bytes().await;
    let (mut all, mut all_optimal, mut optimal_traces, mut worst) = (0, 0, 0, 1.0f64);
    for seed in 0..500 {
        let mut number = numbers(seed);
        let reads: Vec<u32> = (0..40).map(|_| number(8)).collect();
        let capacity = u64::from(5 + number(15));
        let optimal = optimal_hits(&reads, unequal, capacity);
        let hits = hits(unit, &reads, unequal, capacity).await;
        assert!(hits <= optimal, "seed {seed}");
        (all, all_optimal) = (all + hits, all_optimal + optimal);
        optimal_traces += u32::from(hits == optimal);
        if optimal > 0 {
            worst = worst.min(hits as f64 / optimal as f64);
        }
    }
    assert_eq!((all, all_optimal, optimal_traces), (10_881, 11_461, 172));
    assert!((0.535..0.545).contains(&worst), "{worst:.3}");
}

/// Told to both, the order is worth at least what it is worth to the policy alone: nothing that would
/// be a hit is fetched again because other things are fetched early.
#[tokio::test(start_paused = true)]
async fn what_is_fetched_early_costs_no_hits_and_few_gets() {
    let unit = empty_entry_bytes().await;
    let (mut all_gets, mut all_misses, mut all_waits) = (0, 0, 0);
    for seed in 0..400 {
        let (reads, capacity) = reads(seed);
        let min = min_hits(&reads, |_| 1, capacity);
        let future = Arc::new(Trace::new(reads.iter().map(|page| key(*page))));
        let options = CacheOptions {
            evict: Box::new(Clairvoyant::new(future.clone())),
            prefetch: Some(Box::new(Ordered::new(future))),
            prefetch_size: ByteSize::new(capacity * unit),
            ..options()
        };
        let total = ByteSize::new(2 * capacity * unit);
        let cache = Cache::new(MapSource::with_latency(|_| LATENCY), total, options);
        for page in 0..64 {
            cache.source().write(&key(page), "");
        }
        let mut waits = 0;
        for page in &reads {
            sleep(2 * LATENCY).await;
            let began = Instant::now();
            cache.get(&key(*page)).await.unwrap();
            waits += u64::from(began.elapsed() > Duration::ZERO);
        }
        let (reads, gets) = (reads.len() as u64, cache.source().gets());
        assert!(waits <= reads - min, "seed {seed}: {waits} waits, {} misses of MIN", reads - min);
        all_gets += gets;
        all_misses += reads - min;
        all_waits += waits;
    }
    println!("{all_gets} gets, {all_waits} waits, {all_misses} misses of MIN");
    assert!(all_gets <= all_misses, "{all_gets} gets, {all_misses} misses of MIN");
}

/// Of small objects more are named than there are gets after which a guess is given up: those that
/// were announced must not be.
#[tokio::test(start_paused = true)]
async fn what_is_fetched_far_ahead_is_here_when_it_is_read() {
    const PAGES: u32 = 6000;
    const HELD: u64 = 1500;
    let unit = empty_entry_bytes().await;
    let mut number = numbers(1);
    let mut reads = Vec::new();
    for _ in 0..3 {
        let mut epoch: Vec<u32> = (0..PAGES).collect();
        for at in 1..PAGES {
            epoch.swap(at as usize, number(at + 1) as usize);
        }
        reads.extend(epoch);
    }
    let trace = Arc::new(Trace::new(reads.iter().map(|page| key(*page))));
    let get_all = async |prefetch: Option<Box<dyn Prefetch>>, held: u64| {
        let options = CacheOptions {
            evict: Box::new(Clairvoyant::new(trace.clone())),
            prefetch,
            prefetch_size: ByteSize::new(HELD * unit),
            ..options()
        };
        let cache = Cache::new(MapSource::default(), ByteSize::new(held * unit), options);
        for page in 0..PAGES {
            cache.source().write(&key(page), "");
        }
        for page in &reads {
            cache.get(&key(*page)).await.unwrap();
            // What was guessed comes.
            tokio::task::yield_now().await;
        }
        (cache.source().gets(), cache.counters())
    };
    // MIN, as other tests have shown.
    let (min_gets, _) = get_all(None, HELD).await;
    let (gets, counters) = get_all(Some(Box::new(Ordered::new(trace.clone()))), 2 * HELD).await;
    println!("{gets} gets, {min_gets} of MIN, {counters:?}");
    assert_eq!((counters.prefetched_unused, counters.not_kept), (0, 0), "{counters:?}");
    assert!(counters.misses <= 2, "{counters:?}");
    assert!(gets <= min_gets, "{gets} gets, {min_gets} of MIN: {counters:?}");
}
