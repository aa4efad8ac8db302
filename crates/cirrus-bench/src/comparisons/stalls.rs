//! A reader of a far store: how much of its time it waits, and how much memory that takes.
//!
//! The store is simulated, in real time: every request takes its latency, whatever it asks for. The
//! reader takes 16 records of 4 KiB about every millisecond, as a trainer does with its batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use cirrus_store::cache::Source;
use cirrus_store::iter::{EpochSeed, Records, RecordsOptions, Shuffled};
use cirrus_store::set::{Manifest, Set, SetName};
use cirrus_store::{Key, Object, Version};
use serde_json::{Map, json};

use crate::comparisons::{Bench, Cell, Family};
use crate::ratio::{Round, Target};
use crate::row::{Number, Row, Subject};

const RECORD_BYTES: usize = 4 << 10;
const BATCH_RECORDS: u64 = 16;
const BATCH_EVERY: Duration = Duration::from_millis(1);

/// How long a reader reads before it counts, and how long it counts, in latencies.
const WARM_LATENCIES: u32 = 50;
const ROUND_LATENCIES: u32 = 50;
const ROUND_MIN: Duration = Duration::from_millis(500);

const ROUNDS: usize = 8;

pub(super) const FAMILY: Family = Family {
    name: "stalls",
    about: "how long a reader waits for a store that is 1 or 20 ms away, and the bytes ahead of it",
    cells: || {
        let cell = |millis| {
            let name = format!("stalls/{millis}ms");
            Cell {
                name: name.clone(),
                is_quick: true,
                measure: Box::new(move |bench| {
                    measure(bench, &name, Duration::from_millis(millis))
                }),
            }
        };
        vec![cell(1), cell(20)]
    },
};

fn measure(bench: &mut Bench, name: &str, latency: Duration) -> Result<Vec<Row>> {
    let journeys: Vec<Journey> = bench.runtime.block_on(async {
        let mut journeys = Vec::new();
        for _ in 0..ROUNDS {
            journeys.push(read(latency).await?);
        }
        Ok::<_, anyhow::Error>(journeys)
    })?;
    let subject = |peer: &str| Subject {
        name: name.to_owned(),
        peer: peer.to_owned(),
        value_bytes: RECORD_BYTES,
    };
    let round = |ours: f64, theirs: f64| Round { ours, theirs, again: ours };
    // A share of nothing has no ratio: a millionth stands for it.
    let waited: Vec<Round> =
        journeys.iter().map(|journey| round(journey.waited_share.max(1e-6), 1.0)).collect();
    let ahead: Vec<Round> =
        journeys.iter().map(|journey| round(journey.ahead_max, journey.in_flight)).collect();
    let longest = journeys.iter().map(|journey| journey.latency_max.as_micros()).max();
    let detail = Map::from_iter([("latency_us_max".to_owned(), json!(longest))]);
    Ok(vec![
        subject("all of the reader's time").row_of(
            &waited,
            Number::WaitedShare,
            Some(Target::AtMost(0.01)),
            detail.clone(),
        ),
        subject("what its rate takes in the longest latency").row_of(
            &ahead,
            Number::BytesAhead,
            Some(Target::AtMost(3.0)),
            detail,
        ),
    ])
}

/// What a reader went through once it was warm.
struct Journey {
    waited_share: f64,
    /// The most bytes that were asked for and not handed out.
    ahead_max: f64,
    /// Bytes that the reader takes in the time that the slowest request took.
    in_flight: f64,
    latency_max: Duration,
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts of a second")]
async fn read(latency: Duration) -> Result<Journey> {
    let far = Arc::new(Far::new(latency));
    let count = 1 << 30;
    let set = Set::new(SetName::new("far")?, Manifest::empty().with_count(count));
    let order = Arc::new(Shuffled::new(EpochSeed { seed: 1, epoch: 0 }, count));
    let options = RecordsOptions::default();
    let mut records = Records::new(far.clone(), set, order, 0..count, options);
    let warm = (latency * WARM_LATENCIES).max(ROUND_MIN);
    let counted = (latency * ROUND_LATENCIES).max(ROUND_MIN);
    let (began, mut counts_from) = (Instant::now(), None);
    let (mut waited, mut read, mut read_before, mut ahead_max) = (Duration::ZERO, 0, 0, 0);
    let elapsed = loop {
        let now = Instant::now();
        match counts_from {
            None if now - began >= warm => {
                far.latency_us_max.store(0, Relaxed);
                (counts_from, read_before) = (Some(now), read);
            }
            Some(from) if now - from >= counted => break now - from,
            None | Some(_) => {}
        }
        for _ in 0..BATCH_RECORDS {
            let asked = match records.try_next() {
                Some(record) => record.map(|_| Duration::ZERO)?,
                None => {
                    let asked = Instant::now();
                    records.next().await.transpose()?;
                    asked.elapsed()
                }
            };
            read += 1;
            if counts_from.is_some() {
                waited += asked;
                ahead_max = ahead_max.max(far.asked.load(Relaxed) - read * RECORD_BYTES as u64);
            }
        }
        tokio::time::sleep(BATCH_EVERY).await;
    };
    let latency_max = Duration::from_micros(far.latency_us_max.load(Relaxed));
    let rate = ((read - read_before) * RECORD_BYTES as u64) as f64 / elapsed.as_secs_f64();
    Ok(Journey {
        waited_share: waited.as_secs_f64() / elapsed.as_secs_f64(),
        ahead_max: ahead_max as f64,
        in_flight: rate * latency_max.as_secs_f64(),
        latency_max,
    })
}

/// A store that has every object, some way off.
#[derive(Debug)]
struct Far {
    latency: Duration,
    value: Bytes,
    /// Bytes of objects that were asked for.
    asked: AtomicU64,
    latency_us_max: AtomicU64,
}

impl Far {
    fn new(latency: Duration) -> Self {
        let value = Bytes::from(vec![1; RECORD_BYTES]);
        Self { latency, value, asked: AtomicU64::new(0), latency_us_max: AtomicU64::new(0) }
    }

    async fn answers(&self, count: usize) -> Vec<cirrus_store::Result<Object>> {
        self.asked.fetch_add((count * RECORD_BYTES) as u64, Relaxed);
        let sent_at = Instant::now();
        tokio::time::sleep(self.latency).await;
        let took = u64::try_from(sent_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latency_us_max.fetch_max(took, Relaxed);
        let object = || Object {
            value: self.value.clone(),
            version: Version(1),
            expires_at: None,
            modified_at: None,
        };
        (0..count).map(|_| Ok(object())).collect()
    }
}

impl Source for Far {
    async fn get(&self, _key: &Key) -> cirrus_store::Result<Object> {
        self.answers(1).await.swap_remove(0)
    }

    async fn get_if_newer(&self, key: &Key, _: Version) -> cirrus_store::Result<Option<Object>> {
        self.get(key).await.map(Some)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<cirrus_store::Result<Object>> {
        self.answers(keys.len()).await
    }
}
