//! What a small object costs beside its key and value.
//!
//! Fresh servers for each round: what each of them has resident grows by the objects that are put
//! into it, and the rest of the growth is overhead. As many objects as a table of Redis's just
//! holds, which is the best case for Redis.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Map, json};

use crate::comparisons::{Bench, Cell, Family, size_name};
use crate::load::{Engine, KeySpace, Keys, Operation, Protocol, Script, Shape};
use crate::processor::resident_bytes;
use crate::ratio::{ROUNDS_MIN, Round, Target};
use crate::row::{Number, Row, Subject};
use crate::servers::Kind;

/// Sizes of values, and how many of each.
const OBJECTS: [(usize, u32); 3] = [(64, 1_000_000), (1 << 10, 250_000), (4 << 10, 62_500)];

const FILL: Shape = Shape { connections: 4, pipeline: 16 };

/// How often, and for how long at the most, to look until a server's memory stands still.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const STILL_MAX: Duration = Duration::from_secs(5);

pub(super) const FAMILY: Family = Family {
    name: "memory",
    about: "bytes that an object costs beside its key and value, in a memory node and in Redis",
    cells: || {
        let cell = |(value_bytes, count)| {
            let name = format!("memory/{}", size_name(value_bytes));
            let subject_name = name.clone();
            Cell {
                name,
                is_quick: true,
                measure: Box::new(move |bench| {
                    measure(bench, &subject_name, KeySpace { value_bytes }, count)
                }),
            }
        };
        OBJECTS.map(cell).into()
    },
};

fn measure(bench: &mut Bench, name: &str, space: KeySpace, count: u32) -> Result<Vec<Row>> {
    let peer = bench.servers.of(Kind::Redis)?.version.clone();
    let mut rounds = Vec::with_capacity(ROUNDS_MIN);
    for _ in 0..ROUNDS_MIN {
        let one = |kind| overhead(bench, kind, space, count);
        let (ours, theirs) = (one(Kind::Cirrus)?, one(Kind::Redis)?);
        rounds.push(Round { ours, theirs, again: one(Kind::Cirrus)? });
    }
    let subject = Subject { name: name.to_owned(), peer, value_bytes: space.value_bytes };
    let detail = Map::from_iter([
        ("objects".to_owned(), json!(count)),
        ("key_bytes".to_owned(), json!(space.key(0).len())),
    ]);
    let target = Some(Target::AtMost(1.0));
    Ok(vec![subject.row_of(&rounds, Number::OverheadBytes, target, detail)])
}

/// Bytes beside key and value for each of `count` objects in a server of its own.
#[expect(clippy::cast_precision_loss, reason = "at most a few hundred MB")]
fn overhead(bench: &Bench, kind: Kind, space: KeySpace, count: u32) -> Result<f64> {
    let server = bench.servers.fresh(kind)?;
    let script = Script::new(Protocol::Resp, Operation::Set, space);
    let mut engine = Engine::connect(server.address, script, FILL)?;
    let before = resident_bytes(server.pid())?;
    engine.send(&mut Keys::Ascending { count, next: 0 }, u64::from(count))?;
    let grown = still(server.pid())?.saturating_sub(before) as f64;
    let own = space.key(0).len() + space.value_bytes;
    Ok(grown / f64::from(count) - own as f64)
}

/// What a process has resident once that stands still: tables move on behind the last reply.
fn still(pid: u32) -> Result<u64> {
    let (began, mut last) = (Instant::now(), resident_bytes(pid)?);
    loop {
        std::thread::sleep(LOOK_EVERY);
        let now = resident_bytes(pid)?;
        if now.abs_diff(last) * 1000 <= now {
            return Ok(now);
        }
        ensure!(began.elapsed() < STILL_MAX, "its memory still grows after {STILL_MAX:?}");
        last = now;
    }
}
