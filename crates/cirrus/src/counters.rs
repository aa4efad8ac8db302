//! Numbers that a task counts up while it works.
//!
//! Owns the counters of this process. May not know who reads them. Invariant: a counter only
//! grows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Records that a stage has worked on.
pub(crate) const RECORDS: &str = "records";
/// Batches that a stage has written or read.
pub(crate) const BATCHES: &str = "batches";
/// Bytes of records or batches that a stage has read.
pub(crate) const BYTES_IN: &str = "bytes_in";
/// Bytes of records or batches that a stage has written.
pub(crate) const BYTES_OUT: &str = "bytes_out";
/// Microseconds in which the body worked.
pub(crate) const BUSY_US: &str = "busy_us";
/// Microseconds in which the body waited for data, or for room for it.
pub(crate) const WAIT_US: &str = "wait_us";
/// Microseconds until the first batch came.
pub(crate) const FIRST_US: &str = "first_us";
/// Microseconds of processor time of the process.
pub(crate) const CPU_US: &str = "cpu_us";
/// The most bytes that the process had resident.
pub(crate) const RESIDENT_MAX: &str = "resident_max";

/// A number that only grows; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds the microseconds of a duration.
    pub(crate) fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
}

/// The counters of a process.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<String, Counter>>);

impl Counters {
    pub(crate) fn counter(&self, name: &str) -> Counter {
        self.0.lock().entry(name.to_owned()).or_default().clone()
    }

    /// What they are now, with the processor time and memory of the process.
    pub(crate) fn values(&self) -> BTreeMap<String, u64> {
        let values = self.0.lock();
        let mut values: BTreeMap<String, u64> = values
            .iter()
            .map(|(name, counter)| (name.clone(), counter.0.load(Ordering::Relaxed)))
            .collect();
        values.insert(CPU_US.to_owned(), cpu_us());
        values.extend(resident_max().map(|bytes| (RESIDENT_MAX.to_owned(), bytes)));
        values
    }
}

/// Splits a body's time into busy and waiting.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    busy: Counter,
    wait: Counter,
    since: Instant,
}

impl Stopwatch {
    pub(crate) fn start(counters: &Counters) -> Self {
        let (busy, wait) = (counters.counter(BUSY_US), counters.counter(WAIT_US));
        Self { busy, wait, since: Instant::now() }
    }

    /// The time since the last call was work.
    pub(crate) fn was_busy(&mut self) {
        let lap = self.lap();
        self.busy.add_time(lap);
    }

    /// The time since the last call was waiting.
    pub(crate) fn was_waiting(&mut self) {
        let lap = self.lap();
        self.wait.add_time(lap);
    }

    /// The time since the last call counts as neither.
    pub(crate) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now - self.since;
        self.since = now;
        lap
    }
}

/// `None` where the kernel does not say.
fn resident_max() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn cpu_us() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let micros = i128::from(used.tv_sec) * 1_000_000 + i128::from(used.tv_nsec) / 1000;
    u64::try_from(micros).unwrap_or(0)
}
