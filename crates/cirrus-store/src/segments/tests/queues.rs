//! Queues on rows: first in, first out, over restarts.

use std::collections::VecDeque;

use super::{Dice, check, key, open, put, small, value};
use crate::error::Kind;
use crate::segments::RecordKind;
use crate::segments::sim::SimDisk;

#[test]
fn items_come_in_order_over_restarts_and_compactions() {
    let disk = SimDisk::default();
    let mut engine = open(&disk, &small()).unwrap();
    let mut dice = Dice(5);
    let mut model = VecDeque::new();
    for version in 1..2000 {
        match dice.roll(100) {
            0 => {
                engine.close().unwrap();
                engine = open(&disk, &small()).unwrap();
            }
            1 => drop(engine.compact().unwrap()),
            2..=50 => {
                let pushed = engine.push(put(1, version), u64::MAX).unwrap();
                model.push_back(version);
                assert_eq!(pushed.items, model.len() as u64);
                // Not awaited: the next one builds on it.
                if dice.roll(2) == 0 {
                    pushed.durable.wait().unwrap();
                }
            }
            _ => match (engine.pop(&key(1), version, 0, u64::MAX), model.pop_front()) {
                (Ok(popped), Some(wanted)) => {
                    assert_eq!(popped.value, value(wanted));
                    assert_eq!(popped.items, model.len() as u64);
                    popped.durable.wait().unwrap();
                }
                (Err(error), None) => assert_eq!(error.kind(), Kind::NotFound),
                (popped, wanted) => panic!("{popped:?}, expected {wanted:?}"),
            },
        }
    }
    engine.close().unwrap();
    check(&disk).unwrap();
}

#[test]
fn a_bound_in_bytes_a_wrong_type_and_a_removal() {
    let disk = SimDisk::default();
    let engine = open(&disk, &small()).unwrap();
    let first = engine.push(put(1, 1), 10).unwrap();
    assert_eq!(first.items, 1);
    assert_eq!(engine.push(put(1, 2), 10).unwrap_err().kind(), Kind::Busy);
    engine.push(put(1, 2), 1 << 20).unwrap().durable.wait().unwrap();
    engine.write(vec![put(2, 3)]).unwrap().wait().unwrap();
    assert_eq!(engine.push(put(2, 4), 10).unwrap_err().kind(), Kind::WrongType);
    assert_eq!(engine.pop(&key(1), 5, 0, 1).unwrap_err().kind(), Kind::Busy);
    let head = engine.read(&key(1)).unwrap().unwrap();
    assert_eq!(head.kind, RecordKind::Queue);
    let bytes = (value(1).len() + value(2).len()) as u64;
    assert_eq!(engine.queue_size(&head).unwrap(), (2, bytes));
    let removal = engine.removal(&key(1), 6, 0).unwrap().unwrap();
    assert_eq!(removal.len(), 3);
    engine.write(removal).unwrap().wait().unwrap();
    assert_eq!(engine.read_item(&key(1), 1).unwrap(), None);
    assert_eq!(engine.stats().unwrap().objects, 1);
}
