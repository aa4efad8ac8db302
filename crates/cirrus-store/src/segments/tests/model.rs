//! Random operations, restarts, checkpoints and compactions against a map.

use std::collections::BTreeMap;

use super::{Dice, check, compare, key, open, put, small, value};
use crate::segments::Record;
use crate::segments::sim::SimDisk;

const KEYS: u64 = 200;

fn against_a_map(seed: u64) {
    let disk = SimDisk::default();
    let mut options = small();
    options.background = seed % 2 == 1;
    options.checkpoint_rows = 64;
    options.compaction_bytes_per_second = u64::MAX;
    let mut dice = Dice(seed);
    let mut model = BTreeMap::new();
    let mut engine = open(&disk, &options).unwrap();
    // Also of the engines before: the last one may find nothing left to do.
    let mut compactions = 0;
    for version in 1..3000 {
        let number = dice.roll(KEYS);
        match dice.roll(200) {
            0 => engine.checkpoint().unwrap(),
            1 => compactions += u64::from(engine.compact().unwrap() > 0),
            2 => {
                compactions += engine.stats().unwrap().compactions;
                engine.close().unwrap();
                engine = open(&disk, &options).unwrap();
                compare(&engine, &model, KEYS).unwrap();
            }
            3..=20 => {
                let found = engine.read(&key(number)).unwrap();
                assert_eq!(found.as_ref().map(|f| &f.version.0), model.get(&number), "seed {seed}");
                if let Some(found) = found {
                    let whole = value(found.version.0);
                    let (offset, len) = (dice.roll(1500), dice.roll(1500));
                    let part = engine.read_range(&key(number), offset, len).unwrap().unwrap();
                    let from = usize::try_from(offset).unwrap().min(whole.len());
                    let to = (from + usize::try_from(len).unwrap()).min(whole.len());
                    assert_eq!(part.found.value, whole.slice(from..to));
                }
            }
            21..=80 => {
                engine.delete(key(number), version).unwrap().wait().unwrap();
                model.remove(&number);
            }
            _ => {
                let other = (number + 1) % KEYS;
                let records = vec![put(number, version), put(other, version)];
                engine.write(records).unwrap().wait().unwrap();
                model.extend([(number, version), (other, version)]);
            }
        }
    }
    compare(&engine, &model, KEYS).unwrap();
    compactions += engine.stats().unwrap().compactions;
    assert!(compactions > 0 || engine.compact().unwrap() > 0);
    engine.close().unwrap();
    check(&disk, None).unwrap();
}

#[test]
fn it_is_a_map_that_lasts() {
    for seed in 0..6 {
        against_a_map(seed);
    }
}

#[test]
fn a_write_is_refused_whose_version_its_slot_has_seen() {
    use crate::error::Kind;
    let disk = SimDisk::default();
    let engine = open(&disk, &small()).unwrap();
    engine.put(key(1), 5, value(5)).unwrap().wait().unwrap();
    engine.delete(key(1), 7).unwrap().wait().unwrap();
    engine.close().unwrap();
    let engine = open(&disk, &small()).unwrap();
    assert_eq!(engine.version(key(1).slot()).0, 7);
    let refused = engine.put(key(1), 7, value(7)).unwrap_err();
    assert_eq!((refused.kind(), refused.detail()), (Kind::Invalid, 7));
    let twice = vec![put(2, 1), Record::delete(key(2), 1)];
    assert_eq!(engine.write(twice).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn what_waits_for_its_sync_is_not_read_and_settles_in_order() {
    let disk = SimDisk::default();
    let engine = open(&disk, &small()).unwrap();
    engine.put(key(1), 1, value(1)).unwrap().wait().unwrap();
    let record = put(1, 2);
    engine.reserve(record.bytes(), false).unwrap();
    let position = engine.submit(vec![record.clone()], record.bytes());
    assert_eq!(position, 2);
    let progress = engine.progress();
    while progress.borrow().of(position).is_none() {
        let version = engine.read(&key(1)).unwrap().unwrap().version.0;
        assert!(version == 1 || version == 2, "it is one or the other");
        std::thread::yield_now();
    }
    progress.borrow().of(position).unwrap().unwrap();
    assert_eq!(engine.read(&key(1)).unwrap().unwrap().version.0, 2);
    assert_eq!(engine.stat(&key(1)).unwrap().unwrap().size, value(2).len() as u64);
    // A version that its slot has seen is found out at submission: the position is lost.
    engine.reserve(record.bytes(), false).unwrap();
    let lost = engine.submit(vec![record.clone()], record.bytes());
    let error = progress.borrow().of(lost).unwrap().unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Invalid);
    assert!(engine.put(key(2), 1, value(1)).is_err(), "nothing is taken until it was noted");
    engine.resume();
    engine.put(key(2), 1, value(1)).unwrap().wait().unwrap();
}
