//! A disk that fails or is full at every call in turn: typed errors, and reads go on.

use std::collections::BTreeMap;

use super::{check, compare, key, open, put, small};
use crate::error::Kind;
use crate::segments::options::Options;
use crate::segments::sim::{Plan, SimDisk};

const KEYS: u64 = 16;

/// Writes until something fails. What was acknowledged, the largest version that was submitted, and
/// the kinds of failures.
fn run(disk: &SimDisk, options: &Options, plan: Plan) -> Option<Vec<Kind>> {
    let engine = open(disk, options).unwrap();
    let mut model = BTreeMap::new();
    let mut doubt = BTreeMap::new();
    let mut kinds = Vec::new();
    for version in 1..=40u64 {
        if version == 3 {
            disk.set_plan(plan);
        }
        let number = version % KEYS;
        let result = engine.write(vec![put(number, version)]).and_then(|durable| durable.wait());
        match result {
            Ok(()) => drop(model.insert(number, version)),
            Err(error) => {
                kinds.push(error.kind());
                if error.kind() == Kind::Unknown {
                    doubt.insert(number, version);
                }
                // Nothing is taken before that was noted.
                assert!(engine.refusal().is_some());
                engine.resume();
            }
        }
        if version % 10 == 0 {
            kinds.extend(engine.checkpoint().err().map(|error| error.kind()));
            kinds.extend(engine.compact().err().map(|error| error.kind()));
        }
        // Reads go on, whatever failed.
        compare(&engine, &model, KEYS).unwrap_or_else(|error| panic!("{plan:?}: {error}"));
    }
    kinds.extend(engine.close().err().map(|error| error.kind()));
    let calls = disk.calls();
    disk.killed();
    let engine = open(disk, options).unwrap();
    for number in 0..KEYS {
        let found = engine.read(&key(number)).unwrap().map(|found| found.version.0);
        let is_right = found == model.get(&number).copied()
            || found.is_some() && found == doubt.get(&number).copied();
        assert!(is_right, "{plan:?}: key {number} has {found:?}, {model:?}, in doubt {doubt:?}");
    }
    engine.close().unwrap();
    check(disk, None).unwrap();
    let reached = plan.fail_from.or(plan.fail_once).is_none_or(|at| calls >= at);
    reached.then_some(kinds)
}

#[test]
fn every_failing_call_is_a_typed_error_and_reads_go_on() {
    let mut silent = 0;
    for at in 1.. {
        let plan = Plan { fail_from: Some(at), ..Plan::default() };
        let Some(kinds) = run(&SimDisk::default(), &small(), plan) else {
            assert!(at > 80, "{at} calls");
            break;
        };
        assert!(silent == 0 || kinds.is_empty(), "call {at} follows one that nobody was told of");
        silent += u64::from(kinds.is_empty());
        let are_typed = kinds.iter().all(|kind| matches!(kind, Kind::Io | Kind::Unknown));
        assert!(are_typed, "call {at}: {kinds:?}");
    }
    // The last calls of all, what redb writes when it is dropped after the last checkpoint: nothing
    // depends on it, as the restart has shown.
    assert!(silent <= 20, "{silent} calls failed and nobody was told");
}

#[test]
fn one_failing_call_loses_nothing_and_no_sync_is_tried_twice() {
    for at in 1.. {
        let plan = Plan { fail_once: Some(at), ..Plan::default() };
        let Some(kinds) = run(&SimDisk::default(), &small(), plan) else { break };
        let are_typed = kinds.iter().all(|kind| matches!(kind, Kind::Io | Kind::Unknown));
        assert!(are_typed, "call {at}: {kinds:?}");
        // After a failed sync nothing is written any more.
        if let Some(first) = kinds.iter().position(|kind| *kind == Kind::Unknown) {
            assert!(kinds[first + 1..].iter().all(|kind| *kind == Kind::Io), "{kinds:?}");
        }
    }
}

#[test]
fn a_full_disk_is_out_of_memory_and_reads_go_on() {
    let mut seen = 0;
    for room in (0..60_000).step_by(611) {
        let disk = SimDisk::default();
        drop(open(&disk, &small()).unwrap());
        let used = u64::MAX - crate::segments::Disk::free_bytes(&disk).unwrap();
        let plan = Plan { full_at: Some(used + room), ..Plan::default() };
        let kinds = run(&disk, &small(), plan).unwrap();
        seen += kinds.iter().filter(|kind| **kind == Kind::OutOfMemory).count();
        let are_typed =
            kinds.iter().all(|kind| matches!(kind, Kind::OutOfMemory | Kind::Io | Kind::Unknown));
        assert!(are_typed, "{room} bytes of room: {kinds:?}");
    }
    assert!(seen > 40, "{seen} writes found the disk full");
}

#[test]
fn a_failing_read_is_a_typed_error() {
    let disk = SimDisk::default();
    let mut options = small();
    options.hot_bytes = 0;
    let engine = open(&disk, &options).unwrap();
    engine.write(vec![put(1, 1)]).unwrap().wait().unwrap();
    disk.set_plan(Plan { fail_reads_from: Some(1), ..Plan::default() });
    assert_eq!(engine.read(&key(1)).unwrap_err().kind(), Kind::Io);
    disk.killed();
    assert_eq!(engine.read(&key(1)).unwrap().unwrap().version.0, 1);
}
