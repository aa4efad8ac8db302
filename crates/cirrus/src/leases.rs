//! Working through a set's splits: lease, read, map, write, commit.
//!
//! Owns the worker's side of exactly once. May not know what the coordinator decides by.
//! Invariant: a split is committed only after all of its batches are acknowledged by the store,
//! and batches depend only on (spec, set, record), never on the attempt.
//!
//! A thread of its own leases splits and reads their records ahead, while the body's thread maps;
//! puts go on behind both.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use cirrus_store::iter::{EpochSeed, Order, Records, RecordsOptions, Sequential, Shuffled};
use cirrus_store::{Client, Key};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::api::{Grant, LeaseAnswer, Output, Refusal, RefusalKind};
use crate::context::Context;
use crate::coordinator::keys::{attempt_prefix, batch_key};
use crate::counters::{BATCHES, BYTES, RECORDS, Stopwatch};
use crate::error::{Error, Result};
use crate::sets::SetReader;
use crate::split::{OrderSpec, SplitSpec};

/// The generator that augmentation draws from: ChaCha with 8 rounds, seeded from
/// (seed, epoch, record), so that every attempt at a record draws the same numbers.
pub type Rng = ChaCha8Rng;

/// Records that cross to the body's thread together, and such groups that may wait there.
const GROUP_RECORDS: usize = 32;
const GROUPS_MAX: usize = 4;
/// Bytes of batches that may be on their way to the store.
const PUT_BYTES_MAX: usize = 32 << 20;

/// One record of a split.
#[derive(Debug, Clone)]
pub struct Record {
    /// The epoch, from 0.
    pub epoch: u32,
    /// Its place in the epoch's order.
    pub position: u64,
    /// Its index in the set.
    pub index: u64,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The splits of a set, as far as this replica gets to lease them.
#[derive(Debug)]
pub struct Splits {
    context: Context,
    name: String,
    spec: SplitSpec,
    set: SetReader,
}

/// What the reading thread hands over.
enum Read {
    Begin(Grant),
    Records(Vec<Record>),
    End(Grant),
    Failed(Error),
}

impl Splits {
    pub(crate) fn new(context: Context, name: &str) -> Result<Self> {
        let spec = context.spec().feeds.get(name).cloned().unwrap_or_default();
        let set = SetReader::open(context.clone(), name)?;
        Ok(Self { context, name: name.to_owned(), spec, set })
    }

    /// How the set is cut.
    pub fn spec(&self) -> &SplitSpec {
        &self.spec
    }

    /// Maps every record that this replica leases and writes the results to `channel`, batch by
    /// batch. Returns when there is nothing more to lease, or when the task is cancelled: then
    /// what it holds is given back at once.
    ///
    /// The closure's result must depend only on the record and on what it draws from the
    /// generator: a split may be mapped again elsewhere, and must come out the same. Its error
    /// ends the task, and names the record.
    pub fn map_into<T: Serialize>(
        self,
        channel: &str,
        mut map: impl FnMut(Record, &mut Rng) -> Result<T>,
    ) -> Result<()> {
        let spec = self.context.spec();
        let task = spec.tasks.iter().find(|task| task.name == self.context.task());
        if !task.is_some_and(|task| task.writes.iter().any(|name| name == channel)) {
            return Err(Error::input(format!(
                "task `{task}` writes `{channel}` without saying so; add .writes(\"{channel}\") \
                 to {task}::task()",
                task = self.context.task()
            )));
        }
        let client = self.context.store()?.client().clone();
        let mut output = ChannelOutput {
            batch: self.spec.batch as usize,
            channel: channel.to_owned(),
            client,
            items: Vec::new(),
            split: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            context: self.context.clone(),
        };
        self.work(&mut output, |output, record, rng| {
            let item = map(record, rng)?;
            output.push(item)
        })
    }

    /// Does something for every record that this replica leases; each split counts as done when
    /// all of its records were passed to the closure. Without a channel there is no rollback: a
    /// record may be seen again after a failure.
    pub fn for_each(self, mut each: impl FnMut(Record, &mut Rng) -> Result<()>) -> Result<()> {
        self.work(&mut NoOutput::default(), |_, record, rng| each(record, rng))
    }

    fn work<O: SplitOutput>(
        self,
        output: &mut O,
        mut map: impl FnMut(&mut O, Record, &mut Rng) -> Result<()>,
    ) -> Result<()> {
        let (sender, receiver) = sync_channel(GROUPS_MAX);
        let reader = Reader {
            context: self.context.clone(),
            name: self.name.clone(),
            spec: self.spec.clone(),
            set: self.set.clone(),
            sender,
        };
        let reading = std::thread::Builder::new()
            .name("cirrus-reader".to_owned())
            .spawn(move || reader.run())
            .map_err(|error| Error::io("cannot start a thread", error))?;
        let worked = self.map_all(&receiver, output, &mut map);
        // Splits that were leased ahead go back now; one that is just being handed over goes back
        // when this process ends.
        let ahead: Vec<Grant> = receiver.try_iter().filter_map(Read::grant).collect();
        drop(receiver);
        let given_back = ahead.iter().try_for_each(|grant| self.give_back(grant));
        if reading.join().is_err() {
            return Err(Error::internal("the reading thread panicked"));
        }
        worked.and(given_back)
    }

    fn map_all<O: SplitOutput>(
        &self,
        receiver: &Receiver<Read>,
        output: &mut O,
        map: &mut impl FnMut(&mut O, Record, &mut Rng) -> Result<()>,
    ) -> Result<()> {
        let records = self.context.counter(RECORDS);
        let mut watch = Stopwatch::start(self.context.counters());
        let mut first = true;
        while let Ok(read) = receiver.recv() {
            // The time before the first split says nothing about this stage.
            if std::mem::take(&mut first) {
                let _before_the_first = watch.lap();
            } else {
                watch.was_waiting();
            }
            match read {
                Read::Begin(grant) => output.begin(grant),
                Read::Records(group) => {
                    for record in group {
                        if self.context.is_cancelled() {
                            return output.abandon(self);
                        }
                        let (epoch, index) = (record.epoch, record.index);
                        let seed = EpochSeed { seed: self.spec.seed, epoch: u64::from(epoch) };
                        let mut rng = Rng::from_seed(seed.record_rng_seed(index));
                        if let Err(error) = map(output, record, &mut rng) {
                            output.abandon(self)?;
                            let name = &self.name;
                            return Err(error.context(format!("record {index} of set `{name}`")));
                        }
                        records.add(1);
                    }
                    watch.was_busy();
                }
                Read::End(grant) => {
                    let outputs = output.end()?;
                    self.commit(&grant, outputs, output)?;
                    watch.was_waiting();
                }
                Read::Failed(error) => {
                    output.abandon(self)?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn commit(
        &self,
        grant: &Grant,
        outputs: Vec<Output>,
        output: &mut impl SplitOutput,
    ) -> Result<()> {
        let (member, control) = (self.context.member(), self.context.control());
        match control.commit(member, &self.name, grant, outputs) {
            Ok(()) => Ok(()),
            // Another attempt has the split now; what this one wrote is nobody's.
            Err(error) if is_stale_attempt(&error) => output.discard(grant),
            Err(error) => Err(error.context(format!("split {} of `{}`", grant.split, self.name))),
        }
    }

    fn give_back(&self, grant: &Grant) -> Result<()> {
        let (member, control) = (self.context.member(), self.context.control());
        match control.give_back(member, &self.name, grant) {
            Ok(()) => Ok(()),
            Err(error) if is_stale_attempt(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_stale_attempt(error: &Error) -> bool {
    Refusal::of(error).is_some_and(|refusal| refusal.kind == RefusalKind::StaleAttempt)
}

impl Read {
    /// The split that begins here.
    fn grant(self) -> Option<Grant> {
        match self {
            Self::Begin(grant) => Some(grant),
            Self::Records(_) | Self::End(_) | Self::Failed(_) => None,
        }
    }
}

/// Where the results of a split go.
trait SplitOutput {
    fn begin(&mut self, grant: Grant);
    /// All results of the split are stored.
    fn end(&mut self) -> Result<Vec<Output>>;
    /// Removes what an attempt wrote that is not the split's any more.
    fn discard(&mut self, grant: &Grant) -> Result<()>;
    /// Stops in the middle of a split and gives it back.
    fn abandon(&mut self, splits: &Splits) -> Result<()>;
}

#[derive(Default)]
struct NoOutput {
    grant: Option<Grant>,
}

impl SplitOutput for NoOutput {
    fn begin(&mut self, grant: Grant) {
        self.grant = Some(grant);
    }

    fn end(&mut self) -> Result<Vec<Output>> {
        self.grant = None;
        Ok(Vec::new())
    }

    fn discard(&mut self, _: &Grant) -> Result<()> {
        Ok(())
    }

    fn abandon(&mut self, splits: &Splits) -> Result<()> {
        self.grant.take().map_or(Ok(()), |grant| splits.give_back(&grant))
    }
}

/// Batches of one channel.
struct ChannelOutput<T> {
    context: Context,
    client: Client,
    channel: String,
    /// Records in a batch.
    batch: usize,
    items: Vec<T>,
    split: Option<SplitBatches>,
    in_flight: VecDeque<(usize, JoinHandle<cirrus_store::Result<()>>)>,
    in_flight_bytes: usize,
}

/// What an attempt has written so far.
struct SplitBatches {
    grant: Grant,
    batches: u32,
    bytes: u64,
    checksum: u32,
}

impl<T: Serialize> ChannelOutput<T> {
    fn push(&mut self, item: T) -> Result<()> {
        self.items.push(item);
        if self.items.len() >= self.batch { self.write_batch() } else { Ok(()) }
    }

    fn write_batch(&mut self) -> Result<()> {
        let Some(split) = &mut self.split else { return Ok(()) };
        let bytes = postcard::to_stdvec(&self.items).map_err(|error| {
            Error::input(format!("a batch of channel `{}` cannot be written", self.channel))
                .with_source(error)
        })?;
        self.items.clear();
        let key = batch_key(&self.channel, split.grant.split, split.grant.attempt, split.batches);
        let len = bytes.len();
        split.batches += 1;
        split.bytes += len as u64;
        split.checksum = cirrus_store::checksum_of(split.checksum, &bytes);
        self.context.counter(BATCHES).add(1);
        self.context.counter(BYTES).add(len as u64);
        while self.in_flight_bytes > 0 && self.in_flight_bytes + len > PUT_BYTES_MAX {
            self.land_one()?;
        }
        let (client, key) = (self.client.clone(), Key::try_from(key)?);
        let put = async move { client.put(&key, bytes).await.map(|_| ()) };
        self.in_flight.push_back((len, self.context.runtime().spawn(put)));
        self.in_flight_bytes += len;
        Ok(())
    }

    fn land_one(&mut self) -> Result<()> {
        let Some((len, put)) = self.in_flight.pop_front() else { return Ok(()) };
        self.in_flight_bytes -= len;
        let landed = self.context.wait(async move {
            put.await
                .map_err(|error| Error::internal("a put was cut off").with_source(error))?
                .map_err(Error::from)
        });
        landed.map_err(|error| error.context(format!("writing channel `{}`", self.channel)))
    }

    fn land_all(&mut self) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.land_one()?;
        }
        Ok(())
    }
}

impl<T: Serialize> SplitOutput for ChannelOutput<T> {
    fn begin(&mut self, grant: Grant) {
        self.split = Some(SplitBatches { grant, batches: 0, bytes: 0, checksum: 0 });
    }

    fn end(&mut self) -> Result<Vec<Output>> {
        if !self.items.is_empty() {
            self.write_batch()?;
        }
        self.land_all()?;
        let channel = self.channel.clone();
        Ok(self
            .split
            .take()
            .map(|SplitBatches { batches, bytes, checksum, .. }| Output {
                channel,
                batches,
                bytes,
                checksum,
            })
            .into_iter()
            .collect())
    }

    fn discard(&mut self, grant: &Grant) -> Result<()> {
        let prefix = attempt_prefix(&self.channel, grant.split, grant.attempt);
        let client = self.client.clone();
        self.context.wait(async move { delete_prefix(&client, &prefix).await })
    }

    fn abandon(&mut self, splits: &Splits) -> Result<()> {
        self.items.clear();
        // Whether these puts still succeed does not matter: the coordinator has them removed.
        while let Some((_, put)) = self.in_flight.pop_front() {
            put.abort();
        }
        self.in_flight_bytes = 0;
        match self.split.take() {
            Some(split) => splits.give_back(&split.grant),
            None => Ok(()),
        }
    }
}

/// Removes every object whose key begins with `prefix`; what is gone already is fine.
pub(crate) async fn delete_prefix(client: &Client, prefix: &str) -> cirrus_store::Result<()> {
    let names = client.list(prefix.as_bytes()).await?;
    let keys: Vec<Key> = names.into_iter().map(|name| name.key).collect();
    for deleted in client.delete_many(&keys).await {
        match deleted {
            Ok(()) => {}
            Err(error) if error.kind() == cirrus_store::Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The thread that leases and reads ahead.
struct Reader {
    context: Context,
    name: String,
    spec: SplitSpec,
    set: SetReader,
    sender: SyncSender<Read>,
}

impl Reader {
    fn run(self) {
        if let Err(error) = self.read_all() {
            // Nobody listens when the body has ended; then its own error says why.
            let _ = self.sender.send(Read::Failed(error));
        }
    }

    fn read_all(&self) -> Result<()> {
        let (member, control) = (self.context.member(), self.context.control());
        let mut request = control.request();
        while !self.context.is_cancelled() {
            match control.lease(member, &self.name, request)? {
                LeaseAnswer::Wait => {}
                LeaseAnswer::Ended => return Ok(()),
                LeaseAnswer::Granted(grant) => {
                    request = control.request();
                    if self.read_split(grant)?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn read_split(&self, grant: Grant) -> Result<ControlFlow<()>> {
        if self.sender.send(Read::Begin(grant)).is_err() {
            return Ok(ControlFlow::Break(()));
        }
        let range = grant.range;
        let seed = EpochSeed { seed: self.spec.seed, epoch: u64::from(range.epoch) };
        let order: Arc<dyn Order> = match self.spec.order {
            OrderSpec::Sequential => Arc::new(Sequential::new(self.set.len())),
            OrderSpec::Shuffled => Arc::new(Shuffled::new(seed, self.set.len())),
        };
        let positions = range.first_position..range.first_position + range.records;
        let (client, set) = (self.set.client().clone(), self.set.set().clone());
        let mut records = Records::new(client, set, order, positions, RecordsOptions::default());
        let runtime = self.context.runtime();
        loop {
            let group = runtime.block_on(async {
                let mut group = Vec::with_capacity(GROUP_RECORDS);
                while group.len() < GROUP_RECORDS {
                    let Some(record) = records.next().await.transpose()? else { break };
                    group.push(Record {
                        epoch: range.epoch,
                        position: record.position,
                        index: record.index,
                        bytes: record.bytes,
                    });
                }
                Ok::<_, cirrus_store::Error>(group)
            })?;
            if group.is_empty() {
                break;
            }
            if self.sender.send(Read::Records(group)).is_err() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(match self.sender.send(Read::End(grant)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    }
}
