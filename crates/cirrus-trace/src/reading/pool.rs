//! Files decoded on several threads, delivered in order.
//!
//! Owns: the threads, the files in work, what of them waits to be taken.
//! Knows nothing of: formats, the order of time.
//! Invariant: no thread waits while it holds a file, so any number of threads serves any number of
//! tables; what waits is at most [`AHEAD`] files of each table and [`WAITING`] batches of each.
//!
//! Memory: tables · AHEAD · WAITING · [`ROWS`](super::ROWS) rows of at most two records of some 190
//! bytes: below 5 MB a table with rows of one record, whatever the number of threads or files.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::ROWS;
use super::bytes::Counter;
use super::decode::{self, Decode, More, Part, Settings};
use crate::formats::Row;
use crate::formats::output::Output;
use crate::problems::Kind;

/// How many files of a table are in work or waiting.
const AHEAD: usize = 12;
/// How many batches of a file wait.
const WAITING: usize = 4;

/// What the threads and the one who takes share.
struct Shared {
    state: Mutex<State>,
    /// A batch was added, or a file ended.
    added: Condvar,
    /// A batch was taken, or the pool closes.
    taken: Condvar,
    settings: Settings,
    counter: Counter,
    stop: Arc<AtomicBool>,
}

struct State {
    lanes: Vec<Lane>,
    /// Room of batches that were taken: as many as ever waited at once, and none is freed. Given up
    /// and asked for again, it would lie about in the pools of one thread or another.
    spare: Vec<Vec<Row>>,
    closed: bool,
}

/// The files of a table that are left, in order.
struct Lane {
    files: VecDeque<File>,
}

struct File {
    part: Part,
    work: Work,
    waiting: VecDeque<Output>,
}

enum Work {
    Unopened,
    Open(Box<dyn Decode>),
    /// A thread has it.
    Taken,
    Ended,
}

/// The threads; dropping it ends and joins them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Decoding, which may panic, is outside of the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl State {
    /// The file to go on with: of those that have room, the one that is needed soonest; of these
    /// the one with the least waiting.
    fn next(&self) -> Option<(usize, usize)> {
        let files = self.lanes.iter().enumerate().flat_map(|(lane, files)| {
            files.files.iter().take(AHEAD).enumerate().map(move |(at, file)| (lane, at, file))
        });
        files
            .filter(|(_, _, file)| {
                file.waiting.len() < WAITING && matches!(file.work, Work::Unopened | Work::Open(_))
            })
            .min_by_key(|(_, at, file)| (*at, file.waiting.len()))
            .map(|(lane, at, _)| (lane, at))
    }
}

impl Pool {
    pub(crate) fn new(
        lanes: Vec<Vec<Part>>,
        threads: usize,
        settings: Settings,
        counter: Counter,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Pool> {
        let file = |part| File { part, work: Work::Unopened, waiting: VecDeque::new() };
        let lanes =
            lanes.into_iter().map(|parts| Lane { files: parts.into_iter().map(file).collect() });
        let state = State { lanes: lanes.collect(), spare: Vec::new(), closed: false };
        let (added, taken) = (Condvar::new(), Condvar::new());
        let shared =
            Arc::new(Shared { state: Mutex::new(state), added, taken, settings, counter, stop });
        let mut pool = Pool { shared, threads: Vec::new() };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("trace-{number}"));
            // Those that run are joined as the pool is dropped.
            pool.threads.push(thread.spawn(move || work(&shared))?);
        }
        Ok(pool)
    }

    /// The next batch of a lane, in order; `None` at its end, or soon after the stop.
    pub(crate) fn take(&self, lane: usize) -> Option<Output> {
        let mut state = self.shared.lock();
        loop {
            if self.shared.stopped() {
                return None;
            }
            let file = state.lanes[lane].files.front_mut()?;
            if let Some(batch) = file.waiting.pop_front() {
                self.shared.taken.notify_one();
                return Some(batch);
            }
            if matches!(file.work, Work::Ended) {
                state.lanes[lane].files.pop_front();
                self.shared.taken.notify_all();
            } else {
                state = self.shared.added.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Takes back the room of a batch.
    pub(crate) fn give_back(&self, mut rows: Vec<Row>) {
        rows.clear();
        self.shared.lock().spare.push(rows);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.taken.notify_all();
        for thread in self.threads.drain(..) {
            // What panics in a thread is caught there.
            let _ended = thread.join();
        }
    }
}

/// What a thread does until the pool closes or all files have ended.
fn work(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        if state.closed || shared.stopped() {
            drop(state);
            shared.added.notify_all();
            return;
        }
        let Some((lane, at)) = state.next() else {
            state = shared.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let file = &mut state.lanes[lane].files[at];
        let taken = std::mem::replace(&mut file.work, Work::Taken);
        let part = file.part.clone();
        let mut batch = Output::new(Arc::clone(&part.path), part.number);
        let spare = state.spare.pop();
        drop(state);
        batch.rows = spare.unwrap_or_else(|| Vec::with_capacity(ROWS));
        let left = decode(&part, taken, &mut batch, shared);
        state = shared.lock();
        // Files leave a lane only at its front and once they have ended, so it is still there.
        let files = &mut state.lanes[lane].files;
        if let Some(file) = files.iter_mut().find(|file| Arc::ptr_eq(&file.part.path, &part.path)) {
            file.work = left;
            file.waiting.push_back(batch);
        }
        shared.added.notify_all();
    }
}

/// Goes on with a file by one batch.
fn decode(part: &Part, work: Work, batch: &mut Output, shared: &Shared) -> Work {
    let went_on = catch_unwind(AssertUnwindSafe(|| {
        let mut decoder = match work {
            Work::Open(decoder) => decoder,
            Work::Unopened | Work::Taken | Work::Ended => {
                match decode::open(part, shared.settings, &shared.counter) {
                    Ok(decoder) => decoder,
                    Err(error) => {
                        batch.file_fault(Kind::FileUnreadable, &error.to_string());
                        return Work::Ended;
                    }
                }
            }
        };
        match decoder.fill(batch) {
            More::Yes => Work::Open(decoder),
            More::No => Work::Ended,
        }
    }));
    // A decoder that panics on a broken file ends that file, not the reading.
    went_on.unwrap_or_else(|_| {
        batch.file_fault(Kind::FileUnreadable, "its decoder gave up");
        Work::Ended
    })
}
