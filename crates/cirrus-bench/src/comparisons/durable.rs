//! Writes that are on the disk when they are acknowledged.
//!
//! Over RESP against Redis, and the bare engine against RocksDB, each with one processor for each
//! side. All of them write to the same file system, by turns.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use cirrus_store::Key;
use cirrus_store::segments::{Engine, Options};
use parking_lot::Mutex;
use serde_json::json;

use crate::comparisons::requests::{Peer, Situation, Targets, measure};
use crate::comparisons::{Bench, Cell, Family, size_name};
use crate::load::{KeySpace, Latency, Operation, Protocol, Shape};
use crate::ratio::Target;
use crate::row::{Number, Subject};
use crate::servers::{DbBench, Kind};
use crate::side::{Compared, Side, Turns, Work};

const VALUE_BYTES: usize = 1 << 10;

/// Objects that the engines write over.
const OBJECTS: u64 = 65_536;

/// Long enough for some hundred syncs.
const SLICE_MIN: Duration = Duration::from_millis(400);

pub(super) const FAMILY: Family = Family {
    name: "durable",
    about: "writes that are on the disk: a storage node and Redis, the bare engine and RocksDB",
    cells: || {
        [1, 16, 64].into_iter().flat_map(|writers| [served(writers), bare(writers)]).collect()
    },
};

/// The shortest that `db_bench` can measure.
const ENGINE_SLICE_MIN: Duration = Duration::from_secs(1);

fn turns(bench: &Bench, slice_min: Duration) -> Turns {
    // Slices are long here: half as many.
    Turns { slice: bench.turns.slice.max(slice_min), rounds: bench.turns.rounds / 2 }
}

/// A storage node beside Redis, over RESP.
fn served(connections: usize) -> Cell {
    let situation = Situation {
        operation: Operation::Set,
        space: KeySpace { value_bytes: VALUE_BYTES },
        shape: Shape { connections, pipeline: 1 },
    };
    let name = situation.name("durable");
    let per_second = match connections {
        1 => Some(Target::AtLeast(0.9)),
        64 => Some(Target::AtLeast(1.0)),
        _ => None,
    };
    let targets = Targets { per_second, counts_syncs: true, ..Targets::default() };
    let ours = Peer { kind: Kind::Storage, protocol: Protocol::Resp };
    let theirs = Peer { kind: Kind::DurableRedis, protocol: Protocol::Resp };
    let subject_name = name.clone();
    Cell {
        name,
        is_quick: per_second.is_some(),
        measure: Box::new(move |bench| {
            let turns = turns(bench, SLICE_MIN);
            measure(bench, &subject_name, situation, [ours, theirs], targets, turns)
        }),
    }
}

/// The engine alone, in this process, beside RocksDB's own benchmark.
fn bare(writers: usize) -> Cell {
    let name = format!("durable/engine/{}/t{writers}", size_name(VALUE_BYTES));
    let subject_name = name.clone();
    Cell {
        name,
        is_quick: false,
        measure: Box::new(move |bench| {
            let turns = turns(bench, ENGINE_SLICE_MIN);
            let folder = bench.servers.folder("engine")?;
            let mut ours = Writers::open(&folder, writers)?;
            let mut theirs = Rocks(bench.servers.db_bench(writers, OBJECTS, VALUE_BYTES)?);
            let compared = Compared::run(&mut ours, &mut theirs, turns)?;
            let peer = theirs.0.version().to_owned();
            let subject = Subject { name: subject_name.clone(), peer, value_bytes: VALUE_BYTES };
            let mut row = subject.row(&compared, Number::OperationsPerSecond, None);
            row.detail.insert("syncs_per_put".to_owned(), json!(ours.syncs_per_put()?));
            Ok(vec![row])
        }),
    }
}

/// Threads that put, each one object at a time.
struct Writers {
    engine: Engine,
    writers: usize,
    version: Mutex<u64>,
}

impl Writers {
    fn open(folder: &Path, writers: usize) -> Result<Self> {
        let mut options = Options::default();
        options.capacity = 8 << 30;
        let engine = Engine::open_folder(folder, options)?;
        Ok(Self { engine, writers, version: Mutex::new(0) })
    }

    /// Puts until `until`; the puts, and how long each took.
    fn write(&self, until: Instant) -> Result<(u64, Latency)> {
        let (mut operations, mut latency) = (0, Latency::new());
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        loop {
            let began = Instant::now();
            if began >= until {
                return Ok((operations, latency));
            }
            let put = {
                // Versions grow in the order of the calls.
                let mut version = self.version.lock();
                *version += 1;
                let object = version.wrapping_mul(0x9E37_79B9_7F4A_7C15) % OBJECTS;
                let key = Key::try_from(format!("bench:{object:010}"))?;
                self.engine.put(key, *version, value.clone())?
            };
            put.wait()?;
            latency.record(began.elapsed());
            operations += 1;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a minute")]
    fn syncs_per_put(&self) -> Result<f64> {
        let stats = self.engine.stats()?;
        Ok((stats.syncs as f64 / stats.writes as f64 * 1e4).round() / 1e4)
    }
}

impl Side for Writers {
    fn server(&self) -> u32 {
        std::process::id()
    }

    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work> {
        let began = Instant::now();
        let (this, until) = (&*self, began + slice);
        let parts: Vec<Result<(u64, Latency)>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..this.writers).map(|_| scope.spawn(move || this.write(until))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a writer ended")).collect()
        });
        let mut operations = 0;
        for part in parts {
            let (count, its_latency) = part?;
            operations += count;
            latency.add(&its_latency);
        }
        Ok(Work { operations, elapsed: began.elapsed() })
    }
}

/// RocksDB's benchmark, started anew for each slice; its start does not count.
struct Rocks(DbBench);

impl Side for Rocks {
    fn server(&self) -> u32 {
        // It is gone between slices.
        std::process::id()
    }

    fn work(&mut self, slice: Duration, _latency: &mut Latency) -> Result<Work> {
        let puts = self.0.puts_per_second(slice)?;
        ensure!(puts > 0.0, "db_bench wrote nothing");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
        let operations = puts.round() as u64;
        Ok(Work { operations, elapsed: Duration::from_secs(1) })
    }
}
