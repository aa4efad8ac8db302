//! What can be had, computed without looking at any policy.
//!
//! Owns MIN by looking ahead in the list, and the optimum by trying everything. Knows neither
//! [`Evict`](super::Evict) nor the cache. Invariant: slow and plain; nothing is shared with what it
//! checks.

use std::collections::HashMap;

/// Hits when each eviction takes what is read again last, and everything that fits is kept.
pub(in crate::cache) fn min_hits(reads: &[u32], size: impl Fn(u32) -> u64, capacity: u64) -> u64 {
    let mut held: Vec<u32> = Vec::new();
    let mut hits = 0;
    for (time, page) in reads.iter().enumerate() {
        if held.contains(page) {
            hits += 1;
            continue;
        }
        if size(*page) > capacity {
            continue;
        }
        let later = &reads[time + 1..];
        let next = |page: &u32| later.iter().position(|other| other == page).unwrap_or(usize::MAX);
        while held.iter().map(|page| size(*page)).sum::<u64>() + size(*page) > capacity {
            let furthest = held.iter().copied().max_by_key(next).unwrap();
            held.retain(|page| *page != furthest);
        }
        held.push(*page);
    }
    hits
}

/// The most hits that any choice of victims has, for pages below 16: all sets of pages that can be
/// held after each read, and the most hits on the way there.
pub(in crate::cache) fn optimal_hits(
    reads: &[u32],
    size: impl Fn(u32) -> u64,
    capacity: u64,
) -> u64 {
    let bytes = |set: u16| -> u64 { (0..16).filter(|page| set >> page & 1 == 1).map(&size).sum() };
    let mut best: HashMap<u16, u64> = HashMap::from([(0, 0)]);
    for page in reads {
        let bit = 1u16 << page;
        let mut after: HashMap<u16, u64> = HashMap::new();
        let mut reach = |set: u16, hits: u64| {
            let most = after.entry(set).or_default();
            *most = (*most).max(hits);
        };
        for (set, hits) in best {
            if set & bit != 0 {
                reach(set, hits + 1);
                continue;
            }
            // Every part of what is held may stay.
            let mut stays = set;
            loop {
                let with = stays | bit;
                if bytes(with) <= capacity {
                    reach(with, hits);
                }
                if stays == 0 {
                    break;
                }
                stays = (stays - 1) & set;
            }
        }
        best = after;
    }
    best.into_values().max().unwrap_or(0)
}

/// Numbers below the one that is asked for, fixed by `seed` (an LCG; Knuth's MMIX constants).
pub(in crate::cache) fn numbers(seed: u64) -> impl FnMut(u32) -> u32 {
    let mut state = seed;
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((state >> 33) % u64::from(below)).unwrap()
    }
}

#[test]
fn the_references_agree_where_they_must() {
    let textbook = [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1];
    assert_eq!(min_hits(&textbook, |_| 1, 3), 20 - 9);
    assert_eq!(optimal_hits(&textbook, |_| 1, 3), 20 - 9);
    for seed in 0..300 {
        let mut number = numbers(seed);
        let reads: Vec<u32> = (0..30).map(|_| number(8)).collect();
        let capacity = u64::from(1 + number(7));
        let min = min_hits(&reads, |_| 1, capacity);
        assert_eq!(min, optimal_hits(&reads, |_| 1, capacity), "seed {seed}");
    }
}
