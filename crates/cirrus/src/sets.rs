//! Writing a set, and reading all of it in order.
//!
//! Owns [`SetWriter`] and [`SetReader`]. May not know splits. Invariant: a set is sealed only after
//! every one of its records is acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cirrus_store::iter::{Records, RecordsOptions, Sequential, open_set};
use cirrus_store::set::{Manifest, Set, SetName, pack};
use cirrus_store::{Client, Key};
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::counters::{BYTES_OUT, Counter, RECORDS, Stopwatch};
use crate::error::{Error, Result};
use crate::near::Near;

/// Bytes that are sent together.
const CHUNK_BYTES: usize = 1 << 20;
/// Records that are sent together.
const CHUNK_RECORDS: usize = 512;
/// Chunks in flight.
const CHUNKS_MAX: usize = 4;

/// Writes a set, record after record. Dropped without [`SetWriter::seal`], it leaves no set.
#[derive(Debug)]
pub struct SetWriter {
    context: Context,
    client: Client,
    name: SetName,
    /// How many records lie in an object.
    packing: usize,
    /// Records of an object that is not full yet.
    unpacked: Vec<Bytes>,
    count: u64,
    objects: u64,
    chunk: Vec<(Key, Bytes)>,
    chunk_bytes: usize,
    in_flight: VecDeque<JoinHandle<Result<()>>>,
    records: Counter,
    bytes: Counter,
    watch: Stopwatch,
}

impl SetWriter {
    pub(crate) fn new(context: Context, name: &str) -> Result<Self> {
        Ok(Self {
            client: context.store()?.client().clone(),
            name: SetName::new(name)?,
            packing: 1,
            unpacked: Vec::new(),
            count: 0,
            objects: 0,
            chunk: Vec::new(),
            chunk_bytes: 0,
            in_flight: VecDeque::new(),
            records: context.counter(RECORDS),
            bytes: context.counter(BYTES_OUT),
            watch: Stopwatch::start(context.counters()),
            context,
        })
    }

    /// Puts so many records into one object, beginning with the next one. Small records are read faster
    /// so where they are read in their order; every read of one fetches its whole object. Kind
    /// `Input` for 0, and once a record was written.
    pub fn packing(mut self, records: u32) -> Result<Self> {
        if records == 0 || self.count > 0 {
            return Err(Error::input(format!(
                "{records} records to an object of set `{}` after {} were written; say how many, \
                 at least 1, before the first",
                self.name.as_str(),
                self.count
            )));
        }
        self.packing = usize::try_from(records).unwrap_or(usize::MAX);
        Ok(self)
    }

    /// Appends a record. Returns when it is on its way; a failure shows at a later call, at the
    /// latest in [`SetWriter::seal`].
    pub fn push(&mut self, record: impl Into<Bytes>) -> Result<()> {
        let record = record.into();
        self.bytes.add(record.len() as u64);
        self.count += 1;
        self.records.add(1);
        if self.packing == 1 {
            return self.push_object(record);
        }
        self.unpacked.push(record);
        if self.unpacked.len() < self.packing { Ok(()) } else { self.push_packed() }
    }

    fn push_packed(&mut self) -> Result<()> {
        let packed = pack(&self.unpacked)?;
        self.unpacked.clear();
        self.push_object(packed)
    }

    fn push_object(&mut self, object: Bytes) -> Result<()> {
        self.chunk_bytes += object.len();
        self.chunk.push((self.name.object_key(self.objects), object));
        self.objects += 1;
        if self.chunk_bytes >= CHUNK_BYTES || self.chunk.len() >= CHUNK_RECORDS {
            self.send()?;
        }
        Ok(())
    }

    /// Waits until every record is stored, makes the set readable, and returns its length.
    pub fn seal(mut self) -> Result<u64> {
        if !self.unpacked.is_empty() {
            self.push_packed()?;
        }
        self.send()?;
        while let Some(chunk) = self.in_flight.pop_front() {
            self.land(chunk)?;
        }
        let packing = u32::try_from(self.packing).unwrap_or(u32::MAX);
        let manifest = Manifest::empty().with_count(self.count).with_packing(packing)?;
        let manifest = manifest.sealed().to_bytes();
        let (client, key) = (self.client.clone(), self.name.manifest_key());
        self.context.wait(async move { client.put(&key, manifest).await })?;
        self.context.control().seal_set(self.name.as_str(), self.count)?;
        self.watch.was_busy();
        Ok(self.count)
    }

    fn send(&mut self) -> Result<()> {
        self.watch.was_busy();
        while self.in_flight.len() >= CHUNKS_MAX {
            if let Some(chunk) = self.in_flight.pop_front() {
                self.land(chunk)?;
            }
        }
        self.watch.was_waiting();
        let (client, chunk) = (self.client.clone(), std::mem::take(&mut self.chunk));
        self.chunk_bytes = 0;
        let sending = async move {
            for stored in client.put_many(chunk).await {
                stored?;
            }
            Ok(())
        };
        self.in_flight.push_back(self.context.runtime().spawn(sending));
        Ok(())
    }

    fn land(&self, chunk: JoinHandle<Result<()>>) -> Result<()> {
        let landed = self.context.wait(async move {
            chunk.await.map_err(|error| Error::internal("a put was cut off").with_source(error))?
        });
        landed.map_err(|error| error.context(format!("writing set `{}`", self.name.as_str())))
    }
}

/// A sealed set.
#[derive(Debug, Clone)]
pub struct SetReader {
    context: Context,
    pool: Arc<Near>,
    set: Set,
}

impl SetReader {
    pub(crate) fn open(context: Context, name: &str) -> Result<Self> {
        sealed_count(&context, name)?;
        let pool = Arc::new(context.near()?);
        let (source, name) = (pool.clone(), SetName::new(name)?);
        let set = context.wait(async move { open_set(&source, name).await })?;
        Ok(Self { context, pool, set })
    }

    /// How many records it has.
    pub fn len(&self) -> u64 {
        self.set.manifest().count()
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn set(&self) -> &Set {
        &self.set
    }

    pub(crate) fn pool(&self) -> &Arc<Near> {
        &self.pool
    }

    /// Every record in turn, read ahead.
    pub fn records(&self) -> impl Iterator<Item = Result<Bytes>> + use<> {
        let order = Arc::new(Sequential::new(self.len()));
        let (pool, set) = (self.pool.clone(), self.set.clone());
        let records = Records::new(pool, set, order, 0..self.len(), RecordsOptions::default());
        SetRecords { context: self.context.clone(), records: Some(records), here: VecDeque::new() }
    }
}

/// Records that cross from the runtime to the body's thread together.
const HANDOVER_RECORDS: usize = 64;

struct SetRecords {
    context: Context,
    records: Option<Records<Near>>,
    here: VecDeque<Bytes>,
}

impl Iterator for SetRecords {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        if let Some(record) = self.here.pop_front() {
            return Some(Ok(record));
        }
        let mut records = self.records.take()?;
        let fetched = self.context.wait(async move {
            let mut here = VecDeque::new();
            while here.len() < HANDOVER_RECORDS {
                match records.next().await.transpose()? {
                    Some(record) => here.push_back(record.bytes),
                    None => return Ok((here, None)),
                }
            }
            Ok::<_, cirrus_store::Error>((here, Some(records)))
        });
        match fetched {
            Ok((here, records)) => {
                (self.here, self.records) = (here, records);
                self.here.pop_front().map(Ok)
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Waits until a set is sealed; its number of records.
pub(crate) fn sealed_count(context: &Context, name: &str) -> Result<u64> {
    loop {
        if let Some(count) = context.control().set(name, true)?.count {
            return Ok(count);
        }
        if context.is_cancelled() {
            return Err(Error::new(crate::Kind::Cancelled, format!("waiting for set `{name}`")));
        }
    }
}
