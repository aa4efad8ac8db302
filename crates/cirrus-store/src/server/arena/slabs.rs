//! Records: small pieces of memory with one owner each, in slabs of one size class.
//!
//! Owns the memory of all records and moves them together when slabs run sparse. Knows nothing of
//! what is in a record. Invariant: a [`Record`] is the only way to its slot, and there is one for
//! each slot in use. Its bytes belong to whoever owns it: a shard, behind its lock.
//!
//! Taking or giving a record: one short lock of its class, and a few bits; a page that is touched
//! for the first time is paid for first. Locks: a class, then the list of free slabs.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::warn;

use crate::error::Kind;
use crate::server::arena::class::{
    CLASSES, Class, Room, SLAB_BYTES, Slab, UNIT_BYTES, class_of, size_of_class,
};
use crate::server::arena::mapping::{LINE_BYTES, Mapping, PAGE_BYTES, prefetch};
use crate::server::memory::Memory;
use crate::wire::Fault;

/// References count units in this many bits: 1 TiB of records.
const REFERENCE_BITS: u32 = 36;

/// The bits of a record that are its owner's to use.
pub(in crate::server) const TAG_BITS: u32 = u64::BITS - REFERENCE_BITS;

/// What a slab costs beyond its pages: its bits and its place in lists.
const SLAB_OVERHEAD_BYTES: u64 = 256;

/// What of a record is fetched ahead: head, key and a short value.
const PREFETCHED_BYTES_MAX: usize = 1280;

const SLABS_MAX: usize = (UNIT_BYTES << REFERENCE_BITS) / SLAB_BYTES;

/// In the word about a slab: its class below, its index in the class above.
const CLASS_MASK: u32 = 0x7F;
const VICTIM: u32 = 0x80;
const INDEX_SHIFT: u32 = 8;

/// The one owner of a slot: where it is, and a tag of [`TAG_BITS`] bits.
#[derive(Debug)]
pub(in crate::server) struct Record(u64);

impl Record {
    fn new(tag: u32, offset: usize) -> Self {
        Self(u64::from(tag) << REFERENCE_BITS | (offset / UNIT_BYTES) as u64)
    }

    pub(in crate::server) fn tag(&self) -> u32 {
        (self.0 >> REFERENCE_BITS) as u32
    }

    fn offset(&self) -> usize {
        (self.0 & ((1 << REFERENCE_BITS) - 1)) as usize * UNIT_BYTES
    }

    fn slab(&self) -> usize {
        self.offset() / SLAB_BYTES
    }
}

/// All records of a node.
#[derive(Debug)]
pub(in crate::server) struct Slabs {
    mapping: Mapping,
    memory: Memory,
    classes: Box<[Mutex<Class>]>,
    about: Box<[AtomicU32]>,
    unused: Mutex<Unused>,
    /// Bytes of pages that were touched.
    touched: AtomicU64,
    /// Bytes of slots that were touched and are not in use, to within an eighth of a slab.
    holes: AtomicI64,
}

/// Slabs that no class has.
#[derive(Debug, Default)]
struct Unused {
    numbers: Vec<u32>,
    never_used: u32,
}

/// A slab that is being emptied.
#[derive(Debug)]
pub(in crate::server) struct Victim {
    number: u32,
    class: usize,
    index: u32,
}

impl Slabs {
    pub(in crate::server) fn new(memory: Memory) -> io::Result<Self> {
        let wanted = usize::try_from(memory.capacity()).unwrap_or(usize::MAX) / SLAB_BYTES;
        // Each class may have a slab of which little is touched, and one that runs empty.
        let slabs = wanted.saturating_add(2 * CLASSES).min(SLABS_MAX);
        Ok(Self {
            mapping: Mapping::private(slabs * SLAB_BYTES)?,
            memory,
            classes: (0..CLASSES).map(|class| Mutex::new(Class::new(class))).collect(),
            about: (0..slabs).map(|_| AtomicU32::new(0)).collect(),
            unused: Mutex::default(),
            touched: AtomicU64::new(0),
            holes: AtomicI64::new(0),
        })
    }

    /// A new record of at least `len` bytes, whatever they are.
    pub(in crate::server) fn take(&self, len: usize, tag: u32) -> Result<Record, Fault> {
        let class = class_of(len);
        let mut slabs = self.classes[class].lock();
        let room = self.room(class, &mut slabs)?;
        Ok(self.occupy(&mut slabs, room, tag))
    }

    /// Gives a record back.
    pub(in crate::server) fn give(&self, record: Record) {
        let about = self.about[record.slab()].load(Ordering::Relaxed);
        let mut slabs = self.classes[(about & CLASS_MASK) as usize].lock();
        self.vacate(&mut slabs, about >> INDEX_SHIFT, record);
    }

    /// Whether a record of `len` bytes takes the same room as this one.
    pub(in crate::server) fn fits(&self, record: &Record, len: usize) -> bool {
        class_of(len) == self.class(record)
    }

    /// Bytes that the record takes.
    pub(in crate::server) fn size(&self, record: &Record) -> usize {
        size_of_class(self.class(record))
    }

    /// All bytes of its slot.
    pub(in crate::server) fn bytes<'a>(&'a self, record: &'a Record) -> &'a [u8] {
        let len = self.size(record);
        // SAFETY: the record owns its slot of `len` bytes inside the mapping, which are
        // initialised; they are written through `bytes_mut` only, which borrows the record alone.
        unsafe { std::slice::from_raw_parts(self.mapping.at(record.offset()).as_ptr(), len) }
    }

    /// All bytes of its slot, to be written.
    pub(in crate::server) fn bytes_mut<'a>(&'a self, record: &'a mut Record) -> &'a mut [u8] {
        let len = self.size(record);
        // SAFETY: as in `bytes`; there is one `Record` for a slot, and it is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.at(record.offset()).as_ptr(), len) }
    }

    /// Has the processor fetch the record's first bytes while it does something else.
    pub(in crate::server) fn prefetch(&self, record: &Record) {
        let len = self.size(record).min(PREFETCHED_BYTES_MAX);
        let start = self.mapping.at(record.offset()).as_ptr();
        for at in (0..len).step_by(LINE_BYTES) {
            prefetch(start.wrapping_add(at));
        }
    }

    /// Bytes of pages that were touched.
    pub(in crate::server) fn touched_bytes(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }

    /// Bytes in slabs that hold no record and could: to within an eighth of a slab for each class.
    pub(in crate::server) fn hole_bytes(&self) -> u64 {
        u64::try_from(self.holes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Chooses at most `limit` slabs, less than `fill_max` eighths full, whose records have room
    /// in others. No record is put into them until [`Slabs::finish`].
    pub(in crate::server) fn choose_victims(&self, fill_max: usize, limit: usize) -> Vec<Victim> {
        let mut victims = Vec::new();
        for (class, slabs) in self.classes.iter().enumerate() {
            let left = limit - victims.len();
            let mut slabs = slabs.lock();
            let holes = slabs.holes;
            slabs.choose_victims(fill_max, left, |number, index| {
                self.about[number as usize].fetch_or(VICTIM, Ordering::Relaxed);
                victims.push(Victim { number, class, index });
            });
            self.publish(&slabs, holes);
        }
        victims
    }

    /// Whether the record lies in a victim.
    pub(in crate::server) fn is_in_victim(&self, record: &Record) -> bool {
        self.about[record.slab()].load(Ordering::Relaxed) & VICTIM != 0
    }

    /// Moves a record out of its victim into a hole of another slab; false if there is none.
    pub(in crate::server) fn relocate(&self, record: &mut Record) -> bool {
        let about = self.about[record.slab()].load(Ordering::Relaxed);
        let mut slabs = self.classes[(about & CLASS_MASK) as usize].lock();
        let Some(room) = slabs.room(true) else { return false };
        let mut moved = self.occupy(&mut slabs, room, record.tag());
        self.bytes_mut(&mut moved).copy_from_slice(self.bytes(record));
        std::mem::swap(record, &mut moved);
        self.vacate(&mut slabs, about >> INDEX_SHIFT, moved);
        true
    }

    /// The end of a round: victims that still hold records take part again.
    pub(in crate::server) fn finish(&self, victims: Vec<Victim>) {
        for Victim { number, class, index } in victims {
            let mut slabs = self.classes[class].lock();
            let about = self.about[number as usize].load(Ordering::Relaxed);
            let is_same = about & VICTIM != 0
                && (about & CLASS_MASK) as usize == class
                && about >> INDEX_SHIFT == index;
            // Otherwise it ran empty and was released.
            if is_same {
                let holes = slabs.holes;
                self.about[number as usize].fetch_and(!VICTIM, Ordering::Relaxed);
                slabs.spare(index);
                self.publish(&slabs, holes);
            }
        }
    }

    /// Releases slabs without records; bytes that became free.
    pub(in crate::server) fn release_empty(&self) -> u64 {
        let before = self.touched_bytes();
        for slabs in &self.classes {
            let mut slabs = slabs.lock();
            for index in slabs.empty() {
                self.release(&mut slabs, index);
            }
        }
        before.saturating_sub(self.touched_bytes())
    }

    fn class(&self, record: &Record) -> usize {
        (self.about[record.slab()].load(Ordering::Relaxed) & CLASS_MASK) as usize
    }

    /// Room for a record, its pages paid for.
    fn room(&self, class: usize, slabs: &mut Class) -> Result<Room, Fault> {
        let room = match slabs.room(false) {
            Some(room) => room,
            None => Room { index: self.add_slab(class, slabs)?, is_fresh: true },
        };
        let reach = slabs.reach(room).next_multiple_of(PAGE_BYTES);
        let touched = slabs.slab(room.index).touched;
        let Some(more) = reach.checked_sub(touched).filter(|more| *more > 0) else {
            return Ok(room);
        };
        if let Err(fault) = self.memory.take(more as u64) {
            return slabs.room(true).ok_or(fault);
        }
        self.touched.fetch_add(more as u64, Ordering::Relaxed);
        slabs.slab_mut(room.index).touched = reach;
        Ok(room)
    }

    fn add_slab(&self, class: usize, slabs: &mut Class) -> Result<u32, Fault> {
        self.memory.take(SLAB_OVERHEAD_BYTES)?;
        let number = {
            let mut unused = self.unused.lock();
            match unused.numbers.pop() {
                Some(number) => Some(number),
                None if (unused.never_used as usize) < self.about.len() => {
                    unused.never_used += 1;
                    Some(unused.never_used - 1)
                }
                None => None,
            }
        };
        let Some(number) = number else {
            self.memory.give(SLAB_OVERHEAD_BYTES);
            return Err(Kind::OutOfMemory.into());
        };
        let index = slabs.add(number);
        let about = index << INDEX_SHIFT | u32::try_from(class).expect("few classes");
        self.about[number as usize].store(about, Ordering::Relaxed);
        Ok(index)
    }

    fn occupy(&self, slabs: &mut Class, room: Room, tag: u32) -> Record {
        let holes = slabs.holes;
        let slot = slabs.occupy(room);
        let number = slabs.slab(room.index).number;
        self.publish(slabs, holes);
        Record::new(tag, number as usize * SLAB_BYTES + slot as usize * slabs.size)
    }

    fn vacate(&self, slabs: &mut Class, index: u32, record: Record) {
        let slot = u32::try_from(record.offset() % SLAB_BYTES / slabs.size).expect("few slots");
        let holes = slabs.holes;
        let is_empty = slabs.vacate(index, slot);
        self.publish(slabs, holes);
        // The last slab of its class stays for the next record, until housekeeping.
        if is_empty && (slabs.slab(index).is_victim || slabs.has_spare()) {
            self.release(slabs, index);
        }
    }

    fn release(&self, slabs: &mut Class, index: u32) {
        let holes = slabs.holes;
        let Slab { number, touched, .. } = slabs.take(index);
        self.publish(slabs, holes);
        let start = number as usize * SLAB_BYTES;
        self.about[number as usize].store(0, Ordering::Relaxed);
        // SAFETY: no slot of the slab is in use, so no record leads here, and it is in no class.
        let released = unsafe { self.mapping.release(start..start + touched) };
        if let Err(error) = released {
            // Its pages stay charged for, and it is not used again.
            warn!("the kernel takes no memory back: {error}");
            return;
        }
        self.touched.fetch_sub(touched as u64, Ordering::Relaxed);
        self.memory.give(touched as u64 + SLAB_OVERHEAD_BYTES);
        self.unused.lock().numbers.push(number);
    }

    /// Tells what changed of a class's holes since there were `before`.
    fn publish(&self, slabs: &Class, before: u64) {
        let (size, now) = (slabs.size as i64, slabs.holes);
        if now != before {
            let change = i64::try_from(now).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
            self.holes.fetch_add(change * size, Ordering::Relaxed);
        }
    }
}
