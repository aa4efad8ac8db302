//! Writes: through and later, what becomes of those that fail, and ranges and invalidation.

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn write_back(values: u64) -> CacheOptions {
    CacheOptions { dirty_size: ByteSize::new(values * (ENTRY + 2)), ..immutable() }
}

fn text(object: &Object) -> &str {
    std::str::from_utf8(&object.value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_accepted_value_is_read_at_once_and_stored_by_flush() {
    let freshnesses = [Freshness::Immutable, Freshness::VersionCheck, Freshness::TimeToLive(MS(1))];
    for freshness in freshnesses {
        let options = CacheOptions { freshness, ..write_back(10) };
        let cache = cache_of(MapSource::with_latency(ten_ms), options);
        let (a, b) = (key("a"), key("b"));
        cache.source().write(&a, "0");
        cache.get(&a).await.unwrap();
        let began = Instant::now();
        cache.put_back(&a, "1".into()).await.unwrap();
        cache.put_back(&b, "2".into()).await.unwrap();
        let object = cache.get(&a).await.unwrap();
        assert_eq!((text(&object), object.version), ("1", Version(0)));
        assert_eq!(cache.get_range(&b, 0, 9).await.unwrap().value, "2");
        assert_eq!(text(cache.get_many(std::slice::from_ref(&a)).await[0].as_ref().unwrap()), "1");
        assert_eq!((began.elapsed(), cache.counters().bytes_dirty), (MS(0), 2 * (ENTRY + 2)));
        assert_eq!(cache.source().current(&a).unwrap().value, "0");
        cache.flush().await.unwrap();
        assert_eq!((began.elapsed(), cache.counters().bytes_dirty), (MS(10), 0));
        for (key, value) in [(&a, "1"), (&b, "2")] {
            let stored = cache.source().current(key).unwrap();
            assert_eq!(stored.value, value);
            assert_eq!(cache.get(key).await.unwrap().version, stored.version);
        }
        cache.flush().await.unwrap();
        assert_eq!(cache.source().puts(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn of_values_of_one_key_the_last_is_written() {
    let cache = cache_of(MapSource::with_latency(ten_ms), write_back(3));
    let a = key("a");
    for n in 0..100 {
        cache.put_back(&a, format!("{}", n % 10).into()).await.unwrap();
        // The first is being written from here on; the others come to one write.
        tokio::task::yield_now().await;
    }
    cache.flush().await.unwrap();
    assert_eq!(cache.source().current(&a).unwrap().value, "9");
    assert_eq!((cache.source().puts(), cache.source().in_flight_max()), (2, 1));
    assert_eq!((cache.get(&a).await.unwrap().value, cache.source().gets()), ("9".into(), 0));
}

#[tokio::test(start_paused = true)]
async fn who_writes_faster_than_the_source_waits() {
    let cache = cache_of(MapSource::with_latency(ten_ms), write_back(3));
    let began = Instant::now();
    let keys: Vec<Key> = ('a'..='l').map(|name| key(&name.to_string())).collect();
    let put = |key: &Key| {
        let (cache, key) = (cache.clone(), key.clone());
        async move {
            cache.put_back(&key, "x".into()).await.unwrap();
            assert!(cache.counters().bytes_dirty <= 3 * (ENTRY + 2));
        }
    };
    join_all(keys.iter().map(put)).await;
    assert_eq!(began.elapsed(), MS(30));
    cache.flush().await.unwrap();
    assert_eq!((began.elapsed(), cache.source().puts()), (MS(40), 12));
    // What has no room however long it waits is written through, as is everything by default.
    cache.put_back(&keys[0], vec![7; 2000].into()).await.unwrap();
    assert_eq!(cache.source().current(&keys[0]).unwrap().value.len(), 2000);
    let through = cache_of(MapSource::with_latency(ten_ms), immutable());
    through.put_back(&keys[0], "y".into()).await.unwrap();
    assert_eq!(through.source().current(&keys[0]).unwrap().value, "y");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_handed_back_once() {
    let cache = cache_of(MapSource::with_latency(ten_ms), write_back(10));
    let (a, b, c) = (key("a"), key("b"), key("c"));
    cache.source().refuse(&a, true);
    cache.put_back(&a, "1".into()).await.unwrap();
    cache.put_back(&b, "2".into()).await.unwrap();
    sleep(MS(20)).await;
    // It is still here, and nothing more is accepted.
    assert_eq!(cache.get(&a).await.unwrap().value, "1");
    for error in [
        cache.put_back(&c, "3".into()).await.unwrap_err(),
        cache.put(&a, "3".into()).await.unwrap_err(),
        cache.delete(&a).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::OutOfMemory);
        assert!(error.to_string().contains("flush"), "{error}");
    }
    let (first, second) = tokio::join!(cache.flush(), cache.flush());
    let mut errors = [first.unwrap_err(), second.unwrap_err()];
    errors.sort_by_key(|error| error.unwritten.len());
    assert_eq!((errors[0].unwritten.len(), errors[0].elsewhere), (0, 1));
    assert_eq!((errors[1].unwritten.len(), errors[1].elsewhere), (1, 0));
    let unwritten = &errors[1].unwritten[0];
    assert_eq!((&unwritten.key, &unwritten.value[..]), (&a, &b"1"[..]));
    assert_eq!(unwritten.error.kind(), Kind::OutOfMemory);
    assert!(errors[1].to_string().contains("refused"), "{}", errors[1]);
    // It was tried again, and is forgotten.
    assert_eq!(cache.source().puts(), 3);
    assert_eq!(cache.get(&a).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(cache.counters().bytes_dirty, 0);
    cache.flush().await.unwrap();

    cache.put_back(&a, "4".into()).await.unwrap();
    sleep(MS(20)).await;
    cache.source().refuse(&a, false);
    cache.flush().await.unwrap();
    assert_eq!(cache.source().current(&a).unwrap().value, "4");
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_that_a_later_value_replaces_is_no_failure() {
    let cache = cache_of(MapSource::with_latency(ten_ms), write_back(10));
    let a = key("a");
    cache.source().refuse(&a, true);
    cache.put_back(&a, "1".into()).await.unwrap();
    sleep(MS(6)).await;
    cache.put_back(&a, "2".into()).await.unwrap();
    cache.source().refuse(&a, false);
    cache.flush().await.unwrap();
    assert_eq!((cache.source().current(&a).unwrap().value, cache.source().puts()), ("2".into(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_dropped_loses_nothing_silently() {
    let source = Arc::new(MapSource::with_latency(ten_ms));
    let cache = Cache::new(Arc::clone(&source), ByteSize::mib(1), write_back(200));
    let keys: Vec<Key> = (100..200).map(|n| key(&format!("{n}"))).collect();
    for key in &keys {
        cache.put_back(key, "x".into()).await.unwrap();
    }
    source.refuse(&keys[3], true);
    source.refuse(&keys[99], true);
    drop(cache);
    let mut unwritten = source.unwritten().await;
    unwritten.sort_by_key(|unwritten| unwritten.key.clone());
    let failed: Vec<&Key> = unwritten.iter().map(|unwritten| &unwritten.key).collect();
    assert_eq!(failed, [&keys[3], &keys[99]]);
    assert!(unwritten.iter().all(|unwritten| unwritten.value == "x"));
    assert_eq!(keys.iter().filter(|key| source.current(key).is_some()).count(), 98);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_was_accepted() {
    let cache = cache_of(MapSource::with_latency(ten_ms), write_back(1));
    let (a, b) = (key("a"), key("b"));
    cache.put_back(&a, "1".into()).await.unwrap();
    let (waiting, name) = (cache.clone(), b.clone());
    let waiting = tokio::spawn(async move { waiting.put_back(&name, "2".into()).await });
    sleep(MS(1)).await;
    cache.close().await;
    assert_eq!(cache.source().current(&a).unwrap().value, "1");
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), Kind::Closed);
    assert_eq!(cache.put_back(&b, "2".into()).await.unwrap_err().kind(), Kind::Closed);
    cache.flush().await.unwrap();
    drop(cache);
}

/// A source whose puts panic.
struct Panics(MapSource);

impl Source for Panics {
    async fn get(&self, key: &Key) -> Result<Object> {
        self.0.get(key).await
    }

    async fn get_if_newer(&self, key: &Key, version: Version) -> Result<Option<Object>> {
        self.0.get_if_newer(key, version).await
    }
}

impl Sink for Panics {
    async fn put(&self, _key: &Key, _value: Bytes) -> Result<Version> {
        panic!("the sink's own panic")
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.0.delete(key).await
    }

    fn adopt(
        &self,
        writes: futures_util::future::BoxFuture<'static, Vec<crate::client::Unwritten>>,
    ) {
        self.0.adopt(writes);
    }
}

#[tokio::test]
async fn a_sink_that_panics_loses_nothing_either() {
    let cache = Cache::new(Panics(MapSource::default()), ByteSize::mib(1), write_back(300));
    // More than are written at a time.
    for n in 0..70 {
        cache.put_back(&key(&format!("{n}")), "x".into()).await.unwrap();
    }
    let error = cache.flush().await.unwrap_err();
    assert_eq!(error.unwritten.len(), 70);
    assert!(error.unwritten.iter().all(|unwritten| unwritten.error.kind() == Kind::Closed));
    assert_eq!(cache.counters().bytes_dirty, 0);
}

/// A put whose answer comes after a delete has ended brings nothing back.
#[tokio::test(start_paused = true)]
async fn a_late_answer_to_a_put_does_not_bring_back_what_was_deleted() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    let a = key("a");
    let (slow, name) = (cache.clone(), a.clone());
    let slow = tokio::spawn(async move { slow.put(&name, "1".into()).await });
    sleep(MS(7)).await;
    cache.delete(&a).await.unwrap();
    slow.await.unwrap().unwrap();
    assert_eq!(cache.get(&a).await.unwrap_err().kind(), Kind::NotFound);
    // Alone a put is kept.
    cache.put(&a, "2".into()).await.unwrap();
    assert_eq!((cache.get(&a).await.unwrap().value, cache.source().gets()), ("2".into(), 1));
}

/// A get that was sent before a write ended keeps nothing: it may bring what was there before.
#[tokio::test(start_paused = true)]
async fn a_late_answer_to_a_get_does_not_bring_back_what_was_deleted() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    let a = key("a");
    cache.source().write(&a, "1");
    let delete = cache.write_with(&a, async {
        sleep(MS(5)).await;
        cache.source().delete(&a).await
    });
    let get = async {
        sleep(MS(1)).await;
        cache.get(&a).await
    };
    let (deleted, got) = tokio::join!(delete, get);
    deleted.unwrap();
    assert_eq!(got.unwrap().value, "1");
    assert_eq!(cache.get(&a).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_to_a_get_does_not_hide_what_was_accepted() {
    let cache = cache_of(MapSource::with_latency(ten_ms), write_back(3));
    let a = key("a");
    cache.source().write(&a, "1");
    let write = async {
        sleep(MS(5)).await;
        cache.put_back(&a, "2".into()).await.unwrap();
        // The get has been answered, and the write has not.
        sleep(MS(7)).await;
        assert_eq!(cache.source().in_flight(), 1);
        cache.get(&a).await
    };
    let (before, after) = tokio::join!(cache.get(&a), write);
    assert_eq!((before.unwrap().value, after.unwrap().value), ("1".into(), "2".into()));
}

/// The same of a write that was given up when the source had carried it out.
#[tokio::test(start_paused = true)]
async fn a_late_answer_to_a_get_is_not_kept_after_a_put_that_was_given_up() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    let a = key("a");
    cache.source().write(&a, "1");
    let put = tokio::time::timeout(MS(7), cache.put(&a, "2".into()));
    let get = async {
        sleep(MS(1)).await;
        cache.get(&a).await
    };
    let (put, got) = tokio::join!(put, get);
    assert!(put.is_err());
    assert_eq!((got.unwrap().value, cache.get(&a).await.unwrap().value), ("1".into(), "2".into()));
}

/// The same of an accepted value that the source has, although it answered with an error.
#[tokio::test(start_paused = true)]
async fn a_late_answer_to_a_get_is_not_kept_after_a_value_was_handed_back() {
    // The first to ask is slow.
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let latency = move |_: &Key| {
        MS(if is_first.swap(false, std::sync::atomic::Ordering::Relaxed) { 50 } else { 10 })
    };
    let cache = cache_of(MapSource::with_latency(latency), write_back(3));
    let a = key("a");
    cache.source().write(&a, "1");
    cache.source().refuse(&a, true);
    let write = async {
        sleep(MS(1)).await;
        cache.put_back(&a, "2".into()).await.unwrap();
        cache.source().write(&a, "2");
        cache.flush().await
    };
    let (got, flushed) = tokio::join!(cache.get(&a), write);
    assert_eq!((got.unwrap().value, flushed.unwrap_err().unwritten.len()), ("1".into(), 1));
    assert_eq!(cache.get(&a).await.unwrap().value, "2");
}

#[tokio::test(start_paused = true)]
async fn a_put_that_was_given_up_leaves_nothing_under_way() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    let a = key("a");
    assert!(tokio::time::timeout(MS(3), cache.put(&a, "1".into())).await.is_err());
    cache.put(&a, "2".into()).await.unwrap();
    assert_eq!((cache.get(&a).await.unwrap().value, cache.source().gets()), ("2".into(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_write_of_the_sources_own_comes_after_what_was_accepted() {
    let cache = cache_of(MapSource::with_latency(ten_ms), write_back(3));
    let a = key("a");
    cache.put_back(&a, "1".into()).await.unwrap();
    let source = Arc::clone(cache.source());
    let append = async {
        let before = source.current(&a).unwrap().value;
        Ok(source.write(&a, [&before[..], b"2"].concat()))
    };
    let version = cache.write_with(&a, append).await.unwrap();
    let object = cache.get(&a).await.unwrap();
    assert_eq!((text(&object), object.version), ("12", version));
}

#[tokio::test(start_paused = true)]
async fn a_cache_over_a_cache_sees_versions_only() {
    let inner = cache_of(MapSource::with_latency(ten_ms), write_back(3));
    let outer = Cache::new(inner.clone(), ByteSize::mib(1), CacheOptions::default());
    let a = key("a");
    for value in ["1", "2", "3"] {
        inner.put_back(&a, value.into()).await.unwrap();
        let object = outer.get(&a).await.unwrap();
        assert_eq!((text(&object), object.version > Version(0)), (value, true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_is_served_from_what_is_held_and_else_passes_by() {
    let cache = cache_of(MapSource::with_latency(ten_ms), immutable());
    let a = key("a");
    cache.source().write(&a, "0123456789");
    let ranges = [(0, 3, "012"), (8, 5, "89"), (10, 1, ""), (99, 1, ""), (2, u64::MAX, "23456789")];
    for held in [false, true] {
        for (offset, len, expected) in ranges {
            assert_eq!(cache.get_range(&a, offset, len).await.unwrap().value, expected);
        }
        let counters = cache.counters();
        assert_eq!(counters.hits + counters.misses, if held { 12 } else { 5 });
        assert_eq!((counters.entries, cache.source().gets()), if held { (1, 6) } else { (0, 5) });
        if !held {
            // One that is on its way is waited for.
            let (whole, range) = tokio::join!(cache.get(&a), cache.get_range(&a, 1, 2));
            assert_eq!((whole.unwrap().value.len(), text(&range.unwrap())), (10, "12"));
        }
    }
    let error = cache.get_range(&key("none"), 0, 1).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    cache.close().await;
    assert_eq!(cache.get_range(&key("b"), 0, 1).await.unwrap_err().kind(), Kind::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_begins_with_a_prefix_is_invalidated() {
    let options = CacheOptions { dirty_size: ByteSize::kib(100), ..immutable() };
    let cache = cache_of(MapSource::with_latency(ten_ms), options);
    let names = ["a/1", "a/2", "b/1", "a"];
    for name in names {
        cache.source().write(&key(name), "old");
        cache.get(&key(name)).await.unwrap();
        cache.source().write(&key(name), "new");
    }
    let fly = |name: &str| {
        let (cache, key) = (cache.clone(), key(name));
        tokio::spawn(async move { cache.get(&key).await })
    };
    cache.source().write(&key("a/3"), "old");
    let early = fly("a/3");
    sleep(MS(5)).await;
    cache.source().write(&key("a/3"), "new");
    cache.put_back(&key("a/4"), "accepted".into()).await.unwrap();
    cache.invalidate_prefix(b"a/");
    assert_eq!(early.await.unwrap().unwrap().value, "old");
    let expected = [
        ("a/1", "new"),
        ("a/2", "new"),
        ("a/3", "new"),
        ("a/4", "accepted"),
        ("b/1", "old"),
        ("a", "old"),
    ];
    for (name, value) in expected {
        assert_eq!(cache.get(&key(name)).await.unwrap().value, value, "{name}");
    }
    cache.flush().await.unwrap();
    cache.invalidate_prefix(b"");
    assert_eq!((cache.counters().entries, cache.counters().bytes), (0, 0));
    assert_eq!(cache.get(&key("b/1")).await.unwrap().value, "new");
    check_books(&cache);
}

#[tokio::test]
async fn a_flush_waits_for_what_another_one_tries_again() {
    let dirty = Arc::new(dirty::Dirty::new(1 << 20));
    let refused = || Error::new(Kind::Timeout, "the test says so");
    let dirty::Offer::Accepted { writer: Some(mut writer), .. } =
        dirty.offer(&key("a"), &"1".into())
    else {
        panic!("a value that is refused")
    };
    assert!(writer.next().is_some());
    let (_, first) = dirty.retry();
    writer.failed(refused());
    // It has failed; before the first flush hears of it, the second one tries it again.
    let (_, second) = dirty.retry();
    assert!(dirty.hand_back(&first).is_none());
    assert_eq!(writer.next().map(|(key, _)| key), Some(key("a")));
    writer.failed(refused());
    assert_eq!(dirty.hand_back(&second).unwrap().unwritten.len(), 1);
    let told = dirty.hand_back(&first).unwrap();
    assert_eq!((told.unwritten.len(), told.elsewhere), (0, 1));
    assert!(writer.next().is_none());
}
