//! Room: refused before it is written, deletes always, garbage collected, bytes on disk bounded.

use super::{check, key, open, small};
use crate::error::Kind;
use crate::segments::Record;
use crate::segments::options::Options;
use crate::segments::sim::SimDisk;

fn tight() -> Options {
    let mut options = small();
    options.capacity = 8 << 20;
    options.segment_bytes = 256 << 10;
    options.background = true;
    options.checkpoint_rows = 256;
    options
}

fn record(number: u64, version: u64, len: usize) -> Record {
    Record::put(key(number), version, vec![7; len].into())
}

#[test]
fn a_full_engine_refuses_puts_and_takes_deletes() {
    let disk = SimDisk::default();
    let engine = open(&disk, &tight()).unwrap();
    let mut version = 0;
    let refused = loop {
        version += 1;
        match engine.write(vec![record(version, version, 20_000)]) {
            Ok(durable) => durable.wait().unwrap(),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), Kind::OutOfMemory);
    let stats = engine.stats().unwrap();
    assert!(refused.detail() < 21_000 && stats.disk_bytes <= 8 << 20, "{refused:?} {stats:?}");
    let count = version;
    for number in 1..count {
        version += 1;
        engine.delete(key(number), version).unwrap().wait().unwrap();
    }
    // Most of it may be filled again, twice: what was deleted is given back. (An overwrite needs
    // room for both, and the index has grown.)
    for _ in 0..2 {
        for number in 1..count * 3 / 4 {
            version += 1;
            engine.write(vec![record(number, version, 20_000)]).unwrap().wait().unwrap();
        }
        assert!(engine.stats().unwrap().disk_bytes <= 8 << 20);
    }
    engine.close().unwrap();
    check(&disk, None).unwrap();
}

#[test]
fn overwriting_keeps_the_disk_within_twice_what_is_live() {
    let disk = SimDisk::default();
    let mut options = tight();
    options.capacity = 1 << 30;
    options.background = false;
    let engine = open(&disk, &options).unwrap();
    for version in 1..3000 {
        let written = engine.write(vec![record(version * 7919 % 100, version, 10_000)]);
        written.unwrap().wait().unwrap();
        if version % 50 == 0 {
            engine.compact().unwrap();
            let stats = engine.stats().unwrap();
            let bytes = stats.disk_bytes - stats.index_bytes;
            let bound = 2 * stats.live_bytes + 2 * options.segment_bytes;
            assert!(bytes <= bound, "{bytes} bytes, {stats:?}");
        }
    }
    assert!(engine.stats().unwrap().compactions > 50);
}

#[test]
fn deletes_vanish_once_nothing_needs_them() {
    let disk = SimDisk::default();
    let mut options = small();
    options.capacity = 1 << 30;
    let engine = open(&disk, &options).unwrap();
    let mut version = 0;
    // Cold ones first, so that the oldest segments stay.
    for number in 0..100 {
        version += 1;
        engine.write(vec![record(1_000_000 + number, version, 1000)]).unwrap().wait().unwrap();
    }
    for round in 0..40 {
        for number in 0..50 {
            version += 1;
            engine.write(vec![record(round * 50 + number, version, 60)]).unwrap().wait().unwrap();
        }
        for number in 0..50 {
            version += 1;
            engine.delete(key(round * 50 + number), version).unwrap().wait().unwrap();
        }
        engine.compact().unwrap();
    }
    let stats = engine.stats().unwrap();
    let bytes = stats.disk_bytes - stats.index_bytes;
    assert!(bytes < 100 * 1100 + 8 * (8 << 10), "{bytes} bytes for 100 objects: {stats:?}");
    assert_eq!(stats.objects, 100);
}

#[test]
fn without_syncs_it_starts_empty() {
    let disk = SimDisk::default();
    let mut options = small();
    options.durable = false;
    let engine = open(&disk, &options).unwrap();
    let before = disk.syncs();
    for version in 1..200 {
        engine.write(vec![record(version, version, 100)]).unwrap().wait().unwrap();
    }
    engine.checkpoint().unwrap();
    assert_eq!((disk.syncs(), engine.stats().unwrap().objects), (before, 199));
    engine.close().unwrap();
    let engine = open(&disk, &options).unwrap();
    assert_eq!(engine.stats().unwrap().objects, 0);
}

#[test]
fn what_compaction_said_of_an_earlier_group_stops_no_later_one() {
    let engine = open(&SimDisk::default(), &tight()).unwrap();
    for version in 1..2000 {
        // Late, as it may be when the keeper is asked twice for the same room.
        engine.shared.inbox.lock().stuck_at = Some(0);
        let written = engine.write(vec![record(version % 20, version, 20_000)]).unwrap();
        written.wait().unwrap_or_else(|error| panic!("version {version}: {error}"));
    }
    assert!(engine.stats().unwrap().compactions > 10);
}
