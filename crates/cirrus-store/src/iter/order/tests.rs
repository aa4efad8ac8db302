//! Every order: as a permutation where it is one, run against record, record against lookup.

use std::sync::Arc;

use super::*;
use crate::error::Kind;
use crate::iter::EpochSeed;
use crate::set::Manifest;

const SEED: EpochSeed = EpochSeed { seed: 42, epoch: 0 };

fn manifest(count: u64, packing: u32) -> Manifest {
    Manifest::empty().with_count(count).with_packing(packing).unwrap()
}

fn records(order: &dyn Order) -> Vec<u64> {
    (0..order.len()).map(|position| order.record(position).unwrap()).collect()
}

/// All that is promised of an order that has every one of `0..len` once.
fn assert_whole(order: &dyn Order, len: u64) {
    let all = records(order);
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..len).collect::<Vec<_>>(), "{order:?}");
    assert_consistent(order, &all);
    let lookup = order.lookup().unwrap();
    for (position, record) in (0..).zip(&all) {
        assert_eq!(lookup.position_of(*record, 0), Some(position), "{order:?}");
        assert_eq!(lookup.position_of(*record, position), Some(position), "{order:?}");
        assert_eq!(lookup.position_of(*record, position + 1), None, "{order:?}");
    }
    assert_eq!(lookup.position_of(len, 0), None, "{order:?}");
}

fn assert_consistent(order: &dyn Order, all: &[u64]) {
    let len = order.len();
    assert_eq!((order.record(len), order.is_empty()), (None, len == 0), "{order:?}");
    for (start, end) in [(0, len), (0, len + 9), (len / 3, len - len / 4), (len, len + 1)] {
        let mut run = vec![1];
        order.run(start..end, &mut run);
        let [start, end] = [start, end.min(len)].map(|at| usize::try_from(at).unwrap());
        assert_eq!(run[1..], all[start..end], "{order:?} {start}..{end}");
    }
}

#[test]
fn every_record_comes_once_and_is_found_again() {
    for len in 0..130 {
        assert_whole(&Sequential::new(len), len);
        assert_whole(&Shuffled::new(EpochSeed { seed: len, epoch: 3 }, len), len);
        for step in [1, 2, 3, 10, 64, 200] {
            assert_whole(&Strided::new(len, step).unwrap(), len);
        }
        for (packing, window) in [(1, 1), (1, 7), (3, 1), (3, 4), (8, 2), (8, 0), (50, 2), (7, 999)]
        {
            let seed = EpochSeed { seed: len, epoch: 9 };
            assert_whole(&Windowed::new(seed, &manifest(len, packing), window), len);
        }
    }
}

#[test]
fn a_stride_goes_lane_by_lane() {
    let order = Strided::new(10, 4).unwrap();
    assert_eq!(records(&order), [0, 4, 8, 1, 5, 9, 2, 6, 3, 7]);
    assert_eq!((order.lane(1), order.lane(3), order.lane(4)), (3..6, 8..10, 10..10));
    assert_eq!(Strided::new(10, 0).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn windows_never_change() {
    // A second implementation, in Python, gave the same numbers.
    let small = Windowed::new(SEED, &manifest(17, 3), 2);
    assert_eq!(records(&small), [4, 16, 3, 15, 5, 11, 7, 10, 8, 6, 9, 12, 0, 1, 14, 13, 2]);
    let one = Windowed::new(EpochSeed { seed: 1, epoch: 5 }, &manifest(10, 4), 100);
    assert_eq!(records(&one), [7, 8, 6, 4, 0, 3, 9, 1, 2, 5]);
    let seed = EpochSeed { seed: 42, epoch: 3 };
    let large = Windowed::new(seed, &manifest(10_000_000_000, 1000), 64);
    let some = [0, 1, 4_999_999_999, 9_999_999_999];
    let expected = [3126127541, 7870284095, 9968675653, 1420680604];
    assert_eq!(some.map(|position| large.record(position).unwrap()), expected);
    for (position, record) in some.into_iter().zip(expected) {
        assert_eq!(large.position_of(record, 0), Some(position));
    }
}

#[test]
fn a_window_has_the_records_of_its_objects() {
    for (count, packing, window) in [(1000u64, 10u32, 4u64), (1003, 10, 4), (95, 10, 3)] {
        let order = Windowed::new(SEED, &manifest(count, packing), window);
        let mut seen = std::collections::HashSet::new();
        let mut position = 0;
        while position < count {
            let mut objects = std::collections::HashSet::new();
            let (positions, _) = order.window(order.window_of(position));
            assert_eq!(positions.start, position);
            assert!(positions.end - positions.start <= order.span());
            for at in positions.clone() {
                objects.insert(order.record(at).unwrap() / u64::from(packing));
            }
            assert!(objects.len() as u64 <= window);
            assert!(objects.iter().all(|object| seen.insert(*object)), "an object in two windows");
            position = positions.end;
        }
    }
}

#[test]
fn a_record_lands_anywhere_in_its_window() {
    // 4 objects of 8 records in one window: each record at each place as often as at the others.
    let mut counts = vec![0u32; 32];
    for seed in 0..64_000 {
        let order = Windowed::new(EpochSeed { seed, epoch: 1 }, &manifest(32, 8), 4);
        counts[usize::try_from(order.position_of(9, 0).unwrap()).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
}

#[test]
fn weights_are_how_often_records_come() {
    let weights = [3.0, 0.0, 1.0, 0.5, 0.0, 5.5];
    let order = Weighted::new(SEED, &weights, 400_000).unwrap();
    let mut counts = [0u32; 6];
    for record in records(&order) {
        counts[usize::try_from(record).unwrap()] += 1;
    }
    let mut statistic = 0.0;
    for (count, weight) in counts.into_iter().zip(weights) {
        let expected = weight * 40_000.0;
        if weight == 0.0 {
            assert_eq!(count, 0);
        } else {
            statistic += (f64::from(count) - expected).powi(2) / expected;
        }
    }
    // Pearson's with 3 degrees of freedom: chance alone crosses it less than once in 10,000.
    assert!(statistic < 21.1, "{statistic} {counts:?}");
    let other = order.with_seed(EpochSeed { seed: 42, epoch: 1 });
    assert_ne!(records(&other)[..50], records(&order)[..50]);
    assert_consistent(&other, &records(&other));
}

#[test]
fn draws_never_change() {
    // A second implementation, in Python, gave the same numbers.
    let even = Weighted::new(EpochSeed { seed: 7, epoch: 1 }, &[1.0; 4], 4).unwrap();
    assert_eq!(records(&even), [1, 2, 1, 1]);
}

#[test]
fn weights_that_cannot_be_are_refused() {
    for weights in [&[][..], &[0.0, 0.0], &[1.0, -1.0], &[f64::NAN], &[f64::MAX, f64::MAX]] {
        assert_eq!(Weighted::new(SEED, weights, 1).unwrap_err().kind(), Kind::Invalid);
    }
    // Very unequal ones are not: nothing without weight is ever drawn.
    let order = Weighted::new(SEED, &[0.0, 1e-300, 0.0, 1e300, 0.0], 10_000).unwrap();
    assert!(records(&order).iter().all(|record| *record == 3));
}

#[test]
fn epochs_follow_each_other() {
    let shuffled = |epoch| Shuffled::new(EpochSeed { seed: 1, epoch }, 10);
    let order = Epochs::new(4, move |epoch| Arc::new(shuffled(epoch)));
    let all = records(&order);
    let expected: Vec<u64> = (0..4).flat_map(|epoch| records(&shuffled(epoch))).collect();
    assert_eq!(all, expected);
    assert_consistent(&order, &all);
    assert_eq!((order.epoch_of(9), order.epoch_of(10)), ((0, 9), (1, 0)));
    let lookup = order.lookup().unwrap();
    for record in 0..11 {
        for from in 0..41 {
            let expected = (from..40).find(|at| all[usize::try_from(*at).unwrap()] == record);
            assert_eq!(lookup.position_of(record, from), expected);
        }
    }
    assert!(Epochs::new(2, |_| Arc::new(Listed::new([1, 2]))).lookup().is_none());
    let none = Epochs::new(3, |_| Arc::new(Sequential::new(0)));
    assert_consistent(&none, &[]);
}

#[test]
fn a_list_is_its_order() {
    let order = Listed::new([5, 1, 5, 0]);
    assert_eq!(records(&order), [5, 1, 5, 0]);
    assert_consistent(&order, &[5, 1, 5, 0]);
}

#[test]
fn fingerprints_tell_orders_apart_and_never_change() {
    let orders: [&dyn Order; 6] = [
        &Sequential::new(1000),
        &Sequential::new(1001),
        &Shuffled::new(SEED, 1000),
        &Shuffled::new(EpochSeed { seed: 42, epoch: 1 }, 1000),
        &Strided::new(1000, 10).unwrap(),
        &Windowed::new(SEED, &manifest(1000, 10), 4),
    ];
    let prints = orders.map(fingerprint);
    let distinct: std::collections::HashSet<u64> = prints.into_iter().collect();
    assert_eq!(distinct.len(), orders.len());
    assert_eq!(fingerprint(&Sequential::new(1000)), 1928006253719532648);
}
