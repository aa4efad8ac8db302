//! Large values over TCP with Cirrus's client against a bare socket copy of as many bytes.
//!
//! One transfer at a time. Gets are done twice: verified, where the client checks each block's
//! checksum as it does by default, and unverified, which is what the way itself costs.

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
use crate::servers::{BareClient, Instance, Kind};
use crate::side::{Compared, Side, Turns, Work};

const VALUE_BYTES: [usize; 3] = [1 << 20, 16 << 20, 64 << 20];

/// Of the largest value, a slice should hold several transfers.
const SLICE_MIN: Duration = Duration::from_millis(150);

pub(super) const FAMILY: Family = Family {
    name: "bulk",
    about: "gets (verified, unverified) and puts of large values against a bare socket copy",
    cells: || {
        let mut cells = Vec::new();
        for value_bytes in VALUE_BYTES {
            for transfer in Transfer::ALL {
                let name = transfer.cell_name(value_bytes);
                let subject_name = name.clone();
                cells.push(Cell {
                    name,
                    is_quick: true,
                    measure: Box::new(move |bench| {
                        measure(bench, &subject_name, transfer, value_bytes)
                    }),
                });
            }
        }
        cells
    },
};

/// What is done with the large value.
#[derive(Debug, Clone, Copy)]
enum Transfer {
    Get { verified: bool },
    Set,
}

impl Transfer {
    const ALL: [Self; 3] = [Self::Get { verified: true }, Self::Get { verified: false }, Self::Set];

    fn cell_name(self, value_bytes: usize) -> String {
        let size = size_name(value_bytes);
        match self {
            Self::Get { verified: true } => format!("bulk/get/{size}/verified"),
            Self::Get { verified: false } => format!("bulk/get/{size}/unverified"),
            Self::Set => format!("bulk/set/{size}"),
        }
    }

    fn target(self) -> Option<Target> {
        match self {
            Self::Get { verified: true } => Some(Target::AtLeast(0.90)),
            Self::Get { verified: false } => Some(Target::AtLeast(0.95)),
            Self::Set => None,
        }
    }
}

fn measure(
    bench: &mut Bench,
    name: &str,
    transfer: Transfer,
    value_bytes: usize,
) -> Result<Vec<Row>> {
    let runtime = bench.runtime.clone();
    let mut ours =
        Values::prepare(bench.servers.of(Kind::Cirrus)?, runtime, transfer, value_bytes)?;
    let bare = bench.servers.of(Kind::Bare)?;
    let client = BareClient::connect(bare.address)?;
    let mut theirs = Copy { server: bare.pid(), client, transfer, value_bytes };
    let subject = Subject { name: name.to_owned(), peer: bare.version.clone(), value_bytes };
    let turns = Turns { slice: bench.turns.slice.max(SLICE_MIN), ..bench.turns };
    let compared = Compared::run(&mut ours, &mut theirs, turns)?;
    Ok(vec![subject.row(&compared, Number::GigabytesPerSecond, transfer.target())])
}

/// Cirrus's client and one large object.
struct Values {
    server: u32,
    runtime: Rc<Runtime>,
    client: Client,
    transfer: Transfer,
    key: Key,
    value: Bytes,
}

impl Values {
    fn prepare(
        instance: &Instance,
        runtime: Rc<Runtime>,
        transfer: Transfer,
        value_bytes: usize,
    ) -> Result<Self> {
        let mut options = ClientOptions::default();
        options.maps = false;
        options.verifies = !matches!(transfer, Transfer::Get { verified: false });
        let client = Client::new(&instance.address.to_string(), options);
        let key = Key::new(format!("bench:bulk:{value_bytes}").into_bytes())?;
        let value = Bytes::from(vec![1; value_bytes]);
        runtime.block_on(client.put(&key, value.clone()))?;
        Ok(Self { server: instance.pid(), runtime, client, transfer, key, value })
    }
}

impl Side for Values {
    fn server(&self) -> u32 {
        self.server
    }

    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work> {
        self.runtime.block_on(async {
            repeat(slice, latency, async || match self.transfer {
                Transfer::Get { .. } => {
                    let object = self.client.get(&self.key).await?;
                    ensure!(object.value.len() == self.value.len(), "a value of another length");
                    Ok(())
                }
                Transfer::Set => {
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
    transfer: Transfer,
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
            match self.transfer {
                Transfer::Get { .. } => self.client.get(self.value_bytes)?,
                Transfer::Set => self.client.put(self.value_bytes)?,
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
