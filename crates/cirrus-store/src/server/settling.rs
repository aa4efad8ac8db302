//! Who waits for the log.
//!
//! Owns the wakers of replies that wait until a position of the log is settled. The log's thread
//! wakes one task of each event loop for a group, and that wakes the connections of its own loop
//! whose time has come: a wake from another thread is a system call. Knows no disk. Invariant: who
//! waits for a position is woken after it was settled, whatever happens first.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::segments::Progress;

/// Event loops that have lists of their own; more share them.
const LISTS: usize = 16;

thread_local! {
    /// The list of the event loop that this thread runs.
    static LIST: Cell<usize> = const { Cell::new(0) };
}

/// Waiters by the position that they wait for; a number tells those of one position apart.
type Waiters = BTreeMap<(u64, u64), Waker>;

#[derive(Debug)]
pub(super) struct Settling {
    progress: watch::Receiver<Progress>,
    lists: [Mutex<Waiters>; LISTS],
    numbers: AtomicU64,
    /// Losses after which the objects were put back, or could not be.
    mended: watch::Sender<u64>,
}

impl Settling {
    pub(super) fn new(progress: watch::Receiver<Progress>) -> Self {
        let (lists, numbers, mended) =
            (Default::default(), AtomicU64::new(0), watch::Sender::new(0));
        Self { progress, lists, numbers, mended }
    }

    /// What so many losses changed was put back, or could not be.
    pub(super) fn has_mended(&self, losses: u64) {
        self.mended.send_replace(losses);
    }

    /// Waits until what the losses so far changed was put back, or could not be: who hears of a loss
    /// shall not see it any more.
    pub(super) async fn mended(&self) {
        let losses = self.progress.borrow().losses();
        // It fails only when the sender is gone, which is in here.
        let _ = self.mended.subscribe().wait_for(|mended| *mended >= losses).await;
    }

    /// Waits until `position` is settled, durable or lost. A loop must be waking: see
    /// [`Settling::wake`].
    pub(super) async fn until(&self, position: u64) {
        if self.is_settled(position) {
            return;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter { list: &self.lists[LIST.get()], key: (position, number) };
        std::future::poll_fn(|context| {
            waiter.list.lock().insert(waiter.key, context.waker().clone());
            // It may have been settled before the waker was there.
            if self.is_settled(position) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn is_settled(&self, position: u64) -> bool {
        // Without its engine nothing more is settled.
        self.progress.borrow().settled() >= position || self.progress.has_changed().is_err()
    }

    /// Wakes who waits on event loop `number`, the one that this runs on. Never returns.
    pub(super) async fn wake(&self, number: usize) {
        let list = number % LISTS;
        LIST.set(list);
        let mut progress = self.progress.clone();
        loop {
            let is_over = progress.changed().await.is_err();
            let settled =
                if is_over { u64::MAX - 1 } else { progress.borrow_and_update().settled() };
            let due = {
                let mut waiters = self.lists[list].lock();
                let later = waiters.split_off(&(settled + 1, 0));
                std::mem::replace(&mut *waiters, later)
            };
            due.into_values().for_each(Waker::wake);
            if is_over {
                return std::future::pending().await;
            }
        }
    }
}

/// Leaves the list when it is dropped.
struct Waiter<'a> {
    list: &'a Mutex<Waiters>,
    key: (u64, u64),
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.list.lock().remove(&self.key);
    }
}
