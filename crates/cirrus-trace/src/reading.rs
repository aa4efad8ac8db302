//! From the files of a trace to its records, in the order of time.
//!
//! Owns: which rows come next, and what goes wrong on the way.
//! Knows nothing of: figures.
//! Invariant: memory is bounded by threads, tables, machines and tasks that may still start, never
//! by the length of the trace.
//!
//! Every table's files are decoded by a pool of threads, some files ahead, and delivered in the
//! order of their names; the tables are merged by time, at the same time machines before tasks
//! before use. A table that is not in order within itself stays so, unless it is sorted first, on
//! disk ([`Options::sort`]).

mod bytes;
mod decode;
mod error;
mod files;
mod join;
mod lines;
mod look;
mod numbered;
mod packed;
mod parquet;
mod parts;
mod pool;
mod sort;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::bytes::Counter;
use self::decode::Settings;
pub use self::error::{Error, ErrorKind};
pub use self::files::detect;
use self::join::Join;
use self::pool::Pool;
use self::sort::{Sorted, Sorter};
use crate::formats::output::Output;
use crate::formats::{Format, Row};
use crate::problems::{Kind, Place, Problems};
use crate::record::{Micros, Record};

/// How many rows of a file are decoded at once.
pub(crate) const ROWS: usize = 512;

/// How a trace is read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How many threads decode files.
    pub threads: usize,
    /// google-2019: take alloc sets and what runs in them as they stand, which counts room twice.
    pub allocs: bool,
    /// generic: how long a row holds that has no `duration`.
    pub slot: Micros,
    /// Put every table in the order of time first. `None`: where the format's files are in no
    /// order, which is alibaba-2018.
    pub sort: Option<bool>,
    /// Where the rows wait while they are sorted.
    pub scratch: PathBuf,
    /// Set to end the records soon, as at Ctrl-C.
    pub stop: Arc<AtomicBool>,
}

impl Default for Options {
    /// All processors, slots of 300 s, no alloc sets, sorted where the format needs it.
    fn default() -> Options {
        Options {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            allocs: false,
            slot: 300_000_000,
            sort: None,
            scratch: std::env::temp_dir(),
            stop: Arc::default(),
        }
    }
}

/// How far the reading is. Clones show the same.
#[derive(Clone, Debug)]
pub struct Progress {
    read: Counter,
    total: u64,
}

impl Progress {
    /// How many bytes of the files were read, compressed as they are; about, for Parquet.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read.0.load(Ordering::Relaxed)
    }

    /// How many there are.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.total
    }
}

/// The records of a trace. Dropping it ends and joins its threads.
pub struct Reading {
    pool: Pool,
    lanes: Vec<Lane>,
    join: Join,
    problems: Problems,
    progress: Progress,
    stop: Arc<AtomicBool>,
    sort: bool,
    scratch: PathBuf,
    started: bool,
}

/// The rows of a table.
struct Lane {
    index: usize,
    rank: u8,
    rows: VecDeque<Row>,
    sorted: Option<Sorted>,
    /// In the order in which rows number them.
    files: Vec<Arc<Path>>,
    /// The time of the next row, `None` at the end.
    next: Option<Micros>,
}

/// Opens a trace: looks at the beginning of every file, and reads none of them yet.
///
/// # Errors
///
/// A path that does not exist or cannot be read, a file named in `paths` that is of another format,
/// or no file of the format at all.
pub fn open(format: Format, paths: &[PathBuf], options: Options) -> Result<Reading, Error> {
    let files = files::find(format, paths)?;
    let mut lanes = Vec::new();
    let mut parts = Vec::new();
    for (index, (table, of_table)) in files.tables.into_iter().enumerate() {
        let (rank, rows) = (table.rank(), VecDeque::new());
        let files = of_table.iter().map(|part| Arc::clone(&part.path)).collect();
        lanes.push(Lane { index, rank, rows, sorted: None, files, next: None });
        parts.push(of_table);
    }
    let read = Counter(Arc::new(AtomicU64::new(0)));
    let settings = Settings { allocs: options.allocs, slot: options.slot };
    let stop = options.stop;
    let pool = Pool::new(parts, options.threads, settings, read.clone(), Arc::clone(&stop))
        .map_err(|error| {
            let first = paths.first().map_or(Path::new("."), PathBuf::as_path);
            Error::new(ErrorKind::Unreadable, first, format!("no thread to read it: {error}"))
        })?;
    Ok(Reading {
        pool,
        lanes,
        join: Join::new(format == Format::Alibaba2018),
        problems: files.problems,
        progress: Progress { read, total: files.bytes },
        stop,
        sort: options.sort.unwrap_or(format == Format::Alibaba2018),
        scratch: options.scratch,
        started: false,
    })
}

impl Reading {
    /// What was wrong so far.
    #[must_use]
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// How far it is; may be asked from another thread.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Sorts the tables if they are to be, and finds the first row of each.
    fn start(&mut self) {
        for lane in &mut self.lanes {
            if self.sort {
                lane.sort(&self.pool, &self.scratch, &mut self.problems);
            }
            lane.find_next(&self.pool, &mut self.problems);
        }
    }

    /// The table whose turn it is.
    fn earliest(&self) -> Option<usize> {
        let heads = self.lanes.iter().enumerate();
        heads.filter_map(|(at, lane)| Some((lane.next?, lane.rank, at))).min().map(|(.., at)| at)
    }
}

impl Iterator for Reading {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if !self.started {
            self.started = true;
            self.start();
        }
        while !self.stop.load(Ordering::Relaxed) {
            let at = self.earliest()?;
            let lane = &mut self.lanes[at];
            let row = lane.pop(&mut self.problems)?;
            let (files, problems) = (&lane.files, &mut self.problems);
            let record = self.join.complete(row, |fault, origin| {
                problems.add(fault.kind, || {
                    let file = files.get(origin.file()).cloned();
                    let place = file.map(|file| Place { file, at: origin.spot() });
                    (place, fault.to_string())
                });
            });
            lane.find_next(&self.pool, &mut self.problems);
            if record.is_some() {
                return record;
            }
        }
        None
    }
}

impl Lane {
    /// Finds the time of the next row.
    #[inline]
    fn find_next(&mut self, pool: &Pool, problems: &mut Problems) {
        self.next = match &self.sorted {
            Some(sorted) => sorted.time(),
            None => self.next_unsorted(pool, problems),
        };
    }

    #[inline]
    fn next_unsorted(&mut self, pool: &Pool, problems: &mut Problems) -> Option<Micros> {
        loop {
            if let Some(row) = self.rows.front() {
                return Some(row.time());
            }
            let Output { rows, problems: found, .. } = pool.take(self.index)?;
            problems.merge(found);
            pool.give_back(std::mem::replace(&mut self.rows, rows.into()).into());
        }
    }

    /// Takes the next row.
    #[inline]
    fn pop(&mut self, problems: &mut Problems) -> Option<Row> {
        match &mut self.sorted {
            None => self.rows.pop_front(),
            Some(sorted) => sorted.pop().unwrap_or_else(|error| {
                problems.add(Kind::SortFailed, || (None, error.to_string()));
                None
            }),
        }
    }

    fn sort(&mut self, pool: &Pool, scratch: &Path, problems: &mut Problems) {
        let mut sorter = Sorter::new(scratch, sort::RUN);
        while self.next_unsorted(pool, problems).is_some() {
            let pushed = self.rows.pop_front().map_or(Ok(()), |row| sorter.push(row));
            if let Err(error) = pushed {
                let place = Place { file: Arc::from(scratch), at: None };
                problems.add(Kind::SortFailed, || (Some(place), error.to_string()));
                break;
            }
        }
        match sorter.finish() {
            Ok(sorted) => self.sorted = Some(sorted),
            Err(error) => problems.add(Kind::SortFailed, || (None, error.to_string())),
        }
    }
}
