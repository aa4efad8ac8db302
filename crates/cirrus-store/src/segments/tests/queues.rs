//! Queues on rows: a head and its items change together.

use super::{check, key, open, put, small, value};
use crate::key::Key;
use crate::segments::sim::SimDisk;
use crate::segments::{QueueHead, Record, RecordKind};

fn head(version: u64, head: QueueHead) -> Record {
    let record = Record::put(key(1), version, head.encode());
    Record { kind: RecordKind::Queue, ..record }
}

fn item(version: u64, number: u64) -> Record {
    Record { kind: RecordKind::Item, item: number, ..put(1, version) }
}

fn gone(key: Key, version: u64, number: u64) -> Record {
    Record { kind: RecordKind::DeleteItem, item: number, ..Record::delete(key, version) }
}

#[test]
fn items_are_those_that_the_head_names_over_restarts_and_compactions() {
    let disk = SimDisk::default();
    let mut engine = open(&disk, &small()).unwrap();
    let middle = 1 << 62;
    let mut now = QueueHead { first: middle, end: middle, bytes: 0 };
    for version in 1..600 {
        match version % 50 {
            7 => {
                engine.close().unwrap();
                engine = open(&disk, &small()).unwrap();
            }
            9 => drop(engine.compact().unwrap()),
            _ => {}
        }
        let records = if version % 3 == 0 && now.len() > 4 {
            let first = now.first;
            now.first += 1;
            vec![gone(key(1), version, first), head(version, now)]
        } else {
            now.end += 1;
            vec![item(version, now.end - 1), head(version, now)]
        };
        engine.write(records).unwrap().wait().unwrap();
    }
    let found = engine.read(&key(1)).unwrap().unwrap();
    assert_eq!(found.kind, RecordKind::Queue);
    assert_eq!(QueueHead::decode(&found.value).unwrap(), now);
    let items = engine.read_items(&key(1), &now).unwrap().unwrap();
    assert_eq!(items.len() as u64, now.len());
    assert!(items.iter().all(|item| item.value == value(item.version.0)));
    let before = QueueHead { first: now.first - 1, ..now };
    assert_eq!(engine.read_items(&key(1), &before).unwrap(), None);
    engine.close().unwrap();
    check(&disk, None).unwrap();
}

#[test]
fn a_head_of_other_bytes_is_refused() {
    let head = QueueHead { first: 3, end: 9, bytes: 77 };
    assert_eq!(QueueHead::decode(&head.encode()).unwrap(), head);
    assert!(QueueHead::decode(&head.encode()[1..]).is_err());
    let backwards = QueueHead { first: 9, end: 3, bytes: 0 };
    assert!(QueueHead::decode(&backwards.encode()).is_err());
}
