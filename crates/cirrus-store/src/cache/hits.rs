//! Reads on their way to the policy.
//!
//! Owns a ring for each thread that reads, which that thread alone fills and whoever has the
//! desk's lock empties. Knows nothing of keys, objects or policies.
//! Invariant: what was put into a ring is taken out once, a thread's reads in their order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::AtomicU64 as Counter;

use super::Place;
use super::sync::{Arc, AtomicU64, Ordering, RING_HITS, thread_local};

thread_local! {
    /// This thread's rings, and of which cache each is.
    static RINGS: RefCell<Vec<(CacheId, Arc<Ring>)>> = RefCell::default();
}

/// Tells caches apart for as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheId(u64);

impl CacheId {
    pub(super) fn next() -> Self {
        static NEXT: Counter = Counter::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Reads of one thread. On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Ring {
    /// Hits that were put in so far, by the ring's thread only.
    put: AtomicU64,
    /// Hits that were taken out so far, under the desk's lock only.
    taken: AtomicU64,
    /// Hits that the policy will not hear of, counted by the ring's thread only.
    left_out: AtomicU64,
    hits: [AtomicU64; RING_HITS],
}

/// A read: the number of its place, and how many reads came before it, modulo 2^32.
#[derive(Debug, Clone, Copy)]
struct Hit(u64);

impl Hit {
    fn new(place: Place, ticket: u32) -> Self {
        Self(u64::from(ticket) << 32 | u64::from(place.number()))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    fn place(self) -> Place {
        Place::new(self.0 as u32)
    }

    fn ticket(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether the read came before that number.
    fn is_before(self, ticket: u32) -> bool {
        self.ticket().wrapping_sub(ticket).cast_signed() < 0
    }
}

impl Ring {
    fn new() -> Self {
        Self {
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            hits: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Whether one more hit can be put in; it stays true until one is.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        // Acquire: who took the hits out has read them before they are overwritten.
        let taken = self.taken.load(Ordering::Acquire);
        self.put.load(Ordering::Relaxed).wrapping_sub(taken) < RING_HITS as u64
    }

    /// Puts a hit in, for which there is room.
    #[inline]
    pub(super) fn put(&self, place: Place, ticket: u32) {
        let put = self.put.load(Ordering::Relaxed);
        self.hit(put).store(Hit::new(place, ticket).0, Ordering::Relaxed);
        // Release: who sees the number sees the hit.
        self.put.store(put.wrapping_add(1), Ordering::Release);
    }

    /// Counts a hit that the policy will not hear of.
    pub(super) fn leave_out(&self) {
        // One thread writes it: no need for an addition that others cannot come between.
        self.left_out.store(self.left_out.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn hit(&self, number: u64) -> &AtomicU64 {
        #[expect(clippy::cast_possible_truncation, reason = "less than the ring is long")]
        let at = (number % RING_HITS as u64) as usize;
        &self.hits[at]
    }
}

/// The number of the next read, modulo 2^32. On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Tickets(AtomicU64);

#[expect(clippy::cast_possible_truncation, reason = "tickets count modulo 2^32")]
impl Tickets {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(super) fn take(&self) -> u32 {
        // Release: who sees the number sees all reads that ended before it.
        self.0.fetch_add(1, Ordering::Release) as u32
    }

    fn next(&self) -> u32 {
        self.0.load(Ordering::Acquire) as u32
    }
}

/// What `read` makes of the calling thread's ring; `None` if it has none for this cache.
#[inline]
pub(super) fn with_ring<T>(cache: CacheId, read: impl FnOnce(&Ring) -> T) -> Option<T> {
    let find = |rings: &RefCell<Vec<(CacheId, Arc<Ring>)>>| {
        let rings = rings.borrow();
        rings.iter().find(|(of, _)| *of == cache).map(|(_, ring)| read(ring))
    };
    // A thread that ends has no locals.
    RINGS.try_with(find).ok().flatten()
}

#[cfg(test)]
pub(super) fn rings_of_this_thread() -> usize {
    RINGS.with(|rings| rings.borrow().len())
}

/// The rings of a cache, and what came out of them. Under the desk's lock.
#[derive(Debug)]
pub(super) struct Rings {
    cache: CacheId,
    /// Where the reads of different threads are told in their order, too.
    tickets: Option<Arc<Tickets>>,
    rings: Vec<Arc<Ring>>,
    /// Taken out, not told yet.
    taken: VecDeque<Hit>,
    /// Left out by threads that have ended.
    left_out: u64,
}

impl Rings {
    pub(super) fn new(cache: CacheId, tickets: Option<Arc<Tickets>>) -> Self {
        Self { cache, tickets, rings: Vec::new(), taken: VecDeque::new(), left_out: 0 }
    }

    /// Makes a ring for the calling thread. `false` when it is about to end and cannot have one.
    pub(super) fn add(&mut self) -> bool {
        self.forget_ended();
        let ring = Arc::new(Ring::new());
        let keep = |rings: &RefCell<Vec<(CacheId, Arc<Ring>)>>| {
            let mut rings = rings.borrow_mut();
            // Those of caches that are gone.
            rings.retain_mut(|(_, ring)| Arc::get_mut(ring).is_none());
            rings.push((self.cache, Arc::clone(&ring)));
        };
        let is_kept = RINGS.try_with(keep).is_ok();
        if is_kept {
            self.rings.push(ring);
            // So that taking hits out allocates nothing.
            self.taken.reserve(self.rings.len() * RING_HITS);
        }
        is_kept
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rings.len()
    }

    /// Takes out what the rings hold.
    pub(super) fn collect(&mut self) {
        // Looked at before any ring: a read that is not numbered yet may have ended before one that
        // is in a ring that is looked at later, but not before one that is numbered.
        let limit = self.tickets.as_deref().map(Tickets::next);
        let mut sources = usize::from(!self.taken.is_empty());
        for ring in &self.rings {
            // Acquire: the hits are there.
            let put = ring.put.load(Ordering::Acquire);
            let first = ring.taken.load(Ordering::Relaxed);
            let mut number = first;
            while number != put {
                let hit = Hit(ring.hit(number).load(Ordering::Relaxed));
                if limit.is_some_and(|limit| !hit.is_before(limit)) {
                    break;
                }
                self.taken.push_back(hit);
                number = number.wrapping_add(1);
            }
            if number != first {
                ring.taken.store(number, Ordering::Release);
                sources += 1;
            }
        }
        if let Some(limit) = limit.filter(|_| sources > 1) {
            let by_age = |hit: &Hit| hit.ticket().wrapping_sub(limit);
            self.taken.make_contiguous().sort_unstable_by_key(by_age);
        }
    }

    /// The next read to tell.
    pub(super) fn next(&mut self) -> Option<Place> {
        self.taken.pop_front().map(Hit::place)
    }

    /// Hits that the policy has not heard of and will not.
    pub(super) fn left_out(&self) -> u64 {
        let left_out = |ring: &Arc<Ring>| ring.left_out.load(Ordering::Relaxed);
        self.left_out + self.rings.iter().map(left_out).sum::<u64>()
    }

    /// Lets go of rings that are empty and whose threads have ended.
    fn forget_ended(&mut self) {
        let Self { rings, left_out, .. } = self;
        rings.retain_mut(|ring| {
            // Sees all that the thread did, if the thread's reference is gone.
            let Some(ring) = Arc::get_mut(ring) else { return true };
            let is_empty = ring.put.load(Ordering::Relaxed) == ring.taken.load(Ordering::Relaxed);
            if is_empty {
                *left_out += ring.left_out.load(Ordering::Relaxed);
            }
            !is_empty
        });
    }
}
