//! The load generator against two servers: the cells that Redis and memcached share.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::comparisons::{Bench, Cell, size_name};
use crate::load::{Engine, KeySpace, Keys, Latency, Operation, Pace, Protocol, Script, Shape};
use crate::processor::Calls;
use crate::ratio::{ROUNDS_MIN, Target};
use crate::row::{Number, Row, Subject};
use crate::servers::{Instance, Kind};
use crate::side::{Compared, Side, Turns, Work, syscalls};

const VALUE_BYTES: [usize; 4] = [64, 1 << 10, 4 << 10, 64 << 10];
const CONNECTIONS: [usize; 4] = [1, 16, 50, 64];
const PIPELINES: [usize; 2] = [1, 16];

/// How many connections and requests fill a server.
const FILL: Shape = Shape { connections: 4, pipeline: 16 };

/// A server and how it is spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) kind: Kind,
    pub(super) protocol: Protocol,
}

/// What a cell is asked to reach.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Targets {
    pub(super) per_server_second: Option<Target>,
    pub(super) per_second: Option<Target>,
    pub(super) syscalls: Option<Target>,
    /// Whether syncs are counted instead of system calls of all kinds.
    pub(super) counts_syncs: bool,
}

/// What varies from cell to cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub(super) operation: Operation,
    pub(super) space: KeySpace,
    pub(super) shape: Shape,
}

impl Situation {
    /// The size and number of connections that targets are about.
    pub(super) fn is_central(self) -> bool {
        self.shape.connections == 50 && self.space.value_bytes <= 4 << 10
    }

    pub(super) fn name(self, family: &str) -> String {
        let (operation, size) = (self.operation.name(), size_name(self.space.value_bytes));
        let Shape { connections, pipeline } = self.shape;
        format!("{family}/{operation}/{size}/c{connections}/p{pipeline}")
    }
}

/// All situations: each size of value, operation, number of connections and pipeline.
pub(super) fn cells(
    family: &'static str,
    ours: Peer,
    theirs: Peer,
    targets: fn(Situation) -> Targets,
) -> Vec<Cell> {
    let mut cells = Vec::new();
    for value_bytes in VALUE_BYTES {
        for operation in Operation::ALL {
            for connections in CONNECTIONS {
                for pipeline in PIPELINES {
                    let space = KeySpace { value_bytes };
                    let shape = Shape { connections, pipeline };
                    let situation = Situation { operation, space, shape };
                    let name = situation.name(family);
                    let subject_name = name.clone();
                    let targets = targets(situation);
                    cells.push(Cell {
                        name,
                        is_quick: situation.is_central(),
                        measure: Box::new(move |bench| {
                            let turns = bench.turns;
                            measure(bench, &subject_name, situation, [ours, theirs], targets, turns)
                        }),
                    });
                }
            }
        }
    }
    cells
}

pub(super) fn measure(
    bench: &mut Bench,
    name: &str,
    situation: Situation,
    [ours, theirs]: [Peer; 2],
    targets: Targets,
    turns: Turns,
) -> Result<Vec<Row>> {
    let mut us = Requests::prepare(bench.servers.of(ours.kind)?, ours.protocol, situation)?;
    let peer = bench.servers.of(theirs.kind)?;
    let mut them = Requests::prepare(peer, theirs.protocol, situation)?;
    let value_bytes = situation.space.value_bytes;
    let subject = Subject { name: name.to_owned(), peer: peer.version.clone(), value_bytes };
    let compared = Compared::run(&mut us, &mut them, turns)?;
    let mut rows = vec![
        subject.row(&compared, Number::OperationsPerServerSecond, targets.per_server_second),
        subject.row(&compared, Number::OperationsPerSecond, targets.per_second),
        subject.row(&compared, Number::LatencyP99, None),
    ];
    if bench.counts_syscalls {
        // A single round gives the numbers; only a verdict needs an interval.
        let rounds = if targets.syscalls.is_some() { ROUNDS_MIN } else { 1 };
        let (calls, number) = match targets.counts_syncs {
            true => (Calls::Syncs, Number::SyncsPerOperation),
            false => (Calls::All, Number::SyscallsPerOperation),
        };
        let rounds = syscalls(&mut us, &mut them, calls, Turns { rounds, ..turns })?;
        let detail = serde_json::Map::new();
        rows.push(subject.row_of(&rounds, number, targets.syscalls, detail));
    }
    for row in &mut rows {
        row.detail.insert("ours_is".to_owned(), json!(format!("{:?}", ours.kind)));
    }
    Ok(rows)
}

/// The load generator connected to one server.
pub(super) struct Requests {
    server: u32,
    engine: Engine,
    keys: Keys,
    pub(super) pace: Pace,
}

impl Requests {
    /// Connects, and fills the server if it does not hold the keys.
    pub(super) fn prepare(
        instance: &mut Instance,
        protocol: Protocol,
        situation: Situation,
    ) -> Result<Self> {
        let Situation { operation, space, shape } = situation;
        if instance.note_filled(space) {
            let script = Script::new(protocol, Operation::Set, space);
            let mut engine = Engine::connect(instance.address, script, FILL)?;
            engine
                .send(&mut Keys::ascending(space), u64::from(space.count()))
                .with_context(|| format!("filling {}", instance.version))?;
        }
        let script = Script::new(protocol, operation, space);
        let engine = Engine::connect(instance.address, script, shape)?;
        let keys = Keys::random(space, 1);
        Ok(Self { server: instance.pid(), engine, keys, pace: Pace::Closed })
    }
}

impl Side for Requests {
    fn server(&self) -> u32 {
        self.server
    }

    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work> {
        let played = self.engine.play(&mut self.keys, self.pace, slice, latency)?;
        Ok(Work { operations: played.operations, elapsed: played.elapsed })
    }
}
