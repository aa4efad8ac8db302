//! Many objects at a time, and fetches that nobody waits for.

use super::*;

fn named(cache: &Cache<Arc<MapSource>>, names: &[&str]) -> Vec<Key> {
    let keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
    for key in &keys {
        cache.source().write(key, key.to_bytes());
    }
    keys
}

#[tokio::test(start_paused = true)]
async fn what_is_absent_comes_with_one_request() {
    for freshness in [Freshness::Immutable, Freshness::TimeToLive(Duration::from_secs(9))] {
        let options = CacheOptions { freshness, ..CacheOptions::default() };
        let cache = cache_of(MapSource::with_latency(ten_ms), options);
        let keys = named(&cache, &["a", "b", "c", "d"]);
        cache.get(&keys[1]).await.unwrap();
        let asked = [key("d"), key("b"), key("none"), key("a"), key("d"), key("c")];
        let began = Instant::now();
        let answers = cache.get_many(&asked).await;
        assert_eq!(began.elapsed(), Duration::from_millis(10));
        for (key, answer) in asked.iter().zip(&answers) {
            match answer {
                Ok(object) => assert_eq!(object.value, key.as_bytes()),
                Err(error) => {
                    assert_eq!((error.kind(), key.as_bytes()), (Kind::NotFound, &b"none"[..]));
                }
            }
        }
        assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
        assert_eq!((cache.source().batches(), cache.source().gets()), (vec![4], 1));
        let counters = cache.counters();
        assert_eq!((counters.hits, counters.misses, counters.fetches), (1, 6, 5));
        assert!(cache.get_many(&keys).await.iter().all(Result::is_ok));
        assert_eq!((cache.source().batches().len(), cache.counters().hits), (1, 5));
        assert!(cache.get_many(&[]).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn batches_and_single_gets_share_their_fetches() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    let keys = named(&cache, &["a", "b", "c"]);
    let (first, both) = (cache.clone(), keys[..2].to_vec());
    let first = tokio::spawn(async move { first.get_many(&both).await });
    sleep(Duration::from_millis(2)).await;
    let one = cache.get(&keys[0]);
    let (one, many) = tokio::join!(one, cache.get_many(&keys));
    assert_eq!(one.unwrap().value, "a");
    assert!(many.iter().all(Result::is_ok));
    assert!(first.await.unwrap().iter().all(Result::is_ok));
    assert_eq!((cache.source().batches(), cache.source().gets()), (vec![2, 1], 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_sees_every_write_that_ended_before_it() {
    let cache = cache_of(MapSource::with_latency(ten_ms), CacheOptions::default());
    let keys = named(&cache, &["a", "b", "c"]);
    cache.get(&keys[0]).await.unwrap();
    let (early, two) = (cache.clone(), keys[1].clone());
    let early = tokio::spawn(async move { early.get(&two).await });
    sleep(Duration::from_millis(5)).await;
    for key in &keys {
        cache.source().write(key, "new");
    }
    for answer in cache.get_many(&keys).await {
        assert_eq!(answer.unwrap().value, "new");
    }
    assert_eq!(early.await.unwrap().unwrap().value, "b");
    // `a` is held and has its version checked, `b` was in flight too early.
    assert_eq!((cache.source().batches(), cache.source().checks()), (vec![1], 2));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_given_up_fills_the_cache_still() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    let keys = named(&cache, &["a", "b"]);
    let limit = Duration::from_millis(1);
    assert!(tokio::time::timeout(limit, cache.get_many(&keys)).await.is_err());
    sleep(Duration::from_millis(20)).await;
    assert!(keys.iter().all(|key| cache.try_get(key).is_some()));
    assert_eq!(cache.source().batches(), [2]);
    cache.close().await;
    let answers = cache.get_many(&[key("a"), key("z")]).await;
    assert_eq!(answers[0].as_ref().unwrap().value, "a");
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), Kind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_when_nobody_waits_and_nothing_of_it_would_be_kept() {
    let options = CacheOptions { fetches_max: 1, ..immutable() };
    let cache = cache_of(MapSource::with_latency(|_| Duration::from_secs(3600)), options);
    let a = key("a");
    assert!(tokio::time::timeout(Duration::from_millis(1), cache.get(&a)).await.is_err());
    assert_eq!(cache.source().in_flight(), 1);
    cache.invalidate(&a);
    tokio::task::yield_now().await;
    assert_eq!(cache.source().in_flight(), 0);
    assert_eq!(cache.owner.shared.fetches.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fetches_nothing_itself_keeps_no_fetch_waiting() {
    let options = CacheOptions { fetches_max: 1, ..CacheOptions::default() };
    let cache = cache_of(MapSource::with_latency(ten_ms), options);
    let keys = named(&cache, &["a", "b"]);
    for _ in 0..2 {
        // The second time both are held, and each has its version checked.
        let answers = tokio::time::timeout(Duration::from_secs(1), cache.get_many(&keys)).await;
        assert!(answers.unwrap().iter().all(Result::is_ok));
    }
    assert_eq!((cache.source().batches(), cache.source().checks()), (vec![2], 2));
    assert_eq!((cache.counters().hits, cache.counters().misses), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_asks_for_is_no_guess() {
    let set = SetName::new("s").unwrap();
    let prefetch = Sequential::new(set.clone(), 50).with_objects_ahead(4);
    let options = CacheOptions { prefetch: Some(Box::new(prefetch)), ..immutable() };
    let cache = cache_of(MapSource::with_latency(ten_ms), options);
    for index in 0..50 {
        cache.source().write(&set.object_key(index), "x");
    }
    cache.put(&set.object_key(10), "x".into()).await.unwrap();
    // The first is held: at its read the policy names the others.
    let keys: Vec<Key> = (10..14).map(|n| set.object_key(n)).collect();
    assert!(cache.get_many(&keys).await.iter().all(Result::is_ok));
    assert_eq!((cache.source().batches(), cache.counters().prefetched_late), (vec![3], 0));
}
