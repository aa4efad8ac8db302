//! Who is how far, and who waits for whom?
//!
//! Owns the workers' seats and clocks, and the bound on how far they may be apart. Knows no rows.
//! Invariant: nobody reads for step `s` before every worker with a seat has done `s` less the bound.
//! A worker that says nothing for long, and waits for nothing here, loses its seat.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Clocks {
    /// `None`: nobody waits.
    bound: Option<u32>,
    patience: Duration,
    seats: HashMap<u64, Seat>,
    /// That of the slowest, if anybody has a seat.
    slowest: Option<u32>,
}

#[derive(Debug)]
struct Seat {
    clock: u32,
    heard: Instant,
}

impl Clocks {
    pub(super) fn new(bound: Option<u32>, patience: Duration) -> Self {
        Self { bound, patience, seats: HashMap::new(), slowest: None }
    }

    /// A seat where the slowest is, or where the worker stands elsewhere; its clock.
    pub(super) fn join(&mut self, worker: u64, clock: u32, now: Instant) -> u32 {
        let clock = clock.max(self.slowest.unwrap_or(0));
        let seat = self.seats.entry(worker).or_insert(Seat { clock, heard: now });
        seat.clock = seat.clock.max(clock);
        seat.heard = now;
        let clock = seat.clock;
        self.find_slowest();
        clock
    }

    pub(super) fn leave(&mut self, worker: u64) {
        self.seats.remove(&worker);
        self.find_slowest();
    }

    /// The worker is heard of; whether it has a seat.
    pub(super) fn hear(&mut self, worker: u64, now: Instant) -> bool {
        let seat = self.seats.get_mut(&worker);
        seat.is_some_and(|seat| {
            seat.heard = now;
            true
        })
    }

    /// The worker has done so many steps; whether others may go on by that.
    pub(super) fn advance(&mut self, worker: u64, clock: u32) -> bool {
        let Some(seat) = self.seats.get_mut(&worker).filter(|seat| seat.clock < clock) else {
            return false;
        };
        let was_slowest = self.slowest == Some(seat.clock);
        seat.clock = clock;
        if was_slowest {
            self.find_slowest();
        }
        was_slowest
    }

    /// Whether values may be read for this step.
    pub(super) fn may_read(&self, read_for: u32) -> bool {
        match (self.bound, self.slowest) {
            (Some(bound), Some(slowest)) => slowest >= read_for.saturating_sub(bound),
            (None, _) | (_, None) => true,
        }
    }

    /// The clock of the slowest; `otherwise` when there is nobody.
    pub(super) fn slowest(&self, otherwise: u32) -> u32 {
        self.slowest.unwrap_or(otherwise)
    }

    pub(super) fn workers(&self) -> u32 {
        u32::try_from(self.seats.len()).unwrap_or(u32::MAX)
    }

    /// Takes the seats of those who were not heard of for long, unless they wait here; how many.
    pub(super) fn sweep(&mut self, now: Instant, waits: impl Fn(u64) -> bool) -> usize {
        let before = self.seats.len();
        let patience = self.patience;
        self.seats.retain(|worker, seat| {
            now.saturating_duration_since(seat.heard) < patience || waits(*worker)
        });
        self.find_slowest();
        before - self.seats.len()
    }

    fn find_slowest(&mut self) {
        self.slowest = self.seats.values().map(|seat| seat.clock).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_wait_for_the_slowest_less_the_bound() {
        let now = Instant::now();
        let mut clocks = Clocks::new(Some(2), Duration::from_secs(1));
        assert!(clocks.may_read(9), "nobody has a seat");
        assert_eq!(clocks.join(1, 0, now), 0);
        assert_eq!(clocks.join(2, 0, now), 0);
        assert!(clocks.advance(1, 3));
        assert!(clocks.may_read(2) && !clocks.may_read(3));
        assert!(clocks.advance(2, 1));
        assert!(clocks.may_read(3) && !clocks.may_read(4));
        // A repeat of an older step takes nothing back.
        assert!(!clocks.advance(2, 0));
        assert!(clocks.may_read(3));
        // Who comes later begins where the slowest is, or where it stands elsewhere.
        assert_eq!(clocks.join(3, 0, now), 1);
        assert_eq!(clocks.join(4, 2, now), 2);
        assert_eq!(clocks.workers(), 4);
        clocks.leave(2);
        clocks.leave(3);
        assert!(clocks.may_read(4) && !clocks.may_read(5));
        assert!(Clocks::new(None, Duration::ZERO).may_read(u32::MAX));
    }

    #[test]
    fn who_is_silent_and_does_not_wait_loses_the_seat() {
        let now = Instant::now();
        let mut clocks = Clocks::new(Some(0), Duration::from_secs(1));
        for worker in [1, 2, 3] {
            clocks.join(worker, 0, now);
        }
        let later = now + Duration::from_secs(2);
        assert!(clocks.hear(1, later));
        assert_eq!(clocks.sweep(later, |worker| worker == 2), 1);
        assert!(!clocks.hear(3, later) && clocks.hear(2, later));
        assert!(clocks.advance(1, 4) && clocks.advance(2, 4));
        assert!(clocks.may_read(4));
    }
}
