//! A bucket behind the disk: nothing is lost on the way there and back, whatever fails, and it is
//! used as it should be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::power::{World, every_cut_of, tier};
use super::{Dice, compare, key, largest_version, put, small, value};
use crate::error::{Error, Kind};
use crate::segments::options::{Bug, Options};
use crate::segments::sim::{BucketPlan, Loss, Plan, SimBucket};
use crate::segments::{Disk, Engine, Record};

const KEYS: u64 = 40;

#[test]
fn nothing_is_lost_when_the_power_goes_at_any_call_of_disk_and_bucket() {
    let calls = every_cut_of(None, true, 1, Loss::All).unwrap();
    assert!(calls > 300, "{calls} calls");
    every_cut_of(None, true, 2, Loss::Tail).unwrap();
}

#[test]
fn nothing_is_lost_when_names_and_sectors_come_in_any_order() {
    every_cut_of(None, true, 3, Loss::Sectors).unwrap();
}

#[test]
fn a_file_that_is_removed_before_the_bucket_has_it_is_caught() {
    let found = every_cut_of(Some(Bug::RemoveBeforeUpload), true, 1, Loss::All).unwrap_err();
    assert!(found.contains("it is not there"), "{found}");
}

#[test]
fn a_segment_that_leaves_the_bucket_before_its_stub_is_caught() {
    let found = every_cut_of(Some(Bug::DropFromBucketFirst), true, 1, Loss::All).unwrap_err();
    assert!(found.contains("it is not there"), "{found}");
}

fn write(engine: &Engine, record: Record) -> crate::error::Result<()> {
    engine.write(vec![record])?.wait()
}

fn with_bucket() -> (World, SimBucket) {
    let world = World::new(true);
    let bucket = world.bucket.clone().unwrap();
    (world, bucket)
}

/// An engine that has worked with its bucket for a while, and what it holds.
fn worked(world: &World, options: &Options) -> (Engine, BTreeMap<u64, u64>) {
    let (engine, mut model) = (world.open(options).unwrap(), BTreeMap::new());
    assert!(work(&engine, &mut model, 100).is_empty());
    assert!(engine.stats().unwrap().cold_segments > 3);
    (engine, model)
}

/// The engine ends, and everything is whole.
fn end(world: &World, engine: Engine) {
    engine.close().unwrap();
    world.check().unwrap();
}

/// The engine holds what it should, and ends.
fn holds(world: &World, engine: Engine, model: &BTreeMap<u64, u64>) {
    compare(&engine, model, KEYS).unwrap();
    end(world, engine);
}

fn is_refused(world: &World, kind: Kind, why: &str) {
    let refused = world.open(&small()).unwrap_err();
    assert_eq!(refused.kind(), kind, "{refused}");
    assert!(refused.to_string().contains(why), "{refused}");
}

/// A bucket that fails from this call on.
fn failing_from(call: u64) -> BucketPlan {
    BucketPlan { fail_from: Some(call), ..BucketPlan::default() }
}

/// Writes, deletes, moves, compacts. Failures of the bucket are errors and change nothing.
fn work(engine: &Engine, model: &mut BTreeMap<u64, u64>, steps: u64) -> Vec<Error> {
    let mut dice = Dice(steps);
    let mut version = largest_version(engine);
    let mut errors = Vec::new();
    for step in 0..steps {
        version += 1;
        let number = dice.roll(KEYS);
        if dice.roll(4) == 0 {
            write(engine, Record::delete(key(number), version)).unwrap();
            model.remove(&number);
        } else {
            write(engine, put(number, version)).unwrap();
            model.insert(number, version);
        }
        if step % 9 == 8 {
            errors.extend(tier(engine).err());
        }
        if step % 31 == 30 {
            engine.compact().unwrap();
        }
        let read = engine.read(&key(number));
        match read {
            Ok(found) => {
                let version = found.as_ref().map(|found| found.version.0);
                assert_eq!(version, model.get(&number).copied());
                assert!(found.is_none_or(|found| found.value == value(found.version.0)));
            }
            Err(error) => errors.push(error),
        }
    }
    errors
}

/// Works with a bucket that fails as planned, has it mended, and looks at everything.
fn with_failing(plan: BucketPlan, options: &Options) -> (Vec<Error>, u64) {
    let (world, bucket) = with_bucket();
    let (engine, mut model) = worked(&world, options);
    bucket.set_plan(plan);
    let errors = work(&engine, &mut model, 150);
    let calls = bucket.calls();
    // Keys that are not there are known without the bucket.
    assert!(engine.read(&key(KEYS + 1)).unwrap().is_none());
    bucket.set_plan(BucketPlan::default());
    engine.shared.tier(engine.shared.cold.as_ref().unwrap(), true, true).unwrap();
    compare(&engine, &model, KEYS).unwrap();
    engine.close().unwrap();
    holds(&world, world.open(options).unwrap(), &model);
    (errors, calls)
}

#[test]
fn each_call_of_the_bucket_may_fail_once() {
    for at in 1.. {
        let plan = BucketPlan { fail_once: Some(at), ..BucketPlan::default() };
        let (errors, calls) = with_failing(plan, &small());
        assert!(errors.iter().all(|error| error.kind() == Kind::Io), "call {at}: {errors:?}");
        if calls < at {
            assert!(at > 50, "{at} calls");
            break;
        }
        assert!(!errors.is_empty(), "nobody was told of call {at}");
    }
}

#[test]
fn a_bucket_may_fail_for_long() {
    for at in [1, 2, 3, 5, 8, 13, 21] {
        let (errors, calls) = with_failing(failing_from(at), &small());
        assert!(errors.iter().all(|error| error.kind() == Kind::Io), "{errors:?}");
        assert!(errors.len() > 3 && calls >= at, "{errors:?}");
    }
}

#[test]
fn values_of_a_bucket_that_takes_nothing_can_be_read() {
    let plan = BucketPlan { is_read_only: true, ..BucketPlan::default() };
    let (errors, _) = with_failing(plan, &small());
    let text = errors.first().unwrap().to_string();
    assert!(text.contains("sim://bucket"), "{text}");
    let reads = errors.iter().filter(|error| error.to_string().starts_with("cannot read"));
    assert_eq!(reads.count(), 0, "{errors:?}");
}

#[test]
fn what_a_bucket_keeps_wrongly_stays_on_the_disk() {
    let plan = BucketPlan { garble_from: Some(1), ..BucketPlan::default() };
    let (errors, _) = with_failing(plan, &small());
    assert!(errors.iter().any(|e| e.to_string().contains("does not give back")), "{errors:?}");
    let options = Options { bug: Some(Bug::BelieveBucket), ..small() };
    let lost = std::thread::spawn(move || with_failing(plan, &options)).join();
    assert!(lost.is_err(), "a bucket that is believed loses bytes, and nobody saw it");
}

#[test]
fn a_store_with_cold_segments_starts_with_their_bucket_only() {
    let (world, _) = with_bucket();
    let (engine, model) = worked(&world, &small());
    engine.close().unwrap();
    let other = SimBucket::new(&world.disk);
    for has_index in [true, false] {
        if !has_index {
            world.disk.remove("index.redb").unwrap();
        }
        let with = |bucket| World { disk: world.disk.clone(), bucket };
        is_refused(&with(None), Kind::Invalid, "sim://bucket; give it as its cold tier");
        is_refused(&with(Some(other.clone())), Kind::Invalid, "it is not there; give the bucket");
    }
    // A check without it says what it did not read, and finds no fault with the rest.
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let report = Engine::check(&disk, None, |_, _| ()).unwrap();
    assert!(report.unread_segments > 3 && report.damage.is_empty(), "{report:?}");
    holds(&world, world.open(&small()).unwrap(), &model);
}

#[test]
fn a_store_starts_while_its_bucket_is_away_and_reads_it_when_it_is_back() {
    let (world, bucket) = with_bucket();
    let (engine, model) = worked(&world, &small());
    engine.close().unwrap();
    bucket.set_plan(failing_from(1));
    let engine = world.open(&small()).unwrap();
    let failing = (0..KEYS).filter(|number| engine.read(&key(*number)).is_err()).count();
    assert!(failing > 0 && bucket.calls() < 3, "{failing} reads, {} calls", bucket.calls());
    bucket.set_plan(BucketPlan::default());
    assert!((0..KEYS).any(|number| engine.read(&key(number)).is_err()), "nobody has looked yet");
    engine.tier().unwrap();
    holds(&world, engine, &model);
    // Without the index the log in the bucket is needed.
    world.disk.remove("index.redb").unwrap();
    bucket.set_plan(failing_from(1));
    is_refused(&world, Kind::Io, "sim://bucket");
}

#[test]
fn a_segment_that_the_bucket_lost_is_named() {
    let (world, bucket) = with_bucket();
    let (engine, _) = worked(&world, &small());
    let lost = bucket.names().pop().unwrap();
    bucket.lose(&lost);
    let errors: Vec<Error> = (0..KEYS).filter_map(|n| engine.read(&key(n)).err()).collect();
    assert!(errors.iter().all(|error| error.kind() == Kind::Io), "{errors:?}");
    assert!(errors.iter().all(|error| error.to_string().contains(&lost[33..])), "{errors:?}");
    assert!(!errors.is_empty());
    engine.close().unwrap();
    is_refused(&world, Kind::Invalid, &lost);
}

/// Writes and moves while one call of the disk fails; `false` when there were fewer calls. What was
/// acknowledged is there after a restart, and the bucket has what the disk says it has.
fn with_failing_disk(at: u64) -> bool {
    let world = World::new(true);
    let engine = world.open(&small()).unwrap();
    let (mut model, mut doubt) = (BTreeMap::new(), BTreeMap::new());
    world.disk.set_plan(Plan { fail_once: Some(at), ..Plan::default() });
    let mut errors = Vec::new();
    for version in 1..=70 {
        let number = version * 7 % 16;
        match write(&engine, put(number, version)) {
            Ok(()) => drop(model.insert(number, version)),
            Err(error) => {
                if error.kind() == Kind::Unknown {
                    doubt.insert(number, version);
                }
                errors.push(error);
                engine.resume();
            }
        }
        if version % 9 == 8 {
            errors.extend(tier(&engine).err());
        }
        if version % 31 == 30 {
            errors.extend(engine.compact().err());
        }
    }
    errors.extend(engine.close().err());
    let are_typed = |e: &Error| matches!(e.kind(), Kind::Io | Kind::Unknown);
    assert!(errors.iter().all(are_typed), "call {at}: {errors:?}");
    let calls = world.disk.calls();
    world.disk.killed();
    let engine = world.open(&small()).unwrap_or_else(|error| panic!("call {at}: {error}"));
    for number in 0..16 {
        let found = engine.read(&key(number)).unwrap().map(|found| found.version.0);
        let is_right = found == model.get(&number).copied()
            || found.is_some() && found == doubt.get(&number).copied();
        assert!(is_right, "call {at}: key {number} has {found:?}, {model:?}, in doubt {doubt:?}");
    }
    engine.close().unwrap();
    world.check().unwrap_or_else(|error| panic!("call {at}: {error}"));
    calls >= at
}

#[test]
fn each_call_of_the_disk_may_fail_once_beside_a_bucket() {
    let calls = (1..).find(|at| !with_failing_disk(*at)).unwrap();
    assert!(calls > 150, "{calls} calls");
}

#[test]
fn dead_segments_are_dropped_unread_and_those_that_are_nearly_dead_are_rewritten() {
    let (world, bucket) = with_bucket();
    let engine = world.open(&small()).unwrap();
    let mut version = 0;
    let value = |number: u64| vec![number.to_le_bytes()[0]; 700];
    let mut write = |number: u64| {
        version += 1;
        write(&engine, Record::put(key(number), version, value(number).into())).unwrap();
    };
    (0..110).for_each(&mut write);
    while tier(&engine).unwrap() > 0 {}
    let (moved, calls) = (bucket.names(), bucket.calls());
    assert!(moved.len() >= 8, "{moved:?}");
    // One of every eleven stays: less than a quarter of every segment.
    (0..110).filter(|number| number % 11 != 0).for_each(&mut write);
    engine.tier().unwrap();
    assert!(bucket.calls() > calls + moved.len() as u64, "none was read");
    assert!(bucket.names().is_empty(), "{:?}", bucket.names());

    (0..110).for_each(&mut write);
    while tier(&engine).unwrap() > 0 {}
    let (moved, calls) = (bucket.names().len() as u64, bucket.calls());
    (0..110).for_each(&mut write);
    // Some hold what was rewritten since; the rest is dead.
    engine.tier().unwrap();
    assert!(moved >= 8 && bucket.names().is_empty(), "{:?}", bucket.names());
    assert_eq!(bucket.calls() - calls, moved, "a call for each removal, and no read");
    for number in 0..110 {
        let found = engine.read(&key(number)).unwrap().unwrap();
        assert_eq!(found.value, value(number));
    }
    end(&world, engine);
}

/// Waits for a condition, with a deadline.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::yield_now();
    }
}

fn tight() -> Options {
    let mut options = small();
    options.capacity = 8 << 20;
    options.segment_bytes = 256 << 10;
    options.background = true;
    options.checkpoint_rows = 256;
    options
}

fn large(number: u64, version: u64) -> Record {
    Record::put(key(number), version, vec![u8::try_from(number % 251).unwrap(); 20_000].into())
}

#[test]
fn live_data_may_exceed_the_disk_and_the_disk_stays_within_its_capacity() {
    let world = World::new(true);
    let engine = world.open(&tight()).unwrap();
    let mut version = 0;
    // 20 MB on a disk of 8 MiB, twice.
    for _ in 0..2 {
        for number in 0..1000 {
            version += 1;
            write(&engine, large(number, version)).unwrap();
            assert!(engine.stats().unwrap().disk_bytes <= 8 << 20);
        }
    }
    let stats = engine.stats().unwrap();
    assert!(stats.live_bytes > 19 << 20 && stats.cold_bytes > 12 << 20, "{stats:?}");
    for number in 0..1000 {
        let found = engine.read(&key(number)).unwrap().unwrap();
        assert_eq!(found.value, large(number, 1).value, "key {number}");
        let range = engine.read_range(&key(number), 19_000, 2000).unwrap().unwrap();
        assert_eq!(range.found.value.len(), 1000);
    }
    for number in 0..1000 {
        version += 1;
        write(&engine, Record::delete(key(number), version)).unwrap();
    }
    engine.compact().unwrap();
    engine.tier().unwrap();
    let stats = engine.stats().unwrap();
    assert!(stats.cold_bytes < 4 << 20, "dead segments stay in the bucket: {stats:?}");
    end(&world, engine);
}

#[test]
fn without_its_bucket_a_full_disk_refuses_puts_and_takes_them_again_when_it_is_back() {
    let (world, bucket) = with_bucket();
    let engine = world.open(&tight()).unwrap();
    let mut version = 0;
    let mut write = |engine: &Engine| {
        version += 1;
        let written = write(engine, large(version, version));
        if written.is_err() {
            // Who was told of the loss has taken note of it.
            engine.resume();
        }
        written.map(|()| version)
    };
    for _ in 0..500 {
        write(&engine).unwrap();
    }
    bucket.set_plan(failing_from(1));
    let refused = loop {
        match write(&engine) {
            Ok(last) => assert!(last < 2000, "40 MB on a disk of 8 MiB"),
            Err(error) => break error,
        }
    };
    for (refused, kind) in
        [(refused, Kind::OutOfMemory), (engine.read(&key(1)).unwrap_err(), Kind::Io)]
    {
        assert_eq!(refused.kind(), kind, "{refused}");
        assert!(refused.to_string().contains("sim://bucket"), "{refused}");
    }
    assert!(engine.read(&key(1_000_000)).unwrap().is_none());
    bucket.set_plan(BucketPlan::default());
    until("a put is taken", || {
        engine.reserve(30_000, false).map(|()| engine.release(30_000)).is_ok()
    });
    for _ in 0..300 {
        write(&engine).unwrap();
    }
    until("a cold value is read", || engine.read(&key(1)).is_ok());
    // A copy that the end interrupts stays in the bucket until the next start.
    engine.tier().unwrap();
    end(&world, engine);
}
