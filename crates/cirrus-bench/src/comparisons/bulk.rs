//! Large values over TCP with Cirrus's client against a bare socket copy of as many bytes.
//!
//! One transfer at a time. Gets are verified: the client checks each block's checksum.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use cirrus_store::{Client, ClientOptions, Key};
use tokio::runtime::Runtime;

use crate::comparisons::{Bench, Cell, Family, size_name};
use crate::load::{Latency, Operation};
use crate::ratio::Target;
use crate::row::{Number, Row, Subject};
use crate::servers::{BareClient, Instance, Kind};
use crate::side::{Compared, Side, Turns, Work};

const VALUE_BYTES: [usize; 3] = [1 << 20, 16 << 20, 64 << 20];

/// Of the largest value, a slice should hold several transfers.
const SLICE_MIN: Duration = Duration::from_millis(150);

pub(super) const FAMILY: Family = Family {
    name: "bulk",
    about: "gets (verified) and puts of large values against a bare socket copy",
    cells: || {
        let mut cells = Vec::new();
        for value_bytes in VALUE_BYTES {
            for operation in Operation::ALL {
                let verified = if operation == Operation::Get { "/verified" } else { "" };
                let (verb, size) = (operation.name(), size_name(value_bytes));
                let name = format!("bulk/{verb}/{size}{verified}");
                let subject_name = name.clone();
                cells.push(Cell {
                    name,
                    is_quick: true,
                    measure: Box::new(move |bench| {
                        measure(bench, &subject_name, operation, value_bytes)
                    }),
                });
            }
        }
        cells
    },
};

fn measure(
    bench: &mut Bench,
    name: &str,
    operation: Operation,
    value_bytes: usize,
) -> Result<Vec<Row>> {
    let runtime = bench.runtime.clone();
    let mut ours =
        Values::prepare(bench.servers.of(Kind::Cirrus)?, runtime, operation, value_bytes)?;
    let bare = bench.servers.of(Kind::Bare)?;
    let client = BareClient::connect(bare.address)?;
    let mut theirs = Copy { server: bare.pid(), client, operation, value_bytes };
    let subject = Subject { name: name.to_owned(), peer: bare.version.clone(), value_bytes };
    let turns = Turns { slice: bench.turns.slice.max(SLICE_MIN), ..bench.turns };
    let compared = Compared::run(&mut ours, &mut theirs, turns)?;
    let target = (operation == Operation::Get).then_some(Target::AtLeast(0.90));
    Ok(vec![subject.row(&compared, Number::GigabytesPerSecond, target)])
}

/// Cirrus's client and one large object.
struct Values {
    server: u32,
    runtime: Rc<Runtime>,
    client: Client,
    operation: Operation,
    key: Key,
    value: Bytes,
}

impl Values {
    fn prepare(
        instance: &Instance,
        runtime: Rc<Runtime>,
        operation: Operation,
        value_bytes: usize,
    ) -> Result<Self> {
        let mut options = ClientOptions::default();
        options.maps = false;
        let client = Client::new(&instance.address.to_string(), options);
        let key = Key::new(format!("bench:bulk:{value_bytes}").into_bytes())?;
        let value = Bytes::from(vec![1; value_bytes]);
        runtime.block_on(client.put(&key, value.clone()))?;
        Ok(Self { server: instance.pid(), runtime, client, operation, key, value })
    }
}

impl Side for Values {
    fn server(&self) -> u32 {
        self.server
    }

    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work> {
        self.runtime.block_on(async {
            repeat(slice, latency, async || match self.operation {
                Operation::Get => {
                    let object = self.client.get(&self.key).await?;
                    ensure!(object.value.len() == self.value.len(), "a value of another length");
                    Ok(())
                }
                Operation::Set => {
                    self.client.put(&self.key, self.value.clone()).await?;
                    Ok(())
                }
            })
            .await
        })
    }
}

/// The bare socket copy.
struct Copy {
    server: u32,
    client: BareClient,
    operation: Operation,
    value_bytes: usize,
}

impl Side for Copy {
    fn server(&self) -> u32 {
        self.server
    }

    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work> {
        let began = Instant::now();
        let mut operations = 0;
        let mut now = began;
        while now - began < slice {
            match self.operation {
                Operation::Get => self.client.get(self.value_bytes)?,
                Operation::Set => self.client.put(self.value_bytes)?,
            }
            let end = Instant::now();
            latency.record(end - now);
            (now, operations) = (end, operations + 1);
        }
        Ok(Work { operations, elapsed: began.elapsed() })
    }
}

async fn repeat(
    slice: Duration,
    latency: &mut Latency,
    transfer: impl AsyncFn() -> Result<()>,
) -> Result<Work> {
    let began = Instant::now();
    let mut operations = 0;
    let mut now = began;
    while now - began < slice {
        transfer().await?;
        let end = Instant::now();
        latency.record(end - now);
        (now, operations) = (end, operations + 1);
    }
    Ok(Work { operations, elapsed: began.elapsed() })
}
