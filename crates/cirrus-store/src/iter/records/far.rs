//! Readers of a far source: never waiting once warm, with little ahead, on the paused clock.

use super::*;
use crate::iter::{EpochSeed, Epochs, Sequential, Shuffled, Windowed};
use crate::key::{Key, Version};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tokio::time::sleep;

/// Objects of one size, so far away that any number of them takes the same time.
#[derive(Debug)]
struct Far {
    value: Bytes,
    latency: fn(u64) -> Duration,
    requests: AtomicU64,
    /// Bytes of objects that were asked for.
    asked: AtomicU64,
    /// How often each object was.
    gets: Mutex<Vec<u32>>,
}

impl Far {
    fn new(value: Bytes, objects: u64, latency: fn(u64) -> Duration) -> Arc<Self> {
        Arc::new(Self {
            value,
            latency,
            requests: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            gets: Mutex::new(vec![0; usize::try_from(objects).unwrap()]),
        })
    }

    fn answer(&self, key: &Key) -> Result<Object> {
        self.asked.fetch_add(self.value.len() as u64, SeqCst);
        let number = SetName::new("s").unwrap().index_of(key).unwrap();
        self.gets.lock()[usize::try_from(number).unwrap()] += 1;
        let (version, value) = (Version(1), self.value.clone());
        Ok(Object { value, version, expires_at: None, modified_at: None })
    }

    async fn travel(&self) {
        sleep((self.latency)(self.requests.fetch_add(1, SeqCst))).await;
    }
}

impl Source for Far {
    async fn get(&self, key: &Key) -> Result<Object> {
        let answer = self.answer(key);
        self.travel().await;
        answer
    }

    async fn get_if_newer(&self, key: &Key, _: Version) -> Result<Option<Object>> {
        self.get(key).await.map(Some)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Object>> {
        let answers = keys.iter().map(|key| self.answer(key)).collect();
        self.travel().await;
        answers
    }
}

/// What a reader went through once it was warm.
#[derive(Debug)]
struct Journey {
    waits: u64,
    /// The most bytes that were asked for and not handed out.
    ahead_max: u64,
    requests: u64,
}

const RECORD_BYTES: u64 = 4096;

/// Reads `records`, `per_ms` in each millisecond; the first `warm` are not looked at.
async fn read_at<S: Source>(
    records: &mut Records<S>,
    far: &Far,
    per_ms: u64,
    warm: u64,
) -> Journey {
    let mut journey = Journey { waits: 0, ahead_max: 0, requests: 0 };
    let (mut read, mut requests) = (0, 0);
    loop {
        let began = Instant::now();
        let Some(record) = records.next().await else { break };
        record.unwrap();
        let waited = began.elapsed();
        read += 1;
        if read >= warm {
            journey.waits += u64::from(!waited.is_zero());
            let ahead = far.asked.load(SeqCst) - read * RECORD_BYTES;
            journey.ahead_max = journey.ahead_max.max(ahead);
        } else {
            requests = far.requests.load(SeqCst);
        }
        if read % per_ms == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    journey.requests = far.requests.load(SeqCst) - requests;
    journey
}

fn set(count: u64, packing: u32) -> Set {
    let manifest = Manifest::empty().with_count(count).with_packing(packing).unwrap();
    Set::new(SetName::new("s").unwrap(), manifest)
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_far_source_waits_no_more_once_it_is_warm() {
    let near: fn(u64) -> Duration = |_| millis(1);
    let distant: fn(u64) -> Duration = |_| millis(20);
    for (latency, ms, per_ms) in [(near, 1, 16), (distant, 20, 16), (near, 1, 2), (distant, 20, 2)]
    {
        let count = per_ms * 5000;
        let far = Far::new(Bytes::from(vec![1; 4096]), count, latency);
        let order = Arc::new(Shuffled::new(EpochSeed { seed: 1, epoch: 0 }, count));
        let options = RecordsOptions::default();
        let mut records = Records::new(far.clone(), set(count, 1), order, 0..count, options);
        let journey = read_at(&mut records, &far, per_ms, per_ms * 2000).await;
        assert_eq!(journey.waits, 0, "{ms} ms, {per_ms} records each");
        // The reader's rate times the latency, twice, and two objects; and the clock's grain. But
        // 64 KiB at least.
        let product = RECORD_BYTES * per_ms * (ms + 1);
        let limit = (2 * product + 2 * RECORD_BYTES).max(64 << 10);
        assert!(journey.ahead_max <= limit, "{} ahead of {limit}", journey.ahead_max);
        assert!(far.gets.lock().iter().all(|gets| *gets == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn nor_of_one_whose_latency_varies() {
    // 1 to 20 ms, anyhow.
    let latency = |number: u64| millis(1 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 20);
    let far = Far::new(Bytes::from(vec![1; 4096]), 80_000, latency);
    let order = Arc::new(Sequential::new(80_000));
    let options = RecordsOptions::default();
    let mut records = Records::new(far.clone(), set(80_000, 1), order, 0..80_000, options);
    let journey = read_at(&mut records, &far, 16, 32_000).await;
    assert_eq!(journey.waits, 0);
    // Latency counts as its mean and four deviations here: 10.5 ms and 4 times about 5 to 10.
    assert!(journey.ahead_max <= 2 * 16 * 4096 * 60, "{}", journey.ahead_max);
}

#[tokio::test(start_paused = true)]
async fn small_objects_share_requests_and_large_ones_do_not() {
    let far = Far::new(Bytes::from(vec![1; 4096]), 100_000, |_| millis(2));
    let order = Arc::new(Sequential::new(100_000));
    let options = RecordsOptions::default();
    let mut records = Records::new(far.clone(), set(100_000, 1), order, 0..100_000, options);
    let journey = read_at(&mut records, &far, u64::MAX, 1).await;
    assert!(journey.requests < 1000, "{}", journey.requests);
    let far = Far::new(Bytes::from(vec![1; 64 << 10]), 300, |_| millis(2));
    let order = Arc::new(Sequential::new(300));
    let mut records = Records::new(far.clone(), set(300, 1), order, 0..300, options);
    while let Some(record) = records.next().await {
        record.unwrap();
    }
    assert_eq!(far.requests.load(SeqCst), 300);
}

#[tokio::test(start_paused = true)]
async fn a_window_fetches_each_object_once_an_epoch() {
    let lines: Vec<Vec<u8>> = (0..10).map(|_| vec![7; 400]).collect();
    let value = crate::set::pack(&lines).unwrap();
    let far = Far::new(value, 300, |_| millis(5));
    let set = set(2995, 10);
    let (manifest, seeds) = (*set.manifest(), |epoch| EpochSeed { seed: 4, epoch });
    let make = move |epoch| Arc::new(Windowed::new(seeds(epoch), &manifest, 8)) as Arc<dyn Order>;
    let order = Arc::new(Epochs::new(3, make));
    let options = RecordsOptions { ahead_size: ByteSize::kib(96), ..RecordsOptions::default() };
    let mut records = Records::new(far.clone(), set, order.clone(), 0..u64::MAX, options);
    let mut ahead_max = 0;
    for position in 0..order.len() {
        // A slow reader, so that little is wanted ahead beside the window.
        sleep(millis(2)).await;
        let record = records.next().await.unwrap().unwrap();
        assert_eq!(Some(record.index), order.record(position));
        if position > 3000 {
            ahead_max = ahead_max.max(records.window.held_bytes);
        }
    }
    assert!(records.next().await.is_none());
    // Less often where one is in the last window of an epoch and in the first of the next.
    let gets = far.gets.lock();
    assert!(gets.iter().all(|gets| *gets <= 3) && gets.iter().sum::<u32>() > 870, "{gets:?}");
    // Two windows of 8 objects, and what the pace adds.
    assert!(ahead_max <= 20 * 4048, "{ahead_max}");
}
