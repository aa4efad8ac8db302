//! Reads on their way to the policy.
//!
//! Owns a ring for each thread that reads, which that thread alone fills and whoever has the
//! desk's lock empties. Knows nothing of keys, objects or policies.
//! Invariant: what was put into a ring is taken out once, a thread's reads in their order.

use std::mem;
use std::sync::OnceLock;

use super::Place;
use super::sync::{Arc, AtomicBool, AtomicU64, Ordering, RING_HITS};
use super::threads;

/// Threads that can have a ring at the same time.
const THREADS_MAX: usize = 1024;

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
    /// Up to which number of hits the thread reads without coming to the desk, where a prefetch
    /// policy waits for them. The ring's thread's only.
    untold_until: AtomicU64,
    hits: [AtomicU64; RING_HITS],
}

/// A read: the number of its place, and its ticket, or 0 if it has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit(u64);

impl Hit {
    fn new(place: Place, ticket: u32) -> Self {
        Self(u64::from(ticket) << 32 | u64::from(place.number()))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(super) fn place(self) -> Place {
        Place::new(self.0 as u32)
    }

    fn ticket(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn has_ticket(self) -> bool {
        self.ticket() != 0
    }

    /// Whether the read came before that ticket.
    fn is_before(self, ticket: u32) -> bool {
        !self.has_ticket() || self.ticket().wrapping_sub(ticket).cast_signed() < 0
    }
}

impl Ring {
    fn new() -> Self {
        Self {
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            untold_until: AtomicU64::new(0),
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

    /// Whether the next hit may be told later, where hits are waited for.
    #[inline]
    pub(super) fn may_wait(&self) -> bool {
        self.put.load(Ordering::Relaxed) < self.untold_until.load(Ordering::Relaxed)
    }

    /// The next `hits` hits of the ring's thread, which calls this, may be told later: as many as
    /// there is room for, at most.
    pub(super) fn let_wait(&self, hits: u64) {
        let hits = hits.min(RING_HITS as u64);
        let put = self.put.load(Ordering::Relaxed);
        self.untold_until.store(put.wrapping_add(hits), Ordering::Relaxed);
    }

    /// Counts a hit that the policy will not hear of.
    pub(super) fn leave_out(&self) {
        // One thread writes it: no need for an addition that others cannot come between.
        self.left_out.store(self.left_out.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Takes out the hits before `limit`. Under the desk's lock.
    fn take(&self, limit: Option<u32>, taken: &mut Vec<Hit>) {
        // Acquire: the hits are there.
        let put = self.put.load(Ordering::Acquire);
        let first = self.taken.load(Ordering::Relaxed);
        let mut number = first;
        while number != put {
            let hit = Hit(self.hit(number).load(Ordering::Relaxed));
            if limit.is_some_and(|limit| !hit.is_before(limit)) {
                break;
            }
            taken.push(hit);
            number = number.wrapping_add(1);
        }
        if number != first {
            self.taken.store(number, Ordering::Release);
        }
    }

    fn hit(&self, number: u64) -> &AtomicU64 {
        #[expect(clippy::cast_possible_truncation, reason = "less than the ring is long")]
        let at = (number % RING_HITS as u64) as usize;
        &self.hits[at]
    }
}

/// The numbers of reads by different threads: odd, modulo 2^32. As long as one ring is there, its
/// order is the order of all reads, and they get none. On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Tickets {
    next: AtomicU64,
    /// From when a second ring is made.
    are_given: AtomicBool,
}

#[expect(clippy::cast_possible_truncation, reason = "tickets count modulo 2^32")]
impl Tickets {
    pub(super) fn new() -> Self {
        Self { next: AtomicU64::new(1), are_given: AtomicBool::new(false) }
    }

    #[inline]
    pub(super) fn take(&self) -> u32 {
        // Relaxed: a read after one by another thread sees that thread's ring being made before it.
        // One at the same time may go without: it then comes before all that have a ticket.
        if !self.are_given.load(Ordering::Relaxed) {
            return 0;
        }
        // Release: who sees the number sees all reads that ended before it.
        self.next.fetch_add(2, Ordering::Release) as u32
    }

    /// Before a second ring is there. Under the desk's lock.
    fn give(&self) {
        self.are_given.store(true, Ordering::Relaxed);
    }

    fn next(&self) -> u32 {
        self.next.load(Ordering::Acquire) as u32
    }
}

/// The rings of a cache, by the numbers of their threads. A ring goes from a thread that ends to
/// the next one of its number.
#[derive(Debug)]
pub(super) struct Rings(Box<[OnceLock<Arc<Ring>>]>);

impl Rings {
    pub(super) fn new() -> Self {
        Self((0..THREADS_MAX).map(|_| OnceLock::new()).collect())
    }

    /// The calling thread's ring, if it has one.
    #[inline]
    pub(super) fn of_this_thread(&self) -> Option<&Ring> {
        self.0.get(threads::number())?.get().map(|ring| &**ring)
    }

    /// The same; makes the ring if it can be had. It cannot by a thread that is about to end.
    fn make_for_this_thread(&self, reads: &mut Reads) -> Option<&Ring> {
        let place = self.0.get(threads::take_number()?)?;
        Some(place.get_or_init(|| {
            let ring = Arc::new(Ring::new());
            if let Some(tickets) = reads.tickets.as_deref().filter(|_| !reads.rings.is_empty()) {
                tickets.give();
            }
            reads.rings.push(Arc::clone(&ring));
            // So that taking hits out allocates nothing.
            reads.taken.reserve(reads.rings.len() * RING_HITS);
            ring
        }))
    }
}

/// What the rings hold, in the order of reading. Under the desk's lock.
#[derive(Debug)]
pub(super) struct Reads {
    rings: Vec<Arc<Ring>>,
    /// Where the reads of different threads are told in their order, too.
    tickets: Option<Arc<Tickets>>,
    /// Memory of what was taken out last.
    taken: Vec<Hit>,
}

impl Reads {
    pub(super) fn new(tickets: Option<Arc<Tickets>>) -> Self {
        Self { rings: Vec::new(), tickets, taken: Vec::new() }
    }

    /// The calling thread's ring; made if it has none and can have one.
    pub(super) fn ring<'a>(&mut self, rings: &'a Rings) -> Option<&'a Ring> {
        rings.make_for_this_thread(self)
    }

    pub(super) fn rings(&self) -> usize {
        self.rings.len()
    }

    /// Takes out what the rings hold.
    pub(super) fn take(&mut self) -> Vec<Hit> {
        let mut taken = mem::take(&mut self.taken);
        // Looked at before any ring: a read that is not numbered yet may have ended before one that
        // is in a ring that is looked at later, but not before one that is numbered.
        let limit = self.tickets.as_deref().map(Tickets::next);
        let mut sources = 0;
        for ring in &self.rings {
            let before = taken.len();
            ring.take(limit, &mut taken);
            sources += usize::from(taken.len() > before);
        }
        if let Some(limit) = limit.filter(|_| sources > 1) {
            // Those without a ticket are of the first ring, and from before there was another.
            let first = taken.partition_point(|hit| !hit.has_ticket());
            taken[first..].sort_unstable_by_key(|hit| hit.ticket().wrapping_sub(limit));
        }
        taken
    }

    /// Keeps the memory for the next time.
    pub(super) fn reuse(&mut self, mut taken: Vec<Hit>) {
        taken.clear();
        self.taken = taken;
    }

    /// Hits that the policy has not heard of and will not.
    pub(super) fn left_out(&self) -> u64 {
        self.rings.iter().map(|ring| ring.left_out.load(Ordering::Relaxed)).sum()
    }
}
