//! Values read where they lie in the node's memory, against what it would cost without.
//!
//! One operation at a time, with a client on the node's host. Sides differ in what they ask for or
//! in the way it comes; both speak to the same node.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use cirrus_store::{Client, ClientOptions, Key};
use tokio::runtime::Runtime;

use crate::comparisons::{Bench, Cell, Family, size_name};
use crate::load::Latency;
use crate::ratio::Target;
use crate::row::{Number, Row, Subject};
use crate::servers::{Instance, Kind};
use crate::side::{Compared, Side, Turns, Work};

const SMALL_BYTES: usize = 4 << 10;
const LARGE_BYTES: usize = 64 << 20;

/// Of the largest value, a slice should hold several transfers.
const SLICE_MIN: Duration = Duration::from_millis(150);

/// A get of 64 MiB that nobody looks at takes at most 1.2 times the time of one of 4 KiB.
const UNTOUCHED: Target = Target::AtLeast(1.0 / 1.2);

/// A get whose bytes are copied out, against a copy within this process.
const TOUCHED: Target = Target::AtLeast(0.8);

pub(super) const FAMILY: Family = Family {
    name: "mapped",
    about: "values read in place by a client of the node's host; its small gets and its puts",
    cells: || {
        use Way::{Memory, Sockets, Untouched};
        let large = size_name(LARGE_BYTES);
        let all = Number::GigabytesPerSecond;
        let mut cells = vec![
            cell(
                format!("mapped/untouched/{large}"),
                [(Untouched, LARGE_BYTES), (Untouched, SMALL_BYTES)],
                (Number::OperationsPerSecond, Some(UNTOUCHED)),
            ),
            cell(
                format!("mapped/touched/{large}"),
                [(Way::Touched, LARGE_BYTES), (Memory, LARGE_BYTES)],
                (all, Some(TOUCHED)),
            ),
            cell(
                format!("mapped/first-touch/{large}"),
                [(Way::Anew, LARGE_BYTES), (Memory, LARGE_BYTES)],
                (all, None),
            ),
            cell(
                format!("mapped/checked/{large}"),
                [(Way::Checked, LARGE_BYTES), (Sockets, LARGE_BYTES)],
                (all, None),
            ),
        ];
        for bytes in [64, SMALL_BYTES, 64 << 10] {
            let sides = [(Untouched, bytes), (Sockets, bytes)];
            let name = format!("mapped/get-against-tcp/{}", size_name(bytes));
            cells.push(cell(name, sides, (Number::OperationsPerSecond, None)));
        }
        for bytes in [SMALL_BYTES, 64 << 10] {
            let sides = [(Way::Put, bytes), (Way::PutOverTcp, bytes)];
            let name = format!("mapped/put-against-tcp/{}", size_name(bytes));
            cells.push(cell(name, sides, (all, None)));
        }
        cells
    },
};

/// What a side does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Gets a value and lets it go.
    Untouched,
    /// Gets a value and copies it into a buffer that was used before.
    Touched,
    /// The same with a client that has seen none of the node's memory.
    Anew,
    /// Gets a value and has it checked against its writer's checksums.
    Checked,
    /// Gets a value over TCP, checked.
    Sockets,
    /// Copies as many bytes within this process.
    Memory,
    Put,
    PutOverTcp,
}

fn cell(
    name: String,
    sides: [(Way, usize); 2],
    (number, target): (Number, Option<Target>),
) -> Cell {
    let subject_name = name.clone();
    Cell {
        name,
        is_quick: target.is_some(),
        measure: Box::new(move |bench| measure(bench, &subject_name, sides, number, target)),
    }
}

fn measure(
    bench: &mut Bench,
    name: &str,
    sides: [(Way, usize); 2],
    number: Number,
    target: Option<Target>,
) -> Result<Vec<Row>> {
    let runtime = bench.runtime.clone();
    let node = bench.servers.of(Kind::Cirrus)?;
    let [(way, value_bytes), (other, other_bytes)] = sides;
    let mut ours = Reader::prepare(node, runtime.clone(), way, value_bytes)?;
    let mut theirs = Reader::prepare(node, runtime, other, other_bytes)?;
    let peer = format!("{other:?} {}", size_name(other_bytes));
    let subject = Subject { name: name.to_owned(), peer, value_bytes };
    let turns = Turns { slice: bench.turns.slice.max(SLICE_MIN), ..bench.turns };
    let compared = Compared::run(&mut ours, &mut theirs, turns)?;
    Ok(vec![subject.row(&compared, number, target)])
}

/// A client and its object.
struct Reader {
    server: u32,
    address: String,
    runtime: Rc<Runtime>,
    client: Client,
    way: Way,
    key: Key,
    value: Bytes,
    /// Where what is touched is copied to.
    buffer: Vec<u8>,
}

impl Reader {
    fn prepare(
        node: &Instance,
        runtime: Rc<Runtime>,
        way: Way,
        value_bytes: usize,
    ) -> Result<Self> {
        let mut options = ClientOptions::default();
        options.maps = !matches!(way, Way::Sockets | Way::PutOverTcp);
        options.verifies_mapped = way == Way::Checked;
        let address = node.address.to_string();
        let client = Client::new(&address, options);
        let key = Key::new(format!("bench:mapped:{way:?}:{value_bytes}").into_bytes())?;
        let value = Bytes::from(vec![1; value_bytes]);
        runtime.block_on(client.put(&key, value.clone()))?;
        let buffer = vec![1; value_bytes];
        Ok(Self { server: node.pid(), address, runtime, client, way, key, value, buffer })
    }

    fn once(&mut self) -> Result<()> {
        let Self { runtime, client, key, value, buffer, .. } = self;
        match self.way {
            Way::Memory => buffer.copy_from_slice(value),
            Way::Put | Way::PutOverTcp => {
                runtime.block_on(client.put(key, value.clone()))?;
            }
            Way::Untouched | Way::Checked | Way::Sockets => {
                let object = runtime.block_on(client.get(key))?;
                ensure!(object.value.len() == value.len(), "a value of another length");
            }
            Way::Touched => buffer.copy_from_slice(&runtime.block_on(client.get(key))?.value),
            Way::Anew => {
                let client = Client::new(&self.address, ClientOptions::default());
                runtime.block_on(async {
                    buffer.copy_from_slice(&client.get(key).await?.value);
                    client.close().await;
                    anyhow::Ok(())
                })?;
            }
        }
        // What is copied is looked at by somebody.
        std::hint::black_box(&buffer);
        Ok(())
    }
}

impl Side for Reader {
    fn server(&self) -> u32 {
        self.server
    }

    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work> {
        let began = Instant::now();
        let mut operations = 0;
        let mut now = began;
        while now - began < slice {
            self.once()?;
            let end = Instant::now();
            latency.record(end - now);
            (now, operations) = (end, operations + 1);
        }
        Ok(Work { operations, elapsed: began.elapsed() })
    }
}
