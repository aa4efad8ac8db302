//! Working through a set's splits: lease, read, map, write, commit.
//!
//! Owns the worker's side of exactly once. May not know what the coordinator decides by.
//! Invariant: a split is committed only after all of its batches are acknowledged by the store,
//! and batches depend only on (spec, set, record), never on the attempt.
//!
//! A thread of its own leases splits and reads their records ahead, while the body's thread maps;
//! puts go on behind both.

mod output;
mod reader;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use bytes::Bytes;
use cirrus_store::Client;
use cirrus_store::iter::EpochSeed;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use self::output::{ChannelOutput, NoOutput, SplitOutput};
use self::reader::{GROUPS_MAX, Read, Reader};
use crate::api::{Grant, Output, Refusal, RefusalKind};
use crate::context::Context;
use crate::counters::{RECORDS, Stopwatch};
use crate::error::{Error, Result};
use crate::sets::SetReader;
use crate::split::{SplitRange, SplitSpec};

/// The generator that augmentation draws from: ChaCha with 8 rounds, seeded from
/// (seed, epoch, record), so that every attempt at a record draws the same numbers.
pub type Rng = ChaCha8Rng;

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

/// What comes next for who works on whole splits.
#[derive(Debug, Clone)]
pub enum Turn {
    /// A split.
    Split(WholeSplit),
    /// There is none to work on now, and perhaps no more: others should not wait for this worker.
    Idle,
}

/// A split with all of its records.
#[derive(Debug, Clone)]
pub struct WholeSplit {
    /// Its number over all epochs.
    pub split: u64,
    /// What it is of its epoch.
    pub range: SplitRange,
    /// Its records, in the epoch's order.
    pub records: Vec<Record>,
}

/// The splits of a set, as far as this replica gets to lease them.
#[derive(Debug)]
pub struct Splits {
    context: Context,
    name: String,
    spec: SplitSpec,
    set: SetReader,
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

    /// Does something with every split that this replica leases, whole. Of each that is done
    /// `channel` gets one `()` for every record, so that its reader knows what is done. Returns when there is
    /// nothing more to lease, or when the task is cancelled: then what it holds is given back at once.
    ///
    /// What is done must be the same whoever does it, or be done over by whoever has the split next: one
    /// whose lease was lost is worked on again elsewhere.
    pub fn each_into(self, channel: &str, mut work: impl FnMut(Turn) -> Result<()>) -> Result<()> {
        let client = self.writes(channel)?;
        let batch = self.spec.batch as usize;
        let mut output = ChannelOutput::new(self.context.clone(), client, channel, batch);
        self.with_reader(|receiver| self.work_whole(receiver, &mut output, &mut work))
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
        let client = self.writes(channel)?;
        let batch = self.spec.batch as usize;
        let mut output = ChannelOutput::new(self.context.clone(), client, channel, batch);
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

    /// The store that a channel of this task lies in.
    fn writes(&self, channel: &str) -> Result<Client> {
        let spec = self.context.spec();
        let task = spec.tasks.iter().find(|task| task.name == self.context.task());
        if !task.is_some_and(|task| task.writes.iter().any(|name| name == channel)) {
            return Err(Error::input(format!(
                "task `{task}` writes `{channel}` without saying so; add .writes(\"{channel}\") \
                 to {task}::task()",
                task = self.context.task()
            )));
        }
        Ok(self.context.store()?.client().clone())
    }

    fn work<O: SplitOutput>(
        self,
        output: &mut O,
        mut map: impl FnMut(&mut O, Record, &mut Rng) -> Result<()>,
    ) -> Result<()> {
        self.with_reader(|receiver| self.map_all(receiver, output, &mut map))
    }

    /// Does something with what a thread of its own leases and reads.
    fn with_reader(&self, work: impl FnOnce(&Receiver<Read>) -> Result<()>) -> Result<()> {
        let (sender, receiver) = sync_channel(GROUPS_MAX);
        let ended = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            context: self.context.clone(),
            name: self.name.clone(),
            spec: self.spec.clone(),
            set: self.set.clone(),
            sender,
            ended: ended.clone(),
        };
        let reading = std::thread::Builder::new()
            .name("cirrus-reader".to_owned())
            .spawn(move || reader.run())
            .map_err(|error| Error::io("cannot start a thread", error))?;
        let worked = work(&receiver);
        // Splits that were leased ahead go back now; one that is just being handed over goes back
        // when this process ends.
        let ahead: Vec<Grant> = receiver.try_iter().filter_map(Read::grant).collect();
        drop(receiver);
        ended.store(true, Ordering::Relaxed);
        let given_back = ahead.iter().try_for_each(|grant| self.give_back(grant));
        if reading.join().is_err() {
            return Err(Error::internal("the reading thread panicked"));
        }
        worked.and(given_back)
    }

    fn work_whole(
        &self,
        receiver: &Receiver<Read>,
        output: &mut impl SplitOutput<Item = ()>,
        work: &mut impl FnMut(Turn) -> Result<()>,
    ) -> Result<()> {
        let counted = self.context.counter(RECORDS);
        let mut watch = Stopwatch::start(self.context.counters());
        let mut records = Vec::new();
        loop {
            let read = match receiver.try_recv() {
                Ok(read) => read,
                Err(TryRecvError::Empty) => {
                    if records.is_empty() {
                        work(Turn::Idle)?;
                    }
                    watch.was_busy();
                    let Ok(read) = receiver.recv() else { break };
                    watch.was_waiting();
                    read
                }
                Err(TryRecvError::Disconnected) => break,
            };
            if self.context.is_cancelled() {
                return output.abandon(self);
            }
            match read {
                Read::Begin(grant) => output.begin(grant),
                Read::Records(group) => records.extend(group),
                Read::End(grant) => {
                    let (split, range) = (grant.split, grant.range);
                    let count = records.len();
                    let records = std::mem::take(&mut records);
                    let whole = WholeSplit { split, range, records };
                    let done = work(Turn::Split(whole))
                        .and_then(|()| (0..count).try_for_each(|_| output.push(())))
                        .and_then(|()| output.end());
                    let outputs = match done {
                        Ok(outputs) => outputs,
                        Err(error) => {
                            output.abandon(self)?;
                            let name = &self.name;
                            return Err(error.context(format!("split {split} of set `{name}`")));
                        }
                    };
                    counted.add(count as u64);
                    self.commit(&grant, outputs, output)?;
                }
                Read::Failed(error) => {
                    output.abandon(self)?;
                    return Err(error);
                }
            }
        }
        work(Turn::Idle)
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
                    let outputs = match output.end() {
                        Ok(outputs) => outputs,
                        Err(error) => {
                            output.abandon(self)?;
                            return Err(error);
                        }
                    };
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
