//! Numbers of threads: small, so that what belongs to a thread lies in an array.
//!
//! Owns the numbers. Knows nothing of what they are for.
//! Invariant: threads that live at the same time have different numbers, and the later of two with
//! the same number sees all that the earlier one did.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parking_lot::Mutex;

/// The number of a thread that has none yet.
const NO_NUMBER: usize = usize::MAX;

thread_local! {
    /// This thread's number. It has no destructor, so that a read does not ask whether it ran.
    static NUMBER: Cell<usize> = const { Cell::new(NO_NUMBER) };

    /// Gives this thread's number back when the thread ends.
    static NUMBERED: Numbered = Numbered::new();
}

/// The calling thread's number; one that is too large for any array if it has not taken one.
#[inline]
pub(super) fn number() -> usize {
    NUMBER.get()
}

/// The calling thread's number, until it ends; `None` when it is about to.
pub(super) fn take_number() -> Option<usize> {
    let number = NUMBERED.try_with(|numbered| numbered.0).ok()?;
    NUMBER.set(number);
    Some(number)
}

/// How many threads had a number at the same time.
#[cfg(test)]
pub(super) fn numbers() -> usize {
    NUMBERS.lock().next
}

/// The numbers that are free: `next` and above, and those that were given back.
#[derive(Debug)]
struct Numbers {
    next: usize,
    given_back: BinaryHeap<Reverse<usize>>,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { next: 0, given_back: BinaryHeap::new() });

/// A number that no other thread has. The smallest that is free, so that few are used.
#[derive(Debug)]
struct Numbered(usize);

impl Numbered {
    fn new() -> Self {
        let mut numbers = NUMBERS.lock();
        let number = match numbers.given_back.pop() {
            Some(Reverse(number)) => number,
            None => {
                numbers.next += 1;
                numbers.next - 1
            }
        };
        Self(number)
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        NUMBER.set(NO_NUMBER);
        // Under the lock: the next thread of this number sees all that this one did to its rings.
        NUMBERS.lock().given_back.push(Reverse(self.0));
    }
}
