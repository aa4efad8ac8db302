//! Cirrus with its own client against Redis with the best client for it.
//!
//! Two clients of Redis are tried, and the faster one is compared with: the `redis` crate's
//! multiplexed connection, and the load generator with a connection for each caller.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::comparisons::clients::{Callers, Library, Objects};
use crate::comparisons::requests::{self, Requests};
use crate::comparisons::{Bench, Cell, Family, size_name};
use crate::load::{KeySpace, Latency, Operation, Pace, Protocol, Shape};
use crate::ratio::{Target, median, sorted};
use crate::row::{Number, Row, Subject};
use crate::servers::Kind;
use crate::side::{Compared, Side, Turns};

/// Slices of each client of Redis before the faster one is known.
const CHOOSING_ROUNDS: usize = 9;

/// Callers at the same time.
const CALLERS: [usize; 3] = [1, 16, 64];

const VALUE_BYTES: [usize; 4] = [64, 1 << 10, 4 << 10, 64 << 10];

/// What varies from cell to cell.
#[derive(Debug, Clone, Copy)]
struct Situation {
    operation: Operation,
    space: KeySpace,
    callers: usize,
}

impl Situation {
    /// What targets are about.
    fn is_central(self) -> bool {
        self.callers == 64 && self.space.value_bytes <= 4 << 10
    }
}

pub(super) const FAMILY: Family = Family {
    name: "callers",
    about: "callers of Cirrus's client against Redis with its best client",
    cells: || {
        let mut cells = Vec::new();
        for value_bytes in VALUE_BYTES {
            for operation in Operation::ALL {
                for callers in CALLERS {
                    let situation =
                        Situation { operation, space: KeySpace { value_bytes }, callers };
                    let (verb, size) = (operation.name(), size_name(value_bytes));
                    let name = format!("callers/{verb}/{size}/c{callers}");
                    let subject_name = name.clone();
                    cells.push(Cell {
                        name,
                        is_quick: situation.is_central(),
                        measure: Box::new(move |bench| measure(bench, &subject_name, situation)),
                    });
                }
            }
        }
        cells
    },
};

fn measure(bench: &mut Bench, name: &str, situation: Situation) -> Result<Vec<Row>> {
    let mut sides = Sides::prepare(bench, situation)?;
    let peer = bench.servers.of(Kind::Redis)?.version.clone();
    let subject = Subject { name: name.to_owned(), peer, value_bytes: situation.space.value_bytes };
    let is_crate = sides.choose(bench, |speed| -speed.operations_per_second)?;
    let compared = sides.compare(is_crate, bench.turns)?;
    let target = situation.is_central().then_some(Target::AtLeast(2.0));
    let mut rows = vec![
        subject.row(&compared, Number::OperationsPerSecond, target),
        subject.row(&compared, Number::OperationsPerServerSecond, None),
        subject.row(&compared, Number::OperationsPerClientSecond, None),
    ];
    name_client(&mut rows, is_crate);
    if !situation.is_central() {
        return Ok(rows);
    }

    let rate = rows[0].ours.min(rows[0].theirs) / 2.0;
    sides.set_pace(Pace::Open { interval: Duration::from_secs_f64(1.0 / rate) });
    let is_crate = sides.choose(bench, |speed| speed.p99_us)?;
    let compared = sides.compare(is_crate, bench.turns.finer())?;
    let mut row = subject.row(&compared, Number::LatencyP99, Some(Target::AtMost(1.1)));
    row.detail.insert("offered_per_second".to_owned(), json!(rate.round()));
    name_client(std::slice::from_mut(&mut row), is_crate);
    rows.push(row);
    Ok(rows)
}

fn name_client(rows: &mut [Row], is_crate: bool) {
    let client = if is_crate { "redis crate, multiplexed" } else { "load generator" };
    for row in rows {
        row.detail.insert("their_client".to_owned(), json!(client));
    }
}

struct Sides {
    ours: Callers,
    multiplexed: Callers,
    generator: Requests,
}

struct Speed {
    operations_per_second: f64,
    p99_us: f64,
}

impl Sides {
    fn prepare(bench: &mut Bench, situation: Situation) -> Result<Self> {
        let Situation { operation, space, callers } = situation;
        let objects = Arc::new(Objects::new(space)?);
        let runtime = bench.runtime.clone();
        let side = |server, library| Callers {
            server,
            runtime: Rc::clone(&runtime),
            library,
            operation,
            objects: Arc::clone(&objects),
            callers,
            pace: Pace::Closed,
            seed: 1,
        };
        let cirrus = bench.servers.of(Kind::Cirrus)?;
        let ours = side(cirrus.pid(), Library::cirrus(cirrus));
        if cirrus.note_filled(space) {
            ours.fill()?;
        }
        let redis = bench.servers.of(Kind::Redis)?;
        let shape = Shape { connections: callers, pipeline: 1 };
        let situation = requests::Situation { operation, space, shape };
        let generator = Requests::prepare(redis, Protocol::Resp, situation)?;
        let library = runtime.block_on(Library::redis(redis))?;
        let multiplexed = side(redis.pid(), library);
        Ok(Self { ours, multiplexed, generator })
    }

    fn set_pace(&mut self, pace: Pace) {
        self.ours.pace = pace;
        self.multiplexed.pace = pace;
        self.generator.pace = pace;
    }

    fn compare(&mut self, is_crate: bool, turns: Turns) -> Result<Compared> {
        let theirs: &mut dyn Side =
            if is_crate { &mut self.multiplexed } else { &mut self.generator };
        Compared::run(&mut self.ours, theirs, turns)
    }

    /// Whether the crate does better than the generator, by the smaller median `cost` of a slice.
    fn choose(&mut self, bench: &Bench, cost: fn(&Speed) -> f64) -> Result<bool> {
        let slice = bench.turns.finer().slice;
        let speed = |side: &mut dyn Side| -> Result<f64> {
            let mut latency = Latency::new();
            let work = side.work(slice, &mut latency)?;
            #[expect(clippy::cast_precision_loss, reason = "counts within a second")]
            let operations_per_second = work.operations as f64 / work.elapsed.as_secs_f64();
            Ok(cost(&Speed { operations_per_second, p99_us: latency.percentile_us(99.0) }))
        };
        let (mut multiplexed, mut generator) = (Vec::new(), Vec::new());
        for _ in 0..CHOOSING_ROUNDS {
            multiplexed.push(speed(&mut self.multiplexed)?);
            generator.push(speed(&mut self.generator)?);
        }
        Ok(median(&sorted(multiplexed)) <= median(&sorted(generator)))
    }
}
