//! What a policy hits, and what can be hit.
//!
//! Each policy through a real cache, over a source that answers at once, against Belady's MIN,
//! computed from the list. No clock: the same numbers in every run.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use cirrus_store::cache::evict::{Clairvoyant, Fifo, Lfu, Lru, Random, S3Fifo, Sieve};
use cirrus_store::cache::{Cache, CacheOptions, Evict, Freshness, Source, Trace};
use cirrus_store::{Error, Key, Kind, Object, Version};
use cirrus_units::ByteSize;
use serde_json::{Map, json};

use crate::comparisons::{Bench, Cell, Family};
use crate::min;
use crate::ratio::{ROUNDS_MIN, Round, Target};
use crate::row::{Number, Row, Subject};
use crate::traces::Pattern;

/// Capacities, in per cent of what all objects take.
const PERCENTS: [u64; 4] = [1, 5, 10, 25];

/// Entries are multiples of this, overhead included.
const UNIT_BYTES: u64 = 512;

pub(super) const FAMILY: Family = Family {
    name: "ratios",
    about: "hits of each policy, and of Belady's MIN, on the same reads",
    cells: || {
        let equal = Pattern::ALL.map(|pattern| (pattern, Sizes::Equal));
        let all = equal.into_iter().chain([(Pattern::Zipf08, Sizes::Unequal)]);
        all.flat_map(|(pattern, sizes)| PERCENTS.map(|percent| cell(pattern, sizes, percent)))
            .collect()
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sizes {
    Equal,
    /// One to 64 units: half of the objects take one, a quarter two, and so on.
    Unequal,
}

impl Sizes {
    /// What an entry takes.
    fn bytes(self, object: u32) -> u64 {
        match self {
            Self::Equal => UNIT_BYTES,
            // A multiplicative hash: popular objects are as large as others.
            Self::Unequal => {
                UNIT_BYTES << (object.wrapping_mul(0x9e37_79b1).leading_zeros().min(6))
            }
        }
    }
}

fn cell(pattern: Pattern, sizes: Sizes, percent: u64) -> Cell {
    let unequal = if sizes == Sizes::Unequal { "-unequal" } else { "" };
    let name = format!("ratios/{}{unequal}/{percent}%", pattern.name());
    Cell {
        name: name.clone(),
        is_quick: percent == 10,
        measure: Box::new(move |bench| measure(bench, &name, pattern, sizes, percent)),
    }
}

fn policies(reads: &[u32]) -> Vec<Box<dyn Evict>> {
    let future = Trace::new(reads.iter().map(|object| key(*object)));
    vec![
        Box::new(Clairvoyant::new(Arc::new(future))),
        Box::new(Fifo::new()),
        Box::new(Lfu::new()),
        Box::new(Lru::new()),
        Box::new(Random::new(1)),
        Box::new(S3Fifo::new()),
        Box::new(Sieve::new()),
    ]
}

fn measure(
    bench: &mut Bench,
    name: &str,
    pattern: Pattern,
    sizes: Sizes,
    percent: u64,
) -> Result<Vec<Row>> {
    let reads = pattern.reads(&bench.traces)?;
    let mut objects = reads.clone();
    objects.sort_unstable();
    objects.dedup();
    let all_bytes: u64 = objects.iter().map(|object| sizes.bytes(*object)).sum();
    let capacity = all_bytes * percent / 100;
    let most = min::hits(&reads, |object| sizes.bytes(object), capacity);
    let mut rows = Vec::new();
    for policy in policies(&reads) {
        let policy_name = policy.name();
        let is_clairvoyant = policy_name == "clairvoyant";
        let hits = bench.runtime.block_on(replay(policy, &reads, sizes, capacity))?;
        ensure!(
            hits <= most || sizes == Sizes::Unequal,
            "{policy_name} has {hits} hits, MIN {most}: one of them is wrong"
        );
        let round = Round { ours: count(hits), theirs: count(most), again: count(hits) };
        let subject = Subject {
            name: format!("{name}/{policy_name}"),
            peer: match sizes {
                Sizes::Equal => "Belady's MIN".to_owned(),
                Sizes::Unequal => "evicting what is read again last".to_owned(),
            },
            value_bytes: 0,
        };
        let detail = Map::from_iter([
            ("reads".to_owned(), json!(reads.len())),
            ("objects".to_owned(), json!(objects.len())),
            ("capacity_bytes".to_owned(), json!(capacity)),
        ]);
        let target = is_clairvoyant.then_some(Target::AtLeast(1.0));
        rows.push(subject.row_of(&[round; ROUNDS_MIN], Number::Hits, target, detail));
    }
    Ok(rows)
}

#[expect(clippy::cast_precision_loss, reason = "a hundred thousand")]
fn count(hits: u64) -> f64 {
    hits as f64
}

/// The hits of a cache with this policy.
async fn replay(evict: Box<dyn Evict>, reads: &[u32], sizes: Sizes, capacity: u64) -> Result<u64> {
    let overhead = overhead_bytes().await?;
    let values = Values { sizes, overhead };
    let cache = Cache::new(values, ByteSize::new(capacity), options(evict));
    for object in reads {
        cache.get(&key(*object)).await?;
    }
    let counters = cache.counters();
    ensure!(counters.hits + counters.misses == reads.len() as u64, "reads were lost: {counters:?}");
    cache.close().await;
    Ok(counters.hits)
}

/// What an entry takes beside its value.
async fn overhead_bytes() -> Result<u64> {
    let values = Values { sizes: Sizes::Equal, overhead: UNIT_BYTES };
    let cache = Cache::new(values, ByteSize::mib(1), options(Box::new(Lru::new())));
    cache.get(&key(0)).await?;
    let overhead = cache.counters().bytes;
    ensure!(overhead <= UNIT_BYTES, "an entry takes {overhead} bytes beside its value");
    Ok(overhead)
}

fn options(evict: Box<dyn Evict>) -> CacheOptions {
    let mut options = CacheOptions::default();
    options.freshness = Freshness::Immutable;
    options.evict = evict;
    options
}

fn key(object: u32) -> Key {
    Key::try_from(format!("{object:08}")).expect("eight digits are a key")
}

/// A source that has every object, as large as its entry has to be.
#[derive(Debug)]
struct Values {
    sizes: Sizes,
    overhead: u64,
}

impl Source for Values {
    async fn get(&self, key: &Key) -> cirrus_store::Result<Object> {
        let digits = str::from_utf8(key.as_bytes()).ok().and_then(|digits| digits.parse().ok());
        let object: u32 = digits
            .ok_or_else(|| Error::new(Kind::Invalid, format!("{key}: expected eight digits")))?;
        let len = self.sizes.bytes(object).saturating_sub(self.overhead);
        let value = Bytes::from(vec![0; usize::try_from(len).unwrap_or(0)]);
        Ok(Object { value, version: Version(1), expires_at: None, modified_at: None })
    }

    async fn get_if_newer(&self, _: &Key, _: Version) -> cirrus_store::Result<Option<Object>> {
        Ok(None)
    }
}
