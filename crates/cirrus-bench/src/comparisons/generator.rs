//! The load generator itself: canned replies against Redis, and Redis against itself.
//!
//! The first shows how far the generator's own ceiling lies above what is measured with it; the
//! second shows what the method makes of two sides that are the same.

use crate::comparisons::requests::{Peer, Situation, Targets, measure};
use crate::comparisons::{Cell, Family};
use crate::load::{KeySpace, Operation, Protocol, Shape};
use crate::servers::{CANNED_VALUE_BYTES, Kind};

pub(super) const FAMILY: Family = Family {
    name: "generator",
    about: "the load generator's ceiling, and Redis against itself",
    cells: || {
        let mut cells = Vec::new();
        for (family, kind) in [("canned", Kind::Canned), ("same", Kind::Redis)] {
            for pipeline in [1, 16] {
                let space = KeySpace { value_bytes: CANNED_VALUE_BYTES };
                let shape = Shape { connections: 50, pipeline };
                let situation = Situation { operation: Operation::Get, space, shape };
                let name = situation.name(&format!("generator/{family}"));
                let subject_name = name.clone();
                cells.push(Cell {
                    name,
                    is_quick: true,
                    measure: Box::new(move |bench| {
                        if kind == Kind::Canned {
                            // It answers gets only, and has all values.
                            bench.servers.of(kind)?.note_filled(space);
                        }
                        let ours = Peer { kind, protocol: Protocol::Resp };
                        let theirs = Peer { kind: Kind::Redis, protocol: Protocol::Resp };
                        let targets = Targets::default();
                        let turns = bench.turns;
                        measure(bench, &subject_name, situation, [ours, theirs], targets, turns)
                    }),
                });
            }
        }
        cells
    },
};
