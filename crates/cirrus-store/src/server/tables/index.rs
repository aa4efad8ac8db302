//! Where does a row of a large table lie?
//!
//! Owns the places of touched rows, found by linear probing (Knuth, "The Art of Computer Programming", volume 3,
//! section 6.4) in parts that grow each by itself. Knows nothing of what lies at a place.
//! Invariant: what it takes is paid for before it is taken. A row is put where its hash says, under a key drawn
//! for this index: nobody who names rows can make them meet.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use crate::error::Kind;
use crate::server::arena::prefetch;
use crate::server::memory::Memory;
use crate::wire::Fault;

const PARTS: usize = 256;
const SLOTS_MIN: usize = 16;

/// No place: rows are numbered below it.
pub(super) const NOWHERE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Index {
    memory: Memory,
    hasher: RandomState,
    parts: Vec<Part>,
    /// The rows by their places.
    rows: Vec<u32>,
    /// What both take, which is paid.
    bytes: u64,
}

/// A power of two slots, of which a quarter is free, or none.
#[derive(Debug, Default)]
struct Part {
    slots: Vec<Slot>,
    taken: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    row: u32,
    place: u32,
}

const FREE: Slot = Slot { row: 0, place: NOWHERE };

impl Index {
    pub(super) fn new(memory: Memory) -> Self {
        let parts = std::iter::repeat_with(Part::default).take(PARTS).collect();
        Self { memory, hasher: RandomState::default(), parts, rows: Vec::new(), bytes: 0 }
    }

    /// The rows by their places.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The bytes of it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The row's place, or [`NOWHERE`].
    pub(super) fn find(&self, row: u32) -> u32 {
        let hash = self.hasher.hash_one(row);
        self.parts[part_of(hash)].find(hash, row).place
    }

    /// Has the processor fetch what [`find`](Self::find) will look at.
    pub(super) fn prefetch(&self, row: u32) {
        let hash = self.hasher.hash_one(row);
        let part = &self.parts[part_of(hash)];
        prefetch(part.slots.as_ptr().wrapping_add(part.home(hash)));
    }

    /// The place of the next row that comes.
    pub(super) fn next(&self) -> Result<u32, Fault> {
        let next = u32::try_from(self.rows.len()).ok().filter(|next| *next < NOWHERE);
        next.ok_or_else(|| Kind::OutOfMemory.into())
    }

    /// Gives a row that has no place the next one.
    pub(super) fn insert(&mut self, row: u32) -> Result<u32, Fault> {
        let place = self.next()?;
        let hash = self.hasher.hash_one(row);
        let part = &mut self.parts[part_of(hash)];
        if (part.taken + 1) * 4 > part.slots.len() * 3 {
            let before = bytes_of::<Slot>(part.slots.len());
            let slots = (2 * part.slots.len()).max(SLOTS_MIN);
            self.memory.take(bytes_of::<Slot>(slots))?;
            part.grow(slots, &self.hasher);
            self.memory.give(before);
            self.bytes += bytes_of::<Slot>(slots) - before;
        }
        if self.rows.len() == self.rows.capacity() {
            let more = self.rows.capacity().max(1024);
            self.memory.take(bytes_of::<u32>(more))?;
            self.rows.reserve_exact(more);
            self.bytes += bytes_of::<u32>(more);
        }
        part.insert(hash, Slot { row, place });
        self.rows.push(row);
        Ok(place)
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.memory.give(self.bytes);
    }
}

impl Part {
    /// Where a search begins.
    #[expect(clippy::cast_possible_truncation, reason = "its low bits are wanted")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    fn find(&self, hash: u64, row: u32) -> Slot {
        let mut at = self.home(hash);
        loop {
            match self.slots.get(at) {
                None if at == self.home(hash) => return FREE,
                None => at = 0,
                Some(slot) if slot.row == row || slot.place == NOWHERE => return *slot,
                Some(_) => at += 1,
            }
        }
    }

    /// There is a free slot.
    fn insert(&mut self, hash: u64, new: Slot) {
        let mut at = self.home(hash);
        while self.slots[at].place != NOWHERE {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = new;
        self.taken += 1;
    }

    fn grow(&mut self, slots: usize, hasher: &RandomState) {
        let before = std::mem::replace(self, Self { slots: vec![FREE; slots], taken: 0 });
        for slot in before.slots.into_iter().filter(|slot| slot.place != NOWHERE) {
            self.insert(hasher.hash_one(slot.row), slot);
        }
    }
}

fn part_of(hash: u64) -> usize {
    (hash >> 56) as usize % PARTS
}

fn bytes_of<T>(count: usize) -> u64 {
    (count * size_of::<T>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_where_they_were_put_and_what_it_takes_is_paid() {
        let memory = Memory::new(1 << 20);
        let mut index = Index::new(memory.clone());
        let row = |place: u32| place.wrapping_mul(0x9E37_79B1);
        assert_eq!(index.find(0), NOWHERE);
        for place in 0..20_000 {
            assert_eq!(index.find(row(place)), NOWHERE);
            assert_eq!(index.insert(row(place)).unwrap(), place);
        }
        for place in 0..20_000 {
            index.prefetch(row(place));
            assert_eq!(index.find(row(place)), place);
        }
        assert_eq!(index.find(row(20_000)), NOWHERE);
        assert_eq!(memory.used(), index.bytes());
        drop(index);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn who_has_no_memory_is_refused_and_everything_stays() {
        let memory = Memory::new(64 << 10);
        let mut index = Index::new(memory.clone());
        let refused = (0..).find(|row| index.insert(*row).is_err()).unwrap();
        assert!(refused > 1000, "{refused}");
        assert!((0..refused).all(|row| index.find(row) == row));
        assert_eq!(memory.used(), index.bytes());
        assert_eq!(index.find(refused), NOWHERE);
    }
}
