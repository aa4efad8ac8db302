//! Records one by one, as an iterator hands them out, against the same bytes in bulk.
//!
//! One memory node over TCP, one client; every value is verified. A reader begins anew in each
//! slice, so that how it finds its pace is part of what is measured.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use cirrus_store::iter::{
    EpochSeed, Epochs, Order, Records, RecordsOptions, Sequential, Shuffled, Windowed,
};
use cirrus_store::set::{Manifest, Set, SetName, pack};
use cirrus_store::{Client, ClientOptions, Key};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::comparisons::{Bench, Cell, Family};
use crate::load::Latency;
use crate::ratio::Target;
use crate::row::{Number, Row, Subject};
use crate::servers::{Instance, Kind};
use crate::side::{Compared, Side, Work};

/// A set is this large, whatever its records.
pub(super) const SET_BYTES: usize = 64 << 20;

/// Objects of a window of the windowed shuffle.
const WINDOW_OBJECTS: u64 = 8;

/// Keys of one `get_many`.
const BATCH_KEYS: usize = 4096;

const TARGET: Target = Target::AtLeast(0.9);

pub(super) const FAMILY: Family = Family {
    name: "iterators",
    about: "records one by one against the same bytes in bulk",
    cells: || {
        let packed = Layout { record_bytes: 4 << 10, packing: 256 };
        let single = Layout { record_bytes: 4 << 10, packing: 1 };
        let large = Layout { record_bytes: 100_000, packing: 1 };
        let one = (Bulk::Gets(1), "gets of the same objects, one at a time");
        let four = (Bulk::Gets(4), "gets of the same objects, four at a time");
        let many = (Bulk::GetMany, "get_many of the same keys, 4,096 at a time");
        vec![
            cell("sequential/4KiB", packed, How::Sequential, one, Some(TARGET)),
            cell("sequential/4KiB/four", packed, How::Sequential, four, Some(TARGET)),
            cell("windowed/4KiB", packed, How::Windowed, one, Some(TARGET)),
            cell("windowed/4KiB/four", packed, How::Windowed, four, Some(TARGET)),
            cell("shuffled/4KiB", single, How::Shuffled, many, Some(TARGET)),
            cell("sequential/100KB", large, How::Sequential, four, None),
        ]
    },
};

/// How records lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) record_bytes: usize,
    pub(super) packing: u32,
}

/// In which order they are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Sequential,
    Windowed,
    Shuffled,
}

/// How the same bytes are got without an iterator.
#[derive(Debug, Clone, Copy)]
enum Bulk {
    /// Object by object, so many in flight.
    Gets(usize),
    GetMany,
}

fn cell(
    name: &str,
    layout: Layout,
    how: How,
    (bulk, peer): (Bulk, &'static str),
    target: Option<Target>,
) -> Cell {
    let name = format!("iterators/{name}");
    Cell {
        name: name.clone(),
        is_quick: target.is_some(),
        measure: Box::new(move |bench| measure(bench, &name, layout, how, (bulk, peer), target)),
    }
}

fn measure(
    bench: &mut Bench,
    name: &str,
    layout: Layout,
    how: How,
    (bulk, peer): (Bulk, &str),
    target: Option<Target>,
) -> Result<Vec<Row>> {
    let runtime = bench.runtime.clone();
    let filled = Rc::new(Filled::prepare(bench.servers.of(Kind::Cirrus)?, runtime, layout)?);
    let mut ours = Reader::new(filled.clone(), how);
    let mut theirs = Getter { order: filled.order(how), filled, bulk };
    let subject =
        Subject { name: name.to_owned(), peer: peer.to_owned(), value_bytes: layout.record_bytes };
    let compared = Compared::run(&mut ours, &mut theirs, bench.turns)?;
    Ok(vec![subject.row(&compared, Number::GigabytesPerSecond, target)])
}

/// A set that is there to be read.
pub(super) struct Filled {
    server: u32,
    runtime: Rc<Runtime>,
    client: Client,
    set: Set,
    layout: Layout,
}

impl Filled {
    pub(super) fn prepare(
        instance: &Instance,
        runtime: Rc<Runtime>,
        layout: Layout,
    ) -> Result<Self> {
        let mut options = ClientOptions::default();
        options.maps = false;
        let client = Client::new(&instance.address.to_string(), options);
        let Layout { record_bytes, packing } = layout;
        let count = (SET_BYTES / record_bytes) as u64;
        let manifest = Manifest::empty().with_packing(packing)?.with_count(count).sealed();
        let set = Set::new(SetName::new(&format!("bench-{record_bytes}-{packing}"))?, manifest);
        let record = vec![1; record_bytes];
        let value = match packing {
            1 => Bytes::from(record),
            _ => pack(&vec![record; packing as usize])?,
        };
        runtime.block_on(async {
            for object in 0..manifest.objects() {
                client.put(&set.name().object_key(object), value.clone()).await?;
            }
            Ok::<_, cirrus_store::Error>(())
        })?;
        Ok(Self { server: instance.pid(), runtime, client, set, layout })
    }

    /// More epochs than there is time for.
    fn order(&self, how: How) -> Arc<dyn Order> {
        let manifest = *self.set.manifest();
        let seed = |epoch| EpochSeed { seed: 1, epoch };
        Arc::new(Epochs::new(1 << 20, move |epoch| match how {
            How::Sequential => Arc::new(Sequential::new(manifest.count())),
            How::Windowed => Arc::new(Windowed::new(seed(epoch), &manifest, WINDOW_OBJECTS)),
            How::Shuffled => Arc::new(Shuffled::new(seed(epoch), manifest.count())),
        }))
    }
}

/// Takes records off an iterator.
pub(super) struct Reader {
    filled: Rc<Filled>,
    order: Arc<dyn Order>,
}

impl Reader {
    pub(super) fn new(filled: Rc<Filled>, how: How) -> Self {
        Self { order: filled.order(how), filled }
    }
}

impl Side for Reader {
    fn server(&self) -> u32 {
        self.filled.server
    }

    fn work(&mut self, slice: Duration, _latency: &mut Latency) -> Result<Work> {
        let Filled { runtime, client, set, layout, .. } = &*self.filled;
        runtime.block_on(async {
            let (source, order) = (Arc::new(client.clone()), self.order.clone());
            let options = RecordsOptions::default();
            let mut records = Records::new(source, set.clone(), order, 0..u64::MAX, options);
            let began = Instant::now();
            let mut operations = 0;
            // The clock is read about as often as by the other side.
            while began.elapsed() < slice {
                for _ in 0..256 {
                    let record = records.next().await.transpose()?;
                    let len = record.map_or(0, |record| record.bytes.len());
                    ensure!(len == layout.record_bytes, "a record of {len} bytes");
                }
                operations += 256;
            }
            Ok(Work { operations, elapsed: began.elapsed() })
        })
    }
}

/// Gets objects.
struct Getter {
    filled: Rc<Filled>,
    order: Arc<dyn Order>,
    bulk: Bulk,
}

impl Side for Getter {
    fn server(&self) -> u32 {
        self.filled.server
    }

    fn work(&mut self, slice: Duration, _latency: &mut Latency) -> Result<Work> {
        let filled = &*self.filled;
        filled.runtime.block_on(async {
            let began = Instant::now();
            let records = match self.bulk {
                Bulk::Gets(in_flight) => self.gets(began, slice, in_flight).await?,
                Bulk::GetMany => self.get_many(began, slice).await?,
            };
            Ok(Work { operations: records, elapsed: began.elapsed() })
        })
    }
}

impl Getter {
    async fn gets(&self, began: Instant, slice: Duration, in_flight: usize) -> Result<u64> {
        let Filled { client, set, layout, .. } = &*self.filled;
        let mut gets = JoinSet::new();
        let (mut objects, mut got) = ((0..set.manifest().objects()).cycle(), 0);
        loop {
            while gets.len() < in_flight && began.elapsed() < slice {
                let Some(object) = objects.next() else { break };
                let (client, key) = (client.clone(), set.name().object_key(object));
                gets.spawn(async move { client.get(&key).await });
            }
            let Some(object) = gets.join_next().await else { break };
            let len = object??.value.len();
            ensure!(len >= layout.record_bytes * layout.packing as usize, "{len} bytes");
            got += u64::from(layout.packing);
        }
        Ok(got)
    }

    async fn get_many(&self, began: Instant, slice: Duration) -> Result<u64> {
        let Filled { client, set, layout, .. } = &*self.filled;
        let (mut position, mut records) = (0, Vec::new());
        while began.elapsed() < slice {
            records.clear();
            self.order.run(position..position + BATCH_KEYS as u64, &mut records);
            position += BATCH_KEYS as u64;
            let key = |record: &u64| set.name().object_key(*record);
            let keys: Vec<Key> = records.iter().map(key).collect();
            for object in client.get_many(&keys).await {
                let len = object?.value.len();
                ensure!(len == layout.record_bytes, "a value of {len} bytes");
            }
        }
        Ok(position)
    }
}
