//! What is fetched before anybody asks for it.

use super::*;

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

/// At which latency a key comes: 1 to 20 ms, as if at random.
fn uneven(key: &Key) -> Duration {
    let sum = key.as_bytes().iter().fold(7u64, |sum, byte| sum * 31 + u64::from(*byte));
    Duration::from_millis(1 + sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 20)
}

/// An object of 100 kB each millisecond: what is ahead is set by the latency, and by nothing else.
#[tokio::test(start_paused = true)]
async fn an_announced_order_is_as_far_ahead_as_its_latency_asks() {
    const READS: u64 = 3000;
    const WARM_UP: usize = 500;
    let one_ms: fn(&Key) -> Duration = |_| Duration::from_millis(1);
    let twenty_ms: fn(&Key) -> Duration = |_| Duration::from_millis(20);
    // Of the uneven one the mean and four mean deviations: 10.5 and 4 x 5.
    for (name, latency, latency_ms) in
        [("1", one_ms, 1.0), ("20", twenty_ms, 20.0), ("1 to 20", uneven, 30.5)]
    {
        let keys: Vec<Key> = (0..READS).map(|n| key(&format!("k{n}"))).collect();
        let future = Arc::new(Trace::new(keys.iter().cloned()));
        let options = CacheOptions {
            prefetch: Some(Box::new(prefetch::Ordered::new(future))),
            prefetch_size: ByteSize::mib(64),
            prefetches_max: 1000,
            ..immutable()
        };
        let source = Arc::new(MapSource::with_latency(latency));
        let cache = Cache::new(source, ByteSize::mib(128), options);
        let value = Bytes::from(vec![1; 100_000]);
        for key in &keys {
            cache.source().write(key, value.clone());
        }
        let object = (value.len() as u64 + ENTRY) as f64;
        let (mut waited, mut most, mut sum) = (Duration::ZERO, 0.0f64, 0.0);
        for (n, key) in keys.iter().enumerate() {
            sleep(Duration::from_millis(1)).await;
            let began = Instant::now();
            cache.get(key).await.unwrap();
            if n >= WARM_UP {
                waited += began.elapsed();
                let here = cache.counters().bytes_prefetched as f64 / object;
                let ahead = here + cache.source().in_flight() as f64;
                (most, sum) = (most.max(ahead), sum + ahead);
            }
        }
        let mean = sum / (keys.len() - WARM_UP) as f64;
        println!("{name} ms: {mean:.1} objects ahead, {most:.1} at most, {waited:?} waited");
        assert_eq!(waited, Duration::ZERO, "{name} ms");
        // What is measured of the uneven one swings.
        let bound = 2.0 * latency_ms + 2.0;
        let is_bounded = mean <= 1.1 * bound && most <= 1.3 * bound;
        assert!(is_bounded, "{name} ms: {mean} ahead, {most} at most, {bound} needed");
        assert!(mean >= latency_ms.min(20.0), "{name} ms: {mean} objects ahead");
    }
}

#[tokio::test(start_paused = true)]
async fn reads_at_random_fetch_nothing_else() {
    // Never forward by less than 16.
    let reads: Vec<u64> = (0..200).map(|n| n * 77 % 200).collect();
    let policy = Box::new(Sequential::new(SetName::new("s").unwrap(), 200));
    let cache = read_in_turn(&reads[1..], policy, ten_ms).await;
    assert_eq!((cache.source().gets(), cache.counters().prefetched), (199, 0));
}

/// Keeps the keys that it hears of, and guesses one.
#[derive(Debug)]
struct Heard(Arc<parking_lot::Mutex<Vec<Key>>>);

impl Prefetch for Heard {
    fn on_access(&mut self, key: &Key, _hit: bool, ahead: &mut Ahead) {
        self.0.lock().push(key.clone());
        ahead.push(super::key("guess"));
    }
}

#[tokio::test(start_paused = true)]
async fn hits_of_a_fast_reader_are_told_together_and_none_is_lost() {
    let heard = Arc::new(parking_lot::Mutex::default());
    let options =
        CacheOptions { prefetch: Some(Box::new(Heard(Arc::clone(&heard)))), ..immutable() };
    let cache = cache_of(MapSource::default(), options);
    let names = ["a", "b", "c", "guess", "d", "e"].map(key);
    for name in &names {
        cache.source().write(name, vec![1; 1000]);
    }
    let get = async |n: usize| drop(cache.get(&names[n]).await.unwrap());
    let told = |read: &[usize]| {
        let read: Vec<Key> = read.iter().map(|n| names[*n].clone()).collect();
        std::mem::take(&mut *heard.lock()) == read
    };
    for n in [0, 1, 2] {
        get(n).await;
    }
    // A million a second: what is read in 10 us may be told late.
    for _ in 0..20 {
        for n in 0..1000 {
            get(n % 3).await;
        }
        sleep(Duration::from_millis(1)).await;
    }
    // A miss is told at once, and with it all before.
    get(4).await;
    heard.lock().clear();
    let mut read: Vec<usize> = (0..300).map(|n| n * n % 7 % 3).collect();
    let mut waiting_max = 0;
    for (n, of) in (1..).zip(&read) {
        get(*of).await;
        waiting_max = waiting_max.max(n - heard.lock().len());
    }
    assert!((8..=10).contains(&waiting_max), "{waiting_max}");
    // So is the first read of a guess, also where the next hit may be told later.
    loop {
        let before = heard.lock().len();
        get(1).await;
        read.push(1);
        if heard.lock().len() == before {
            break;
        }
    }
    get(3).await;
    read.push(3);
    assert_eq!(cache.counters().prefetched_used, 1);
    assert!(told(&read));
    // And of what leaves before its read is told.
    get(2).await;
    let desk = &cache.owner.shared.desk;
    let hash = desk.table.hash(&names[0]);
    desk.with(|state| {
        assert!(desk.hit_untold(hash, &names[0]).is_some());
        state.shelf.forget(hash, &names[0]);
    });
    get(5).await;
    assert!(told(&[2, 0, 5]));
    // One that turns slow is late once.
    for n in 0..20 {
        sleep(Duration::from_millis(1)).await;
        get(n % 2 + 1).await;
    }
    heard.lock().clear();
    for n in [1, 2, 2, 1] {
        sleep(Duration::from_millis(1)).await;
        get(n).await;
        assert!(told(&[n]));
    }
    let counters = cache.counters();
    assert_eq!(counters.hits + counters.misses, 20_000 + read.len() as u64 + 31, "{counters:?}");
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
