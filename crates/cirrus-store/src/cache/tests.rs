//! The cache as a whole: against a map, under many callers, with a user's policies.
//!
//! Time is tokio's paused clock, so that a latency costs nothing and no test depends on speed.

mod batches;
mod interleavings;
mod model;
mod reads;
mod writes;

use std::collections::{HashMap, VecDeque};
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
    assert_eq!(cache.counters().hits, 1);
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

/// First in, first out: a user's policy, in as many lines as it takes.
#[derive(Debug, Default)]
struct Fifo {
    queue: VecDeque<Place>,
}

impl Evict for Fifo {
    fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
        self.queue.push_back(place);
    }

    fn on_access(&mut self, _place: Place) {}

    fn on_remove(&mut self, place: Place) {
        self.queue.retain(|queued| *queued != place);
    }

    fn victim(&mut self) -> Option<Place> {
        self.queue.front().copied()
    }
}

/// Never finds a victim, or one that is not there.
#[derive(Debug)]
struct Wrong(Option<Place>);

impl Evict for Wrong {
    fn admit(&mut self, entry: Entry<'_>) -> bool {
        entry.key.as_bytes() != b"unwanted"
    }

    fn on_insert(&mut self, _place: Place, _entry: Entry<'_>) {}

    fn on_access(&mut self, _place: Place) {}

    fn on_remove(&mut self, _place: Place) {}

    fn victim(&mut self) -> Option<Place> {
        self.0
    }
}

#[tokio::test]
async fn policies_are_user_code() {
    let held_after = async |evict: Box<dyn Evict>| {
        let capacity = ByteSize::new(3 * (ENTRY + 2));
        let cache =
            Cache::new(MapSource::default(), capacity, CacheOptions { evict, ..immutable() });
        for name in ["a", "b", "c", "d", "unwanted"] {
            cache.source().write(&key(name), "x");
        }
        for name in ["a", "b", "c", "a", "d"] {
            cache.get(&key(name)).await.unwrap();
        }
        let held: String = ["a", "b", "c", "d"]
            .into_iter()
            .filter(|name| {
                let table = &cache.owner.shared.desk.table;
                table.find(table.hash(&key(name)), &key(name), |_| Some(())).is_some()
            })
            .collect();
        assert!(cache.counters().bytes <= capacity.bytes());
        held
    };
    assert_eq!(held_after(Box::new(Fifo::default())).await, "bcd");
    assert_eq!(held_after(Box::new(evict::Lru::new())).await, "acd");
    assert_eq!(held_after(Box::new(Wrong(None))).await, "abc");
    assert_eq!(held_after(Box::new(Wrong(Some(Place::new(77))))).await, "abc");

    let cache = cache_of(
        MapSource::default(),
        CacheOptions { evict: Box::new(Wrong(None)), ..immutable() },
    );
    cache.source().write(&key("unwanted"), "x");
    assert_eq!(cache.get(&key("unwanted")).await.unwrap().value, "x");
    assert_eq!((cache.counters().entries, cache.counters().not_kept), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_forward_reader_waits_for_the_first_object_only() {
    let set = SetName::new("s").unwrap();
    let options = CacheOptions {
        prefetch: Some(Box::new(Sequential::new(set.clone(), 50).with_objects_ahead(8))),
        prefetch_size: ByteSize::kib(64),
        ..immutable()
    };
    let cache = cache_of(MapSource::with_latency(ten_ms), options);
    for index in 0..50 {
        cache.source().write(&set.object_key(index), vec![1; 1000]);
    }
    let began = Instant::now();
    for index in 0..50 {
        sleep(Duration::from_millis(2)).await;
        cache.get(&set.object_key(index)).await.unwrap();
    }
    // 100 ms of work, and the latencies of the first two: the size is unknown at first.
    assert!(began.elapsed() <= Duration::from_millis(130), "{:?}", began.elapsed());
    let counters = cache.counters();
    assert_eq!(cache.source().gets(), 50);
    assert_eq!((counters.prefetched, counters.prefetched_used), (49, 49));
    assert_eq!((counters.bytes_prefetched, counters.evictions), (0, 0));
}

/// Reads `reads` of 200 objects, 2 ms each, through a cache with this policy.
async fn read_in_turn(
    reads: &[u64],
    prefetch: Box<dyn Prefetch>,
    ms: fn(&Key) -> Duration,
) -> Cache<Arc<MapSource>> {
    let options =
        CacheOptions { prefetch: Some(prefetch), prefetch_size: ByteSize::kib(64), ..immutable() };
    let cache = cache_of(MapSource::with_latency(ms), options);
    let set = SetName::new("s").unwrap();
    for index in 0..200 {
        cache.source().write(&set.object_key(index), vec![1; 1000]);
    }
    for index in reads {
        sleep(Duration::from_millis(2)).await;
        cache.get(&set.object_key(*index)).await.unwrap();
    }
    cache
}

#[tokio::test(start_paused = true)]
async fn an_announced_order_is_fetched_as_far_ahead_as_its_reader_needs() {
    let set = SetName::new("s").unwrap();
    let reads: Vec<u64> = (0..200).map(|n| n * 77 % 200).collect();
    let future = Arc::new(Trace::new(reads.iter().map(|index| set.object_key(*index))));
    let began = Instant::now();
    let policy = Box::new(prefetch::Ordered::new(future));
    let cache = read_in_turn(&reads, policy, |_| Duration::from_millis(20)).await;
    let counters = cache.counters();
    // 400 ms of work, and the latencies of the first two: the size is unknown at first.
    assert!(began.elapsed() <= Duration::from_millis(450), "{:?}", began.elapsed());
    assert_eq!((cache.source().gets(), counters.prefetched_cancelled), (200, 0));
    assert_eq!((counters.prefetched, counters.prefetched_used), (199, 199));
}

#[tokio::test(start_paused = true)]
async fn every_third_object_is_fetched_ahead_too() {
    let reads: Vec<u64> = (0..60).map(|n| n * 3).collect();
    let policy = Box::new(prefetch::Strided::new(SetName::new("s").unwrap(), 200));
    let began = Instant::now();
    let cache = read_in_turn(&reads, policy, ten_ms).await;
    assert!(began.elapsed() <= Duration::from_millis(165), "{:?}", began.elapsed());
    assert_eq!(cache.counters().prefetched_used, 57);
}

/// Guesses one key at the first read, and cancels it at the next.
#[derive(Debug)]
struct Regret(bool);

impl Prefetch for Regret {
    fn on_access(&mut self, _key: &Key, _hit: bool, ahead: &mut Ahead) {
        match std::mem::replace(&mut self.0, true) {
            false => _ = ahead.push(key("guess")),
            true => ahead.cancel(key("guess")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_guess_that_is_cancelled_gives_its_budget_back_at_once() {
    // While it is on its way, and when it is here.
    for (ms, fetches, in_flight) in [(1, 3, true), (60, 3, false)] {
        let options = CacheOptions {
            prefetch: Some(Box::new(Regret(false))),
            prefetches_max: 1,
            ..immutable()
        };
        let slow =
            |key: &Key| Duration::from_millis(if key.as_bytes() == b"guess" { 50 } else { 0 });
        let cache = cache_of(MapSource::with_latency(slow), options);
        for name in ["a", "b", "guess"] {
            cache.source().write(&key(name), "x");
        }
        cache.get(&key("a")).await.unwrap();
        sleep(Duration::from_millis(ms)).await;
        assert_eq!(cache.counters().bytes_prefetched == 0, in_flight);
        let before = Instant::now();
        cache.get(&key("b")).await.unwrap();
        tokio::task::yield_now().await;
        assert!(before.elapsed() < Duration::from_millis(5));
        assert_eq!(cache.owner.shared.guesses.available_permits(), 1);
        let counters = cache.counters();
        assert_eq!((counters.prefetched, counters.prefetched_cancelled), (1, 1));
        assert_eq!((counters.bytes_prefetched, counters.fetches), (0, fetches));
        // What is wanted after all is fetched anew.
        assert_eq!(cache.get(&key("guess")).await.unwrap().value, "x");
        assert_eq!(cache.source().gets(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guess_that_somebody_waits_for_is_not_cancelled() {
    let options = CacheOptions { prefetch: Some(Box::new(Regret(false))), ..immutable() };
    let cache = cache_of(MapSource::with_latency(ten_ms), options);
    for name in ["a", "b", "guess"] {
        cache.source().write(&key(name), "x");
    }
    cache.get(&key("a")).await.unwrap();
    let waiting = cache.clone();
    let waiter = tokio::spawn(async move { waiting.get(&key("guess")).await });
    tokio::task::yield_now().await;
    cache.get(&key("b")).await.unwrap();
    assert_eq!(waiter.await.unwrap().unwrap().value, "x");
    assert_eq!((cache.counters().prefetched_cancelled, cache.source().gets()), (0, 3));
}

/// Guesses what nobody will read.
#[derive(Debug)]
struct WrongGuesses(u64);

impl Prefetch for WrongGuesses {
    fn on_access(&mut self, _key: &Key, _hit: bool, ahead: &mut Ahead) {
        while ahead.room() > 0 {
            self.0 += 1;
            ahead.push(key(&format!("wrong{}", self.0 % 5000)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_guesses_stay_in_their_budget_and_evict_nothing_that_is_read() {
    let options = CacheOptions {
        prefetch: Some(Box::new(WrongGuesses(0))),
        prefetch_size: ByteSize::kib(20),
        ..immutable()
    };
    let cache = Cache::new(
        Arc::new(MapSource::with_latency(|_| Duration::from_micros(100))),
        ByteSize::kib(100),
        options,
    );
    for n in 0..5000usize {
        cache.source().write(&key(&format!("wrong{n}")), vec![0; n * 7919 % 6000]);
    }
    let working_set: Vec<Key> = (0..40).map(|n| key(&format!("k{n}"))).collect();
    for key in &working_set {
        cache.source().write(key, vec![0; 1000]);
    }
    for round in 0..100u32 {
        for key in &working_set {
            let misses = cache.counters().misses;
            cache.get(key).await.unwrap();
            if round.is_multiple_of(10) {
                sleep(Duration::from_micros(30)).await;
            }
            let counters = cache.counters();
            assert_eq!(counters.misses - misses, u64::from(round == 0));
            assert!(counters.bytes_prefetched <= 20 * 1024, "{counters:?}");
            assert!(counters.bytes <= 100 * 1024, "{counters:?}");
        }
    }
    let counters = cache.counters();
    assert_eq!(counters.misses, 40);
    assert!(counters.prefetched > 20, "wrong guesses grow old: {counters:?}");
    assert_eq!(counters.prefetched_used, 0);
}

#[derive(Debug, Clone)]
enum Call {
    Get(u8),
    GetTogether(Vec<u8>),
    Put(u8, usize),
    Delete(u8),
    Invalidate(u8),
    WriteBehind(u8, usize),
    EraseBehind(u8),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let (name, len) = (0u8..12, 0usize..900);
    let call = prop_oneof![
        6 => name.clone().prop_map(Call::Get),
        2 => proptest::collection::vec(name.clone(), 1..8).prop_map(Call::GetTogether),
        2 => (name.clone(), len.clone()).prop_map(|(name, len)| Call::Put(name, len)),
        1 => name.clone().prop_map(Call::Delete),
        1 => name.clone().prop_map(Call::Invalidate),
        2 => (name.clone(), len).prop_map(|(name, len)| Call::WriteBehind(name, len)),
        1 => name.prop_map(Call::EraseBehind),
    ];
    proptest::collection::vec(call, 0..200)
}

/// Runs `calls` on a small cache that checks versions, with a model that is a map.
async fn run(calls: Vec<Call>, evict: Box<dyn Evict>) {
    let name = |n: u8| key(&format!("s/{n:012}"));
    let sequential = Sequential::new(SetName::new("s").unwrap(), 12).with_objects_ahead(2);
    let options = CacheOptions {
        evict,
        prefetch: Some(Box::new(sequential)),
        prefetch_size: ByteSize::new(1500),
        ..CacheOptions::default()
    };
    let capacity = ByteSize::new(4000);
    let cache = Cache::new(Arc::new(MapSource::default()), capacity, options);
    let mut model: HashMap<u8, Bytes> = HashMap::new();
    let (mut gets, mut serial) = (0, 0u8);
    let mut value = |len: usize| {
        serial = serial.wrapping_add(1);
        Bytes::from(vec![serial; len])
    };
    for call in calls {
        let wanted = match call {
            Call::Get(n) => vec![n],
            Call::GetTogether(many) => many,
            Call::Put(n, len) => {
                let value = value(len);
                cache.put(&name(n), value.clone()).await.unwrap();
                model.insert(n, value);
                vec![]
            }
            Call::Delete(n) => {
                cache.delete(&name(n)).await.unwrap();
                model.remove(&n);
                vec![]
            }
            Call::Invalidate(n) => {
                cache.invalidate(&name(n));
                vec![]
            }
            Call::WriteBehind(n, len) => {
                let value = value(len);
                cache.source().write(&name(n), value.clone());
                model.insert(n, value);
                vec![]
            }
            Call::EraseBehind(n) => {
                cache.source().erase(&name(n));
                model.remove(&n);
                vec![]
            }
        };
        let keys: Vec<Key> = wanted.iter().map(|n| name(*n)).collect();
        let answers = join_all(keys.iter().map(|key| cache.get(key))).await;
        for (n, answer) in wanted.iter().zip(answers) {
            gets += 1;
            match model.get(n) {
                Some(value) => assert_eq!(&answer.unwrap().value, value),
                None => assert_eq!(answer.unwrap_err().kind(), Kind::NotFound),
            }
        }
        let counters = cache.counters();
        assert!(counters.bytes <= capacity.bytes() && counters.bytes_prefetched <= 1500);
        assert_eq!(counters.hits + counters.misses, gets);
    }
    cache.close().await;
    check_books(&cache);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_cache_is_a_map(calls in calls(), fifo: bool) {
        let evict: Box<dyn Evict> =
            if fifo { Box::new(Fifo::default()) } else { Box::new(evict::Lru::new()) };
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(calls, evict));
    }
}

#[test]
fn the_overhead_covers_what_an_entry_takes() {
    let table = (size_of::<table::Held>() + 1) * 16 / 7;
    let slot = size_of::<Option<shelf::Slot>>() * 5 / 4;
    // The guesses' chain, a policy's, and the free list; their vectors double.
    let links = 2 * (8 + 8 + size_of::<Place>());
    let headers = 2 * (32 + 16);
    let taken = (table + slot + links + headers) as u64;
    assert!(taken <= ENTRY_OVERHEAD_BYTES, "{taken}");
    assert!(taken > ENTRY_OVERHEAD_BYTES * 3 / 4, "{taken}");
}
