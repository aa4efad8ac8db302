//! Order, overlap, budget, errors.

use super::*;
use crate::cache::map_source::MapSource;
use crate::cache::{Cache, CacheOptions, Freshness};
use crate::iter::{EpochSeed, Epochs, Sequential, Shuffled};
use crate::key::{Key, Version};
use crate::set::pack;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Record `index`, of 1 to 200 bytes.
fn bytes_of(index: u64) -> Vec<u8> {
    let len = usize::try_from(index * 7919 % 200).unwrap();
    let mut bytes = vec![b'x'; len];
    bytes.extend(index.to_le_bytes());
    bytes
}

/// Writes the set `s` of `count` records.
fn filled(source: MapSource, count: u64, packing: u32) -> (Arc<MapSource>, Set) {
    let manifest = Manifest::empty().with_count(count).with_packing(packing).unwrap();
    let name = SetName::new("s").unwrap();
    source.write(&name.manifest_key(), manifest.to_bytes());
    for object in 0..manifest.objects() {
        let first = object * u64::from(packing);
        let last = count.min(first + u64::from(packing));
        let records: Vec<Vec<u8>> = (first..last).map(bytes_of).collect();
        let value = if packing == 1 { records[0].clone().into() } else { pack(&records).unwrap() };
        source.write(&name.object_key(object), value);
    }
    (Arc::new(source), Set::new(name, manifest))
}

fn random_ms(key: &Key) -> Duration {
    let mixed = key.as_bytes().iter().fold(7u64, |n, b| (n ^ u64::from(*b)).wrapping_mul(0x9E37));
    Duration::from_micros(mixed % 20_000)
}

async fn read_all<S: Source>(records: &mut Records<S>) -> Vec<(u64, u64)> {
    let mut read = Vec::new();
    while let Some(record) = records.next().await {
        let Record { position, index, bytes } = record.unwrap();
        assert_eq!(bytes, bytes_of(index));
        read.push((position, index));
        assert_eq!(records.position(), position + 1);
    }
    assert!(records.next().await.is_none());
    assert_eq!((records.window.held_bytes, records.window.is_bare()), (0, true));
    read
}

fn shuffled(count: u64) -> Arc<dyn Order> {
    Arc::new(Shuffled::new(EpochSeed { seed: 3, epoch: 1 }, count))
}

#[tokio::test(start_paused = true)]
async fn the_order_holds_whatever_the_delays() {
    for packing in [1, 7] {
        let (source, set) = filled(MapSource::with_latency(random_ms), 500, packing);
        let orders = [shuffled(500), Arc::new(Sequential::new(500))];
        for order in orders {
            let options = RecordsOptions::default();
            let positions = 0..u64::MAX;
            let mut records =
                Records::new(source.clone(), set.clone(), order.clone(), positions, options);
            let expected: Vec<(u64, u64)> =
                (0..500).map(|at| (at, order.record(at).unwrap())).collect();
            assert_eq!(read_all(&mut records).await, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn k_gets_in_flight_hide_the_latency_k_times() {
    let one_ms: fn(&Key) -> Duration = |_| Duration::from_millis(1);
    let (source, set) = filled(MapSource::with_latency(one_ms), 6400, 1);
    let options = RecordsOptions { gets_max: 64, ..RecordsOptions::default() };
    let mut records = Records::new(source.clone(), set, shuffled(6400), 0..6400, options);
    let began = Instant::now();
    assert_eq!(read_all(&mut records).await.len(), 6400);
    let millis = began.elapsed().as_millis();
    // 100 rounds of 64, and one for the first get, which shows how large objects are.
    assert!((100..=104).contains(&millis), "{millis} ms");
    assert_eq!(source.in_flight_max(), 64);
}

#[tokio::test(start_paused = true)]
async fn gets_move_on_while_the_reader_is_busy() {
    let ten_ms: fn(&Key) -> Duration = |_| Duration::from_millis(10);
    let (source, set) = filled(MapSource::with_latency(ten_ms), 100, 1);
    let options = RecordsOptions { gets_max: 4, ..RecordsOptions::default() };
    let order = Arc::new(Sequential::new(100));
    let mut records = Records::new(source, set, order, 0..100, options);
    let began = Instant::now();
    while let Some(record) = records.next().await {
        record.unwrap();
        sleep(Duration::from_millis(10)).await;
    }
    let millis = began.elapsed().as_millis();
    assert!((1000..=1040).contains(&millis), "{millis} ms");
}

#[tokio::test(start_paused = true)]
async fn an_object_is_fetched_once_for_all_of_its_records_in_the_window() {
    let (source, set) = filled(MapSource::with_latency(random_ms), 1000, 100);
    let order = shuffled(1000);
    let mut records = Records::new(source.clone(), set, order, 0..1000, RecordsOptions::default());
    read_all(&mut records).await;
    let batched: u64 = source.batches().iter().map(|keys| *keys as u64).sum();
    assert_eq!(source.gets() + batched, 10);
}

/// Counts the bytes that were sent and not yet read.
#[derive(Debug)]
struct Meter {
    source: Arc<MapSource>,
    sent: AtomicU64,
}

impl Source for Meter {
    async fn get(&self, key: &Key) -> Result<Object> {
        // Counted as soon as it is asked for: what is in flight is ahead too.
        let bytes = self.source.current(key).map_or(0, |object| object.value.len() as u64);
        self.sent.fetch_add(bytes, SeqCst);
        self.source.get(key).await
    }

    async fn get_if_newer(&self, key: &Key, version: Version) -> Result<Option<Object>> {
        self.source.get_if_newer(key, version).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_ahead_stays_in_the_budget() {
    let (source, set) = filled(MapSource::with_latency(random_ms), 800, 1);
    let meter = Arc::new(Meter { source, sent: AtomicU64::new(0) });
    let options = RecordsOptions {
        ahead_size: ByteSize::new(2500),
        object_size_expected: ByteSize::new(208),
        ..RecordsOptions::default()
    };
    let mut records = Records::new(meter.clone(), set, shuffled(800), 0..800, options);
    let (mut read, mut ahead_max) = (0, 0);
    while let Some(record) = records.next().await {
        read += record.unwrap().bytes.len() as u64;
        sleep(Duration::from_micros(read % 900)).await;
        ahead_max = ahead_max.max(meter.sent.load(SeqCst) - read);
    }
    assert!((1800..=2500).contains(&ahead_max), "{ahead_max}");
}

#[tokio::test(start_paused = true)]
async fn one_object_larger_than_the_budget_is_read_all_the_same() {
    let (source, set) = filled(MapSource::with_latency(random_ms), 50, 10);
    let options = RecordsOptions { ahead_size: ByteSize::new(1), ..RecordsOptions::default() };
    let order = Arc::new(Sequential::new(50));
    let mut records = Records::new(source.clone(), set, order, 0..50, options);
    assert_eq!(read_all(&mut records).await.len(), 50);
    assert_eq!((source.gets(), source.in_flight_max()), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn an_error_names_the_object_and_the_next_call_tries_again() {
    let (source, set) = filled(MapSource::with_latency(random_ms), 20, 4);
    let key = set.name().object_key(1);
    let value = source.current(&key).unwrap().value;
    source.erase(&key);
    let order = Arc::new(Sequential::new(20));
    let mut records = Records::new(source.clone(), set, order, 0..20, RecordsOptions::default());
    for _ in 0..4 {
        records.next().await.unwrap().unwrap();
    }
    for _ in 0..2 {
        let error = records.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("s/000000000001"), "{error}");
        assert_eq!(records.position(), 4);
    }
    for (garbage, text) in [(vec![1, 2, 3], "header"), (pack(&["a"]).unwrap().into(), "slot 1")] {
        source.write(&key, garbage);
        let mut error = records.next().await.unwrap();
        if error.is_ok() {
            error = records.next().await.unwrap();
        }
        let error = error.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains(text), "{error}");
    }
    source.write(&key, value);
    let last = records.next().await.unwrap().unwrap();
    assert_eq!((last.position, last.bytes), (5, bytes_of(5).into()));
    assert_eq!(read_all(&mut records).await.len(), 14);
}

#[derive(Debug)]
struct Backwards(u64);

impl Order for Backwards {
    fn len(&self) -> u64 {
        self.0
    }

    fn record(&self, position: u64) -> Option<u64> {
        self.0.checked_sub(1)?.checked_sub(position)
    }
}

#[tokio::test(start_paused = true)]
async fn orders_are_user_code_and_may_be_wrong() {
    let (source, set) = filled(MapSource::default(), 10, 3);
    let options = RecordsOptions::default();
    let order = Arc::new(Backwards(10));
    let mut records = Records::new(source.clone(), set.clone(), order, 2..5, options);
    assert_eq!(read_all(&mut records).await, [(2, 7), (3, 6), (4, 5)]);

    let beyond = Arc::new(Sequential::new(12));
    let mut records = Records::new(source, set, beyond, 8..12, options);
    assert!(records.next().await.unwrap().is_ok());
    assert!(records.next().await.unwrap().is_ok());
    let error = records.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), records.position()), (Kind::Invalid, 10));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_is_not_read() {
    for (packing, count) in [(1, 500), (7, 500)] {
        let (source, set) = filled(MapSource::with_latency(random_ms), count, packing);
        let order = shuffled(count);
        let expected: Vec<u64> = (0..count).map(|at| order.record(at).unwrap()).collect();
        let options = RecordsOptions { ahead_size: ByteSize::kib(8), ..RecordsOptions::default() };
        let mut records = Records::new(source, set, order, 0..count, options);
        let mut read = Vec::new();
        // Within what is planned, beyond it, and before anything is.
        for skip in [5, 1, 0, 3, 200, 17, 0, 100] {
            records.skip(skip);
            read.extend((0..skip).map(|_| None));
            let position = records.position();
            let record = records.next().await.unwrap().unwrap();
            assert_eq!((record.position, records.position()), (position, position + 1));
            assert_eq!(record.bytes, bytes_of(record.index));
            read.push(Some(record.index));
        }
        for (at, index) in read.iter().enumerate() {
            assert!(index.is_none_or(|index| index == expected[at]), "{at}");
        }
        records.skip(u64::MAX);
        assert!(records.next().await.is_none());
        assert_eq!((records.position(), records.window.is_bare()), (count, true));
    }
}

#[tokio::test(start_paused = true)]
async fn readers_go_on_in_another_number_and_read_the_one_order() {
    let (source, set) = filled(MapSource::with_latency(random_ms), 150, 4);
    let make = |epoch| Arc::new(Shuffled::new(EpochSeed { seed: 9, epoch }, 150)) as Arc<dyn Order>;
    let order: Arc<dyn Order> = Arc::new(Epochs::new(4, make));
    let expected: Vec<u64> = (0..600).map(|at| order.record(at).unwrap()).collect();
    let mut read = Vec::new();
    let mut state: Option<State> = None;
    // 600 positions are nine batches of 64 and a shorter one.
    for (of, batches) in [(7, 3), (2, 4), (64, 2), (1, 1)] {
        let mut ranks = Vec::new();
        for rank in 0..of {
            let (share, options) = (Share::new(rank, of, 64).unwrap(), RecordsOptions::default());
            let (source, set, order) = (source.clone(), set.clone(), order.clone());
            ranks.push(match &state {
                None => Records::of_share(source, set, order, share, options),
                Some(state) => Records::resume(source, set, order, share, state, options).unwrap(),
            });
        }
        let first = read.len() / 64;
        for batch in first..first + batches {
            for reader in &mut ranks {
                while reader.position() < (64 * (batch + 1)).min(600) as u64 {
                    read.push(reader.next().await.unwrap().unwrap().index);
                }
            }
        }
        let states: Vec<State> = ranks.iter().map(Records::state).collect();
        assert!(states.iter().all(|other| *other == states[0]), "{states:?}");
        state = Some(states[0]);
    }
    assert_eq!(read, expected);
    let other = Records::resume(
        source,
        set,
        shuffled(150),
        Share::WHOLE,
        &state.unwrap(),
        RecordsOptions::default(),
    );
    assert_eq!(other.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_reader_whose_part_of_the_last_batch_is_not_its_end_is_at_the_end() {
    let (source, set) = filled(MapSource::default(), 20, 4);
    let order: Arc<dyn Order> = Arc::new(Sequential::new(20));
    for (rank, last) in [(0, 16), (1, 17), (2, 19)] {
        let share = Share::new(rank, 3, 16).unwrap();
        let (source, set, order) = (source.clone(), set.clone(), order.clone());
        let mut records = Records::of_share(source, set, order, share, RecordsOptions::default());
        let mut read = 0;
        while let Some(record) = records.next().await {
            read = record.unwrap().position;
        }
        assert_eq!((read, records.position()), (last, 20));
    }
}

#[tokio::test]
async fn a_set_is_opened_by_its_manifest() {
    let (source, set) = filled(MapSource::default(), 10, 3);
    let opened = open_set(&*source, set.name().clone()).await.unwrap();
    assert_eq!(opened.manifest(), set.manifest());
    let absent = open_set(&*source, SetName::new("t").unwrap()).await.unwrap_err();
    assert_eq!(absent.kind(), Kind::NotFound);
    assert!(absent.to_string().contains("`t`"), "{absent}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn stopping_and_going_on_reads_each_position_once(
        count in 0u64..60, packing in 1u32..9, stop in 0usize..70, ahead in 0u64..2000,
        gets_max in 0usize..9, cached: bool,
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::time::pause();
            let (source, set) = filled(MapSource::with_latency(random_ms), count, packing);
            let freshness = if cached { Freshness::Immutable } else { Freshness::VersionCheck };
            let options = CacheOptions { freshness, ..CacheOptions::default() };
            let cache = Arc::new(Cache::new(source, ByteSize::kib(4), options));
            let options = RecordsOptions {
                gets_max,
                ahead_size: ByteSize::new(ahead),
                ..RecordsOptions::default()
            };
            let reader = |from| {
                Records::new(cache.clone(), set.clone(), shuffled(count), from..count, options)
            };
            let mut first = reader(0);
            let mut read = Vec::new();
            for _ in 0..stop {
                // A caller that gives up halfway loses nothing.
                let limit = Duration::from_millis(5);
                match tokio::time::timeout(limit, first.next()).await {
                    Ok(Some(record)) => read.push(record.unwrap().position),
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
            let mut second = reader(first.position());
            drop(first);
            read.extend(read_all(&mut second).await.into_iter().map(|(position, _)| position));
            assert_eq!(read, (0..count).collect::<Vec<_>>());
        });
    }
}
