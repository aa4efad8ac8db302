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
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter { list: &self.lists[LIST.get()], key: (position, number) };
        std::future::poll_fn(|context| {
            // Looked at with the list locked: who settles it later finds the waker there.
            let mut waiters = waiter.list.lock();
            if self.is_settled(position) {
                return Poll::Ready(());
            }
            waiters.insert(waiter.key, context.waker().clone());
            Poll::Pending
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Arc, Barrier};
    use std::task::{Context, Wake};
    use std::time::Duration;

    use super::*;
    use crate::error::Kind;
    use crate::key::Key;
    use crate::segments::sim::{Plan, SimDisk};
    use crate::segments::{Disk, Engine, Options};

    /// A log in which each write is a group of its own: it settles when the test says so.
    struct Rig {
        disk: SimDisk,
        engine: Engine,
        settling: Arc<Settling>,
    }

    impl Rig {
        fn new() -> Self {
            let disk = SimDisk::default();
            let mut options = Options::default();
            options.background = false;
            let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
            let settling = Arc::new(Settling::new(engine.progress()));
            Self { disk, engine, settling }
        }

        fn write(&self) -> crate::error::Result<()> {
            let version = self.engine.submitted() + 1;
            let key = Key::try_from("key".to_owned()).unwrap();
            // The log says what became of a group before it answers its writers.
            self.engine.put(key, version, "value".into())?.wait()
        }

        /// The next position is settled, durable.
        fn settle(&self) {
            self.write().unwrap();
        }

        /// The next position is settled, lost.
        fn lose(&self) {
            let used = u64::MAX - self.disk.free_bytes().unwrap();
            self.disk.set_plan(Plan { full_at: Some(used), ..Plan::default() });
            assert_eq!(self.write().unwrap_err().kind(), Kind::OutOfMemory);
            self.disk.set_plan(Plan::default());
            self.engine.resume();
        }

        /// An event loop, which waits for the log from now on; who is polled next waits on it.
        fn event_loop(&self, number: usize) -> Polled<'_> {
            let mut woken = Polled::new(self.settling.wake(number));
            assert!(!woken.poll());
            woken
        }

        fn waiter(&self, position: u64) -> Polled<'_> {
            Polled::new(self.settling.until(position))
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A future that is polled by hand, and how often it was woken.
    struct Polled<'a> {
        future: Pin<Box<dyn Future<Output = ()> + 'a>>,
        wakes: Arc<Wakes>,
        /// Wakes that were followed by a poll.
        seen: usize,
        is_done: bool,
    }

    impl<'a> Polled<'a> {
        fn new(future: impl Future<Output = ()> + 'a) -> Self {
            let wakes = Arc::new(Wakes::default());
            Self { future: Box::pin(future), wakes, seen: 0, is_done: false }
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::SeqCst)
        }

        /// Whether it is done.
        fn poll(&mut self) -> bool {
            self.seen = self.wakes();
            let waker = Waker::from(self.wakes.clone());
            self.is_done |= self.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            self.is_done
        }

        /// What an executor does: polls it if it was woken.
        fn turn(&mut self) {
            if !self.is_done && self.wakes() > self.seen {
                self.poll();
            }
        }
    }

    #[test]
    fn a_group_wakes_each_loop_once_and_only_that_loop_wakes_its_waiters() {
        let rig = Rig::new();
        let mut loops = Vec::new();
        for number in [1, 2] {
            let woken = rig.event_loop(number);
            let mut waiters = [1, 1, 1, 2, 2].map(|position| rig.waiter(position));
            assert!(waiters.iter_mut().all(|waiter| !waiter.poll()));
            loops.push((woken, waiters));
        }
        let wakes = |waiters: &[Polled<'_>; 5]| waiters.each_ref().map(Polled::wakes);
        rig.settle();
        for (woken, waiters) in &mut loops {
            assert_eq!((woken.wakes(), wakes(waiters)), (1, [0; 5]), "before the loop's turn");
            woken.poll();
            assert_eq!(wakes(waiters), [1, 1, 1, 0, 0]);
            assert_eq!(waiters.each_mut().map(Polled::poll), [true, true, true, false, false]);
        }
        rig.settle();
        for (woken, waiters) in &mut loops {
            assert_eq!((woken.wakes(), wakes(waiters)), (2, [1, 1, 1, 0, 0]));
            woken.poll();
            assert_eq!(wakes(waiters), [1; 5]);
        }
    }

    /// A waiter's look and its registration are one step under the list's lock, and so is a loop's
    /// pass over the list; a group settles between any two of them.
    #[test]
    fn nobody_is_left_waiting_in_whatever_order_the_steps_come() {
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for (order, is_lost) in orders.iter().flat_map(|order| [(order, false), (order, true)]) {
            let rig = Rig::new();
            let (mut woken, mut waiter) = (rig.event_loop(1), rig.waiter(1));
            for step in order {
                match step {
                    0 => drop(waiter.poll()),
                    1 if is_lost => rig.lose(),
                    1 => rig.settle(),
                    _ => woken.turn(),
                }
            }
            woken.turn();
            waiter.turn();
            assert!(waiter.is_done, "left waiting: {order:?}, lost: {is_lost}");
        }
    }

    #[test]
    fn who_waits_for_a_log_that_ends_is_woken() {
        let Rig { disk: _, engine, settling } = Rig::new();
        let mut woken = Polled::new(settling.wake(1));
        let mut waiters = [1, 2].map(|position| Polled::new(settling.until(position)));
        assert!(!woken.poll() && !waiters[0].poll());
        drop(engine);
        woken.turn();
        waiters[0].turn();
        assert!(waiters[0].is_done && waiters[1].poll());
    }

    #[test]
    fn who_stops_waiting_leaves_nothing_behind() {
        let rig = Rig::new();
        let _woken = rig.event_loop(1);
        let mut waiter = rig.waiter(1);
        waiter.poll();
        assert_eq!(rig.settling.lists[1].lock().len(), 1);
        drop(waiter);
        assert_eq!(rig.settling.lists[1].lock().len(), 0);
    }

    #[test]
    fn an_answer_of_a_loss_waits_until_that_loss_is_mended() {
        let rig = Rig::new();
        assert!(Polled::new(rig.settling.mended()).poll(), "nothing was lost");
        for losses in 1..=2 {
            rig.lose();
            let mut answer = Polled::new(rig.settling.mended());
            assert!(!answer.poll());
            rig.settling.has_mended(losses - 1);
            answer.turn();
            assert!(!answer.is_done, "an earlier loss was mended");
            rig.settling.has_mended(losses);
            answer.turn();
            assert!(answer.is_done);
        }
    }

    /// Loops and their waiters on threads of their own, against the thread of the log.
    #[test]
    fn every_waiter_of_every_thread_is_answered() {
        const THREADS: usize = 3;
        const GROUPS: u64 = 2000;
        let rig = Rig::new();
        let begins = Barrier::new(THREADS + 1);
        std::thread::scope(|scope| {
            for number in 0..THREADS {
                let (settling, begins) = (rig.settling.clone(), &begins);
                scope.spawn(move || {
                    let mut runtime = tokio::runtime::Builder::new_current_thread();
                    runtime.enable_time().build().unwrap().block_on(async {
                        let waiting = settling.clone();
                        tokio::spawn(async move { waiting.wake(number).await });
                        tokio::task::yield_now().await;
                        for position in 1..=GROUPS {
                            begins.wait();
                            let settled = settling.until(position);
                            let settled = tokio::time::timeout(Duration::from_secs(20), settled);
                            settled.await.expect("a waiter was left waiting");
                        }
                    });
                });
            }
            for _ in 0..GROUPS {
                begins.wait();
                rig.settle();
            }
        });
    }
}
