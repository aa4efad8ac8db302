//! Workers against a whole run within this process.
//!
//! Owns what `Splits` must do where memory answers late or not at all, and the order of records over
//! workers and restarts. May not know how the run is put together. Invariant: nothing waits without a
//! bound.

use cirrus_store::cache::{CacheOptions, Freshness, Shadow, evict};
use cirrus_store::iter::{self, EpochSeed, Order, Strided, Windowed};
use cirrus_store::set::Manifest;
use cirrus_units::ByteSize;

use super::*;
use crate::api::{Attempt, NextAnswer};
use crate::error::Kind;
use crate::rig::{CHANNEL, Rig, SET};
use crate::spec::CacheSpec;
use crate::spec::tests::example;
use crate::split::{OrderSpec, SplitPlan};

/// One split of four records in two batches.
fn one_split() -> SplitSpec {
    SplitSpec { batch: 2, batches_per_split: 2, ..SplitSpec::default() }
}

#[test]
fn a_split_is_committed_only_when_its_batches_are_acknowledged() {
    let rig = Rig::new(one_split());
    rig.write_set(4, 1);
    let (worker, trainer) = (rig.context("decode", 0), rig.context("train", 0));
    let control = trainer.control();
    let opened =
        control.open_consumer(trainer.member(), CHANNEL, control.request(), false).unwrap();
    let next = || control.next(CHANNEL, opened.generation, 0, Vec::new()).unwrap();
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            let mut seen = 0;
            worker.splits(SET)?.map_into(CHANNEL, |_, _| {
                seen += 1;
                if seen == 4 {
                    // All is read, and the last batch is about to be put.
                    rig.hold();
                }
                Ok(seen)
            })
        });
        // Once more for as long as the coordinator holds the call, when the node has answered.
        while !rig.is_holding() {
            assert_eq!(next(), NextAnswer::Wait);
        }
        assert_eq!(next(), NextAnswer::Wait);
        assert_eq!((rig.set().leased, rig.set().committed), (1, 0));
        rig.release();
        let answer = next();
        assert!(matches!(answer, NextAnswer::Committed(_)), "{answer:?}");
        control.end(trainer.member(), crate::api::Outcome::Done, Default::default()).unwrap();
        working.join().unwrap().unwrap();
    });
}

#[test]
fn splits_are_read_through_the_cache_that_the_task_has_made() {
    let mut spec = example(64 << 20, one_split());
    spec.pools[0].cache =
        Some(CacheSpec { size: ByteSize::mib(1), freshness: Freshness::Immutable });
    let rig = Rig::of(spec, ByteSize::mib(64));
    let mut words = rig.context("load", 0).write_set("words").unwrap();
    (0..4).for_each(|_| words.push(vec![0; 8]).unwrap());
    words.seal().unwrap();
    let worker = rig.context("index", 0);
    let own = || {
        let mut options = CacheOptions::default();
        options.evict = Box::new(evict::Lfu::new());
        options.shadow = Some(Shadow::new(vec![Box::new(evict::Lru::new())]));
        options
    };
    let cache = worker.cache_with("data", own()).unwrap();
    let error = worker.cache_with("data", own()).unwrap_err();
    assert_eq!(error.kind(), Kind::Input);
    assert!(error.to_string().contains("has a cache before memory `data` already"), "{error}");
    worker.splits("words").unwrap().for_each(|_, _| Ok(())).unwrap();
    let report = cache.shadow_report();
    let lines: Vec<_> = report.iter().map(|line| (line.policy, line.reads)).collect();
    assert!(lines.len() == 3 && lines[0].0 == "lfu" && lines[0].1 > 0, "{lines:?}");
    let fetched = cache.counters().fetches;
    assert!(fetched > 0);
    worker.set("words").unwrap().records().for_each(|record| drop(record.unwrap()));
    assert_eq!(cache.counters().fetches, fetched, "what is declared of the pool stays: immutable");
}

/// A worker whose only split could not be stored, and has ended.
fn whose_put_failed() -> (Rig, Context) {
    let rig = Rig::of(example(64 << 20, one_split()), ByteSize::mib(2));
    rig.write_set(4, 1);
    let worker = rig.context("decode", 0);
    let result = worker.splits(SET).unwrap().map_into(CHANNEL, |record, _| {
        // The last batch has no room.
        Ok(vec![7u8; if record.position < 2 { 1 } else { 2 << 20 }])
    });
    let kind = result.unwrap_err().kind();
    assert!(matches!(kind, Kind::OutOfMemory | Kind::TooLarge), "{kind:?}");
    (rig, worker)
}

#[test]
fn a_split_whose_batches_are_never_acknowledged_is_not_committed() {
    let (rig, _) = whose_put_failed();
    assert_eq!(rig.set().committed, 0);
}

#[test]
fn a_split_whose_put_failed_is_given_back_at_once() {
    let (_rig, worker) = whose_put_failed();
    let range = SplitPlan::new(&one_split(), 4).unwrap().split(0).unwrap();
    // The run's first attempt; whoever has the split by now has another.
    let grant = Grant { split: 0, attempt: Attempt(1), range };
    let channel = CHANNEL.to_owned();
    let output = Output { channel, batches: range.batches, bytes: 1, checksum: 0 };
    let late = worker.control().commit(worker.member(), SET, &grant, vec![output]);
    assert!(is_stale_attempt(&late.unwrap_err()));
}

#[test]
fn a_worker_whose_commit_is_refused_ends_although_nothing_is_left_to_lease() {
    // The split is larger than its channel.
    let rig = Rig::of(example(8, one_split()), ByteSize::mib(64));
    rig.write_set(4, 1);
    let worker = rig.context("decode", 0);
    let result = worker.splits(SET).unwrap().map_into(CHANNEL, |_, _| Ok(7u64 << 40));
    assert_eq!(result.unwrap_err().kind(), Kind::TooLarge);
    assert_eq!(rig.set().committed, 0);
}

const RECORDS: u64 = 50;
/// The last object is short.
const PACKING: u32 = 4;
const EPOCHS: u32 = 2;
const SEED: u64 = 5;

/// The records of all epochs, as the orders themselves have them.
fn expected(order: OrderSpec) -> Vec<u64> {
    let manifest = Manifest::empty().with_count(RECORDS).with_packing(PACKING).unwrap();
    let epochs = (0..u64::from(EPOCHS)).map(|epoch| -> Box<dyn Order> {
        let seed = EpochSeed { seed: SEED, epoch };
        match order {
            OrderSpec::Sequential => Box::new(iter::Sequential::new(RECORDS)),
            OrderSpec::Shuffled => Box::new(iter::Shuffled::new(seed, RECORDS)),
            OrderSpec::Windowed { objects } => Box::new(Windowed::new(seed, &manifest, objects)),
            OrderSpec::Strided { step } => Box::new(Strided::new(RECORDS, step).unwrap()),
        }
    });
    epochs.flat_map(|order| (0..RECORDS).filter_map(move |at| order.record(at))).collect()
}

/// What a consumer takes that so many workers write for, up to `batches` of them; a checkpoint
/// holds it.
fn take(rig: &Rig, workers: u32, batches: u64) -> Vec<u64> {
    rig.write_set(RECORDS, PACKING);
    let work = |context: Context| {
        let splits = context.splits(SET)?;
        splits.map_into(CHANNEL, |record, _| {
            assert_eq!(record.bytes.as_ref(), record.index.to_le_bytes());
            Ok(record.index)
        })
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|replica| rig.context("decode", replica)).collect();
        let workers: Vec<_> =
            workers.into_iter().map(|context| scope.spawn(|| work(context))).collect();
        let mut channel = rig.context("train", 0).batches::<u64>(CHANNEL).unwrap();
        let mut taken = Vec::new();
        while channel.position() < batches
            && let Some(batch) = channel.next().unwrap()
        {
            taken.extend(batch.items);
            channel.checkpoint_when_due(|| Ok("state".into())).unwrap();
        }
        channel.checkpoint("state").unwrap();
        rig.cancel_tasks();
        workers.into_iter().for_each(|worker| worker.join().unwrap().unwrap());
        taken
    })
}

#[test]
fn every_order_is_the_same_for_one_worker_and_three_and_in_a_run_that_is_resumed() {
    let orders = [
        OrderSpec::Sequential,
        OrderSpec::Shuffled,
        OrderSpec::Windowed { objects: 3 },
        OrderSpec::Strided { step: 7 },
    ];
    let mut sequences = std::collections::BTreeSet::new();
    for order in orders {
        let splits = SplitSpec {
            seed: SEED,
            epochs: EPOCHS,
            batch: 4,
            batches_per_split: 2,
            window: 4,
            order,
            ..SplitSpec::default()
        };
        let expected = expected(order);
        for workers in [1, 3] {
            assert_eq!(take(&Rig::new(splits.clone()), workers, u64::MAX), expected, "{order:?}");
        }
        // Within a split, and within a window of objects.
        let mut rig = Rig::new(splits);
        let mut taken = take(&rig, 1, 7);
        assert_eq!(taken.len(), 28);
        rig.resume();
        taken.extend(take(&rig, 3, u64::MAX));
        assert_eq!(taken, expected, "{order:?}, resumed");
        sequences.insert(expected);
    }
    assert_eq!(sequences.len(), orders.len());
}
