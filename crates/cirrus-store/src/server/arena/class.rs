//! Size classes of records, and the slabs of one class.
//!
//! Owns which slots of which slab are in use. Touches no memory of a slab and knows no addresses.
//! Invariant: a slab with room is in the list of its filling, unless it is being emptied; records
//! are put into the fullest slabs, so that others run empty by themselves.

/// Bytes of a slab.
pub(super) const SLAB_BYTES: usize = if cfg!(miri) { 32 << 10 } else { 256 << 10 };

/// The longest record.
pub(in crate::server) const RECORD_BYTES_MAX: usize = 18 << 10;

/// Records begin at multiples of this.
pub(super) const UNIT_BYTES: usize = 16;

/// Multiples of 16 up to 256, then 8 to each doubling, and 16 from 2 KiB on.
const fn sizes<const COUNT: usize>() -> ([u16; COUNT], usize) {
    let mut sizes = [0; COUNT];
    let (mut size, mut count) = (0, 0);
    while size < RECORD_BYTES_MAX {
        size += if size < 256 {
            UNIT_BYTES
        } else {
            let below = 1 << size.ilog2();
            below / (if below < 2048 { 8 } else { 16 })
        };
        if count < COUNT {
            #[expect(clippy::cast_possible_truncation, reason = "at most 18 KiB")]
            let short = size as u16;
            sizes[count] = short;
        }
        count += 1;
    }
    (sizes, count)
}

pub(super) const CLASSES: usize = sizes::<0>().1;

const SIZES: [u16; CLASSES] = sizes().0;

/// The class of a record, by its length in units.
const CLASS_OF: [u8; RECORD_BYTES_MAX / UNIT_BYTES + 1] = {
    let mut table = [0; RECORD_BYTES_MAX / UNIT_BYTES + 1];
    let (mut units, mut class) = (0, 0);
    while units < table.len() {
        if units * UNIT_BYTES > SIZES[class as usize] as usize {
            class += 1;
        }
        table[units] = class;
        units += 1;
    }
    table
};

/// The class of records of `len` bytes, at most [`RECORD_BYTES_MAX`].
pub(super) fn class_of(len: usize) -> usize {
    usize::from(CLASS_OF[len.div_ceil(UNIT_BYTES)])
}

/// Bytes of a slot of this class.
pub(super) fn size_of_class(class: usize) -> usize {
    usize::from(SIZES[class])
}

/// Slabs with room are kept apart by how full they are, in eighths.
const FILLINGS: usize = 8;

/// A slab that is full or being emptied is in no list.
const UNLISTED: u8 = u8::MAX;

#[derive(Debug)]
pub(super) struct Slab {
    pub(super) number: u32,
    /// Slots in use.
    pub(super) live: u32,
    /// Slots that have been used at least once: those from here on were never touched.
    fresh: u32,
    /// Bytes of pages that were touched, which the node's memory was charged for.
    pub(super) touched: usize,
    pub(super) is_victim: bool,
    used: Box<[u64]>,
    /// No word of `used` before this one has a hole.
    first_hole: u32,
    list: u8,
    position: u32,
}

/// Where a record may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) index: u32,
    /// Whether a slot is taken that was never touched.
    pub(super) is_fresh: bool,
}

/// The slabs of one class.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) size: usize,
    slots: u32,
    slabs: Vec<Option<Slab>>,
    vacant: Vec<u32>,
    lists: [Vec<u32>; FILLINGS],
    /// Slots that were touched and are not in use, but in victims.
    pub(super) holes: u64,
}

impl Class {
    pub(super) fn new(class: usize) -> Self {
        let size = size_of_class(class);
        let slots = u32::try_from(SLAB_BYTES / size).expect("a slab is short");
        Self {
            size,
            slots,
            slabs: Vec::new(),
            vacant: Vec::new(),
            lists: Default::default(),
            holes: 0,
        }
    }

    pub(super) fn slab(&self, index: u32) -> &Slab {
        self.slabs[index as usize].as_ref().expect("a slab that holds records is there")
    }

    pub(super) fn slab_mut(&mut self, index: u32) -> &mut Slab {
        self.slabs[index as usize].as_mut().expect("a slab that holds records is there")
    }

    pub(super) fn slabs(&self) -> impl Iterator<Item = &Slab> {
        self.slabs.iter().flatten()
    }

    /// Takes up an empty slab.
    pub(super) fn add(&mut self, number: u32) -> u32 {
        let words = (self.slots as usize).div_ceil(64);
        let slab = Slab {
            number,
            live: 0,
            fresh: 0,
            touched: 0,
            is_victim: false,
            used: vec![0; words].into(),
            first_hole: 0,
            list: UNLISTED,
            position: 0,
        };
        let index = match self.vacant.pop() {
            Some(index) => index,
            None => {
                self.slabs.push(None);
                u32::try_from(self.slabs.len() - 1).expect("fewer slabs than numbers of slabs")
            }
        };
        self.slabs[index as usize] = Some(slab);
        self.file(index);
        index
    }

    /// Lets go of a slab without records.
    pub(super) fn take(&mut self, index: u32) -> Slab {
        self.unlist(index);
        let slab = self.slabs[index as usize].take().expect("a slab that is let go is there");
        self.vacant.push(index);
        if !slab.is_victim {
            self.holes -= u64::from(slab.fresh - slab.live);
        }
        slab
    }

    /// Room in the fullest slab that has any; with `touched_only` in one that has a hole.
    pub(super) fn room(&self, touched_only: bool) -> Option<Room> {
        let listed = self.lists.iter().rev().flat_map(|list| list.iter().rev());
        let mut rooms = listed.map(|index| {
            let slab = self.slab(*index);
            Room { index: *index, is_fresh: slab.live == slab.fresh }
        });
        // At most one slab of a class has slots that were never touched, so this looks at two.
        rooms.find(|room| !touched_only || !room.is_fresh)
    }

    /// Bytes of the slab from its beginning that have been touched once `room` is taken.
    pub(super) fn reach(&self, room: Room) -> usize {
        let slots = self.slab(room.index).fresh + u32::from(room.is_fresh);
        slots as usize * self.size
    }

    /// Takes a slot.
    pub(super) fn occupy(&mut self, room: Room) -> u32 {
        let slab = self.slab_mut(room.index);
        let slot = match room.is_fresh {
            true => {
                slab.fresh += 1;
                slab.fresh - 1
            }
            false => slab.hole(),
        };
        slab.used[slot as usize / 64] |= 1 << (slot % 64);
        slab.live += 1;
        if !room.is_fresh {
            self.holes -= 1;
        }
        self.file(room.index);
        slot
    }

    /// Gives a slot back; whether its slab is empty now.
    pub(super) fn vacate(&mut self, index: u32, slot: u32) -> bool {
        let slab = self.slab_mut(index);
        let (word, bit) = (slot / 64, 1_u64 << (slot % 64));
        assert!(slab.used[word as usize] & bit != 0, "slot {slot} is not in use");
        slab.used[word as usize] &= !bit;
        slab.first_hole = slab.first_hole.min(word);
        slab.live -= 1;
        let (is_empty, is_victim) = (slab.live == 0, slab.is_victim);
        if !is_victim {
            self.holes += 1;
            self.file(index);
        }
        is_empty
    }

    /// Whether there are other slabs with room.
    pub(super) fn has_spare(&self) -> bool {
        self.lists.iter().map(Vec::len).sum::<usize>() > 1
    }

    /// Marks slabs whose records have room in the holes of others, the emptiest first, fewer than
    /// `fill_max` eighths full, at most `limit`; calls `chosen` with their numbers and indexes.
    pub(super) fn choose_victims(
        &mut self,
        fill_max: usize,
        limit: usize,
        mut chosen: impl FnMut(u32, u32),
    ) {
        let (mut holes, mut moving, mut count) = (self.holes, 0, 0);
        for list in 0..fill_max.min(FILLINGS) {
            // From the end, where taking one off moves no other.
            let mut at = self.lists[list].len();
            while at > 0 && count < limit {
                at -= 1;
                let index = self.lists[list][at];
                let slab = self.slab(index);
                let (live, own) = (u64::from(slab.live), u64::from(slab.fresh - slab.live));
                if own == 0 || holes - own < moving + live {
                    continue;
                }
                holes -= own;
                moving += live;
                count += 1;
                self.unlist(index);
                let slab = self.slab_mut(index);
                slab.is_victim = true;
                chosen(slab.number, index);
            }
        }
        self.holes = holes;
    }

    /// A victim that still holds records takes part again.
    pub(super) fn spare(&mut self, index: u32) {
        let slab = self.slab_mut(index);
        slab.is_victim = false;
        self.holes += u64::from(self.slab(index).fresh - self.slab(index).live);
        self.file(index);
    }

    /// Puts a slab into the list of its filling.
    fn file(&mut self, index: u32) {
        let slots = self.slots;
        let slab = self.slab(index);
        let list = match slab.live {
            live if live == slots => UNLISTED,
            live => u8::try_from(live as usize * FILLINGS / slots as usize).expect("an eighth"),
        };
        if list == slab.list {
            return;
        }
        self.unlist(index);
        if list != UNLISTED {
            let entries = &mut self.lists[usize::from(list)];
            entries.push(index);
            let position = u32::try_from(entries.len() - 1).expect("fewer than slabs");
            let slab = self.slab_mut(index);
            (slab.list, slab.position) = (list, position);
        }
    }

    fn unlist(&mut self, index: u32) {
        let slab = self.slab_mut(index);
        let (list, position) = (slab.list, slab.position);
        if list == UNLISTED {
            return;
        }
        slab.list = UNLISTED;
        let entries = &mut self.lists[usize::from(list)];
        entries.swap_remove(position as usize);
        if let Some(moved) = entries.get(position as usize).copied() {
            self.slab_mut(moved).position = position;
        }
    }
}

impl Slab {
    /// A slot that was used before and is not now.
    fn hole(&mut self) -> u32 {
        let mut word = self.first_hole as usize;
        while self.used[word] == u64::MAX {
            word += 1;
        }
        self.first_hole = u32::try_from(word).expect("few words");
        let slot = self.first_hole * 64 + self.used[word].trailing_ones();
        debug_assert!(slot < self.fresh, "the caller saw a hole");
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_wastes_at_most_a_sixteenth_or_fifteen_bytes_and_little_of_its_slab() {
        for len in 1..=RECORD_BYTES_MAX {
            let size = size_of_class(class_of(len));
            assert!(size >= len, "{len} in {size}");
            assert!(size - len <= (len / 8).max(UNIT_BYTES - 1), "{len} in {size}");
            if class_of(len) > 0 {
                assert!(size_of_class(class_of(len) - 1) < len, "{len} in {size}");
            }
        }
        assert_eq!(size_of_class(CLASSES - 1), RECORD_BYTES_MAX);
    }
}
