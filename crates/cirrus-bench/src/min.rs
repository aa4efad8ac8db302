//! Belady's MIN, independent of Cirrus.
//!
//! Owns two passes over a list of reads. Knows nothing of caches or policies, and shares no code
//! with those that it judges. Invariant: what fits is kept, and what leaves is read again last.

use std::collections::{BinaryHeap, HashMap};

/// How many reads find their page in a cache of `capacity` bytes. The most that there can be where
/// all pages are equal (Belady, IBM Systems Journal 5(2), 1966; Mattson et al., 9(2), 1970).
pub(crate) fn hits(reads: &[u32], bytes: impl Fn(u32) -> u64, capacity: u64) -> u64 {
    let next = next_reads(reads);
    // When each page that is held is read next.
    let mut held: HashMap<u32, usize> = HashMap::new();
    // The same, the last first, and what was true earlier.
    let mut order: BinaryHeap<(usize, u32)> = BinaryHeap::new();
    let (mut hits, mut used) = (0, 0);
    for (page, next) in reads.iter().copied().zip(next) {
        if bytes(page) > capacity {
            continue;
        }
        if held.contains_key(&page) {
            hits += 1;
        } else {
            used += bytes(page);
        }
        while used > capacity {
            let Some((read_at, victim)) = order.pop() else { break };
            if victim != page && held.get(&victim) == Some(&read_at) {
                held.remove(&victim);
                used -= bytes(victim);
            }
        }
        held.insert(page, next);
        order.push((next, page));
    }
    hits
}

/// For each read, when its page is read again; `usize::MAX` for never.
fn next_reads(reads: &[u32]) -> Vec<usize> {
    let mut next = vec![usize::MAX; reads.len()];
    let mut later: HashMap<u32, usize> = HashMap::new();
    for (at, page) in reads.iter().enumerate().rev() {
        if let Some(read_at) = later.insert(*page, at) {
            next[at] = read_at;
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Silberschatz, Galvin and Gagne, "Operating System Concepts": nine faults with three frames.
    #[test]
    fn it_hits_as_often_as_the_textbook_says() {
        let reads = [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1];
        assert_eq!(hits(&reads, |_| 1, 3), 20 - 9);
        assert_eq!(hits(&reads, |_| 10, 39), 20 - 9);
        assert_eq!(hits(&reads, |_| 1, 6), 20 - 6);
        assert_eq!(hits(&reads, |_| 2, 1), 0);
    }

    #[test]
    fn pages_of_other_sizes_take_their_room() {
        // 2 is read last and leaves for 3, which takes the room of both others.
        let size = |page| if page == 3 { 2 } else { 1 };
        assert_eq!(hits(&[1, 2, 3, 1, 2], size, 3), 1);
        assert_eq!(hits(&[1, 2, 3, 1, 2], size, 4), 2);
    }
}
