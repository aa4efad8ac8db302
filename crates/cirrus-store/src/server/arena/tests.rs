//! The arena against models, under random calls.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::mapping::PAGE_BYTES;
use super::*;
use crate::server::memory::Memory;

/// Small random numbers that follow a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

const ROUNDS: usize = if cfg!(miri) { 300 } else { 60_000 };

/// Bytes that tell one record from another.
fn pattern(seed: usize) -> u8 {
    (seed % 251).to_le_bytes()[0]
}

#[derive(Debug)]
struct Held {
    record: Record,
    len: usize,
    seed: usize,
}

fn hold(slabs: &Slabs, len: usize, seed: usize) -> Option<Held> {
    let mut record = slabs.take(len, u32::try_from(seed % 1000).unwrap()).ok()?;
    slabs.bytes_mut(&mut record)[..len].fill(pattern(seed));
    Some(Held { record, len, seed })
}

fn check(slabs: &Slabs, held: &Held) {
    let bytes = &slabs.bytes(&held.record)[..held.len];
    assert!(bytes.iter().all(|byte| *byte == pattern(held.seed)), "{held:?}");
    assert_eq!(held.record.tag() as usize, held.seed % 1000);
}

fn evacuate(slabs: &Slabs, held: &mut [Held], fill_max: usize) -> usize {
    let victims = slabs.choose_victims(fill_max, 8);
    let count = victims.len();
    let mut moved = 0;
    for held in held.iter_mut().filter(|held| slabs.is_in_victim(&held.record)) {
        assert!(slabs.relocate(&mut held.record), "victims are chosen so that there is room");
        assert!(!slabs.is_in_victim(&held.record));
        moved += 1;
    }
    slabs.finish(victims);
    assert!(held.iter().all(|held| !slabs.is_in_victim(&held.record)));
    assert!(count > 0 || moved == 0);
    count
}

#[test]
fn records_keep_their_bytes_whatever_happens_to_others() {
    let capacity = if cfg!(miri) { 1 << 18 } else { 8 << 20 };
    let memory = Memory::new(capacity);
    let slabs = Slabs::new(memory.clone()).unwrap();
    let mut random = Random(7);
    let mut held: Vec<Held> = Vec::new();
    let (mut full, mut emptied) = (0, 0);
    // The size that is in demand changes, so that slabs run sparse.
    let mut len_max = 300;
    for seed in 0..ROUNDS {
        if seed % (ROUNDS / 12) == 0 {
            len_max = [40, 300, 3000, RECORD_BYTES_MAX][random.below(4)];
        }
        match random.below(100) {
            0 if seed % 4 == 0 => emptied += evacuate(&slabs, &mut held, 8),
            0..45 if !held.is_empty() => {
                let one = held.swap_remove(random.below(held.len()));
                check(&slabs, &one);
                slabs.give(one.record);
            }
            _ => match hold(&slabs, 1 + random.below(len_max), seed) {
                Some(one) => held.push(one),
                None => {
                    full += 1;
                    for one in held.drain(held.len() / 3..) {
                        slabs.give(one.record);
                    }
                }
            },
        }
        assert!(memory.used() <= capacity);
        assert!(slabs.touched_bytes() <= memory.used());
    }
    held.iter().for_each(|one| check(&slabs, one));
    assert!(cfg!(miri) || (full > 0 && emptied > 10), "full {full} times, {emptied} emptied");
    let live: usize = held.iter().map(|one| slabs.size(&one.record)).sum();
    assert!(slabs.hole_bytes() + live as u64 <= slabs.touched_bytes());
    held.drain(..).for_each(|one| slabs.give(one.record));
    slabs.release_empty();
    assert_eq!((memory.used(), slabs.touched_bytes(), slabs.hole_bytes()), (0, 0, 0));
}

#[test]
fn sparse_slabs_are_emptied_into_few() {
    let memory = Memory::new(8 << 20);
    let slabs = Slabs::new(memory.clone()).unwrap();
    let count = if cfg!(miri) { 2000 } else { 20_000 };
    let mut held: Vec<Held> = (0..count).map(|seed| hold(&slabs, 100, seed).unwrap()).collect();
    let before = slabs.touched_bytes();
    let (gone, mut kept): (Vec<Held>, Vec<Held>) =
        held.drain(..).partition(|held| held.seed % 4 != 0);
    gone.into_iter().for_each(|held| slabs.give(held.record));
    assert_eq!(slabs.touched_bytes(), before, "each slab has a record");
    while evacuate(&slabs, &mut kept, 8) > 0 {}
    kept.iter().for_each(|held| check(&slabs, held));
    let after = slabs.touched_bytes();
    assert!(after <= before / 4 + 2 * class::SLAB_BYTES as u64, "{before} became {after}");
}

#[test]
fn what_lies_in_no_other_slab_is_no_victim() {
    let slabs = Slabs::new(Memory::new(8 << 20)).unwrap();
    let held: Vec<Held> = (0..64).map(|n| hold(&slabs, 16 * (n + 1), n).unwrap()).collect();
    assert!(slabs.choose_victims(8, 100).is_empty());
    drop(held);
}

#[test]
fn threads_take_give_and_move_at_once() {
    let memory = Memory::new(32 << 20);
    let slabs = Slabs::new(memory.clone()).unwrap();
    // Each a shard: who holds the lock owns the records.
    let shards: Vec<Mutex<Vec<Held>>> = (0..8).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (slabs, shards) = (&slabs, &shards);
            scope.spawn(move || {
                let mut random = Random(thread);
                for seed in 0..ROUNDS / 2 {
                    let mut held = shards[random.below(8)].lock().unwrap();
                    if random.below(100) < 48 && !held.is_empty() {
                        let at = random.below(held.len());
                        let one = held.swap_remove(at);
                        check(slabs, &one);
                        slabs.give(one.record);
                    } else if let Some(one) = hold(slabs, 1 + random.below(700), seed) {
                        held.push(one);
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..ROUNDS / 100 {
                let victims = slabs.choose_victims(8, 4);
                for shard in &shards {
                    for held in shard.lock().unwrap().iter_mut() {
                        if slabs.is_in_victim(&held.record) {
                            // Others may have filled the holes meanwhile.
                            let _ = slabs.relocate(&mut held.record);
                        }
                    }
                }
                slabs.finish(victims);
            }
        });
    });
    for shard in shards {
        for held in shard.into_inner().unwrap() {
            check(&slabs, &held);
            slabs.give(held.record);
        }
    }
    slabs.release_empty();
    assert_eq!((memory.used(), slabs.hole_bytes()), (0, 0));
}

#[test]
fn extents_keep_their_bytes_and_are_reused() {
    let capacity: usize = if cfg!(miri) { 1 << 18 } else { 64 << 20 };
    let memory = Memory::new(capacity as u64);
    let extents = Extents::new(memory.clone()).unwrap();
    let mut random = Random(3);
    let mut held: VecDeque<(Extent, u8)> = VecDeque::new();
    let mut full = 0;
    for seed in 0..ROUNDS / 60 {
        let len = 1 + random.below(if seed % 7 == 0 { capacity / 8 } else { capacity / 200 });
        match extents.take(len) {
            Ok(mut extent) => {
                assert_eq!(extent.as_ref().len(), len);
                let seed = pattern(seed);
                extent.as_mut()[0] = seed;
                extent.as_mut()[len / 2] = seed;
                extent.as_mut()[len - 1] = seed;
                held.push_back((extent, seed));
            }
            Err(_) => {
                full += 1;
                held.truncate(held.len() / 2);
            }
        }
        if random.below(3) == 0 && !held.is_empty() {
            let at = random.below(held.len());
            held.swap_remove_back(at);
        }
        if random.below(50) == 0 {
            extents.sweep();
        }
        for (extent, seed) in &held {
            let bytes = extent.as_ref();
            let marks = [bytes[0], bytes[bytes.len() / 2], bytes[bytes.len() - 1]];
            assert_eq!(marks, [*seed; 3]);
        }
        let (used, kept) = extents.held_bytes();
        let pages =
            |(extent, _): &(Extent, u8)| extent.as_ref().len().next_multiple_of(PAGE_BYTES) as u64;
        assert_eq!(used, held.iter().map(pages).sum::<u64>());
        assert_eq!(memory.used(), used + kept);
        assert!(memory.used() <= capacity as u64);
    }
    assert!(cfg!(miri) || full > 0);
    held.clear();
    // What nobody asks for again goes back, step by step.
    for _ in 0..64 {
        extents.sweep();
    }
    assert_eq!(memory.used(), 0);
    assert!(extents.take(capacity).is_ok(), "all of it, in one piece");
    assert!(extents.take(capacity + PAGE_BYTES).is_err());
}
