//! Reading a channel: committed batches in their order, checkpoints, and going on after a restart.
//!
//! Owns the consumer's side of exactly once. May not know who wrote the batches. Invariant: a batch
//! is handed out once per generation, and only from an accepted attempt; in order, unless the
//! channel is declared to be without.
//!
//! A thread of its own asks for splits, gets their batches many at a time, compares their checksum
//! with what was committed, and decodes them, up to a bound in bytes ahead of the body.

mod ahead;
mod files;
mod reader;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cirrus_store::{Client, Key};
use serde::de::DeserializeOwned;

use self::ahead::{Ahead, Taken};
use self::files::CheckpointFiles;
use self::reader::ChannelReader;
use crate::api::{CheckpointRecord, Generation};
use crate::context::Context;
use crate::coordinator::keys::checkpoint_key;
use crate::counters::{BATCHES, FIRST_US, RECORDS, Stopwatch};
use crate::covered::Covered;
use crate::error::{Error, Kind, Result};
use crate::sets::sealed_count;
use crate::split::SplitPlan;

/// A checkpoint is due after this long, however little was read since the last.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);

/// One batch, as the writers' closure made its items.
#[derive(Debug, Clone)]
pub struct Batch<T> {
    /// The epoch, from 0.
    pub epoch: u32,
    /// Its number within the epoch.
    pub index: u64,
    /// Its number over all epochs.
    pub number: u64,
    /// The position of its first item in the epoch's order.
    pub first_position: u64,
    /// One for each record, in the epoch's order.
    pub items: Vec<T>,
}

/// What there is of a channel within a time.
#[derive(Debug, Clone)]
pub enum Polled<T> {
    /// The next batch.
    Batch(Batch<T>),
    /// Not yet.
    Nothing,
    /// There are no more.
    End,
}

/// How often a consumer that waits looks whether it should end.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The batches of a channel, in their order unless it is unordered; one consumer at a time.
///
/// What was handed out since the last checkpoint is handed out again after a failure. A consumer
/// therefore checkpoints its state ([`Batches::checkpoint_when_due`]); one that keeps no state
/// says so ([`Batches::at_least_once`]).
#[derive(Debug)]
pub struct Batches<T> {
    context: Context,
    client: Client,
    channel: String,
    generation: Generation,
    restored: Option<Bytes>,
    files: CheckpointFiles,
    /// The last checkpoint that the coordinator knows of.
    recorded: Option<CheckpointRecord>,
    plan: SplitPlan,
    /// Splits that workers may be ahead of the cursor.
    window: u64,
    ahead: Arc<Ahead<T>>,
    reader: Option<std::thread::JoinHandle<()>>,
    /// What was handed out.
    covered: Covered,
    /// How many of them the last checkpoint holds.
    saved: u64,
    due: bool,
    last_checkpoint: Instant,
    automatic: bool,
    watch: Stopwatch,
    started: bool,
}

impl<T: DeserializeOwned + Send + 'static> Batches<T> {
    pub(crate) fn open(context: Context, channel: &str, afresh: bool) -> Result<Self> {
        let spec = context.spec();
        let set = spec.channel_feed(channel)?.to_owned();
        let feed = spec.feeds.get(&set).cloned().unwrap_or_default();
        let watch = Stopwatch::start(context.counters());
        let plan = SplitPlan::new(&feed, sealed_count(&context, &set)?)?;
        let client = context.store()?.client().clone();
        let control = context.control();
        let opened = control.open_consumer(context.member(), channel, control.request(), afresh)?;
        let covered = match opened.checkpoint.as_ref().map(CheckpointRecord::covered) {
            None => Covered::default(),
            Some(covered) => covered.ok_or_else(|| Error::internal("a checkpoint's runs"))?,
        };
        let files = CheckpointFiles::open(context.dir(), channel)?;
        let restored = opened.checkpoint.as_ref();
        let restored = restored.map(|record| restore(&context, &client, &files, record));
        let ahead = Arc::new(Ahead::default());
        let reader = ChannelReader {
            context: context.clone(),
            client: client.clone(),
            channel: channel.to_owned(),
            generation: opened.generation,
            plan: plan.clone(),
            ahead: ahead.clone(),
        };
        let read = covered.clone();
        let reader = std::thread::Builder::new()
            .name("cirrus-reader".to_owned())
            .spawn(move || reader.run(read))
            .map_err(|error| Error::io("cannot start a thread", error))?;
        Ok(Self {
            client,
            channel: channel.to_owned(),
            generation: opened.generation,
            restored: restored.transpose()?,
            files,
            recorded: opened.checkpoint,
            plan,
            window: u64::from(feed.window),
            ahead,
            reader: Some(reader),
            saved: covered.count(),
            covered,
            due: false,
            last_checkpoint: Instant::now(),
            automatic: false,
            watch,
            started: false,
            context,
        })
    }

    /// The state of the last checkpoint; `None` when there is none and the channel starts at its
    /// beginning.
    pub fn restored(&self) -> Option<&Bytes> {
        self.restored.as_ref()
    }

    /// How many batches the channel carries, over all epochs.
    pub fn total(&self) -> u64 {
        self.plan.batches()
    }

    /// How many batches were handed out, over all epochs; in order, the number of the one that
    /// comes next.
    pub fn position(&self) -> u64 {
        self.covered.count()
    }

    /// No state is kept: what was handed out counts as done when the next batch is asked for.
    /// After a failure a batch may be handed out again.
    #[must_use]
    pub fn at_least_once(mut self) -> Self {
        self.automatic = true;
        self
    }

    /// The next batch; `None` after the last. Kind `Cancelled` when the task is being stopped,
    /// kind `Input` when the channel is full of batches that no checkpoint covers, kind `Task` when
    /// decoding a batch panicked. Where reading failed, every later call fails too.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot checkpoint meanwhile")]
    pub fn next(&mut self) -> Result<Option<Batch<T>>> {
        loop {
            match self.next_until(None)? {
                Polled::Batch(batch) => return Ok(Some(batch)),
                Polled::End => return Ok(None),
                Polled::Nothing => {}
            }
        }
    }

    fn next_until(&mut self, ended: Option<Instant>) -> Result<Polled<T>> {
        if self.started {
            self.watch.was_busy();
        }
        if self.automatic && self.is_due() {
            self.checkpoint(Bytes::new())?;
        }
        let taken = self.take(ended);
        if self.started {
            self.watch.was_waiting();
        } else if !matches!(taken, Ok(Taken::Nothing)) {
            self.started = true;
            self.context.counter(FIRST_US).add_time(self.watch.lap());
        }
        let (batch, due) = match taken? {
            Taken::Batch(batch, due) => (batch, due),
            Taken::End => {
                if self.automatic && self.has_unsaved() {
                    self.checkpoint(Bytes::new())?;
                }
                return Ok(Polled::End);
            }
            Taken::Failed(_) | Taken::WindowFull | Taken::Nothing => return Ok(Polled::Nothing),
        };
        self.due |= due;
        self.covered.add(batch.number..batch.number + 1);
        self.context.counter(BATCHES).add(1);
        self.context.counter(RECORDS).add(batch.items.len() as u64);
        Ok(Polled::Batch(batch))
    }

    /// The same without waiting for longer than `patience`.
    pub fn next_within(&mut self, patience: Duration) -> Result<Polled<T>> {
        let ended = Instant::now() + patience;
        self.next_until(Some(ended))
    }

    /// Whether it is time for a checkpoint: after half of the window or of the channel's bytes,
    /// and at least every 30 s.
    pub fn is_due(&self) -> bool {
        self.has_unsaved()
            && (self.due
                || self.plan.is_half_a_window(self.saved, self.position(), self.window)
                || self.last_checkpoint.elapsed() > CHECKPOINT_INTERVAL)
    }

    /// [`Batches::checkpoint`] if it is time for one.
    pub fn checkpoint_when_due(&mut self, state: impl FnOnce() -> Result<Bytes>) -> Result<()> {
        if self.is_due() { self.checkpoint(state()?) } else { Ok(()) }
    }

    /// Stores the consumer's state, which covers every batch that was handed out, in memory and in
    /// the run's folder. From then on they are never handed out again, and [`Batches::restored`]
    /// returns this state after a restart, or when the run is resumed. The state is at most 1 GiB. Does nothing when the last checkpoint covers every
    /// batch already.
    pub fn checkpoint(&mut self, state: impl Into<Bytes>) -> Result<()> {
        let state: Bytes = state.into();
        if !self.has_unsaved() {
            return Ok(());
        }
        let count = self.position();
        let key = checkpoint_key(&self.channel, self.generation, count);
        let checksum = cirrus_store::checksum_of(0, &state);
        let bytes = state.len() as u64;
        self.files.save(&key, &state, self.recorded.as_ref())?;
        let (client, object) = (self.client.clone(), Key::try_from(key.as_str())?);
        let version = self.context.wait(async move { client.put(&object, state).await })?.0;
        let (cursor, beyond) = (self.covered.cursor(), self.covered.beyond().to_vec());
        let record = CheckpointRecord { cursor, beyond, key, version, bytes, checksum };
        let control = self.context.control();
        control.checkpoint(&self.channel, self.generation, record.clone())?;
        self.recorded = Some(record);
        self.saved = count;
        self.due = false;
        self.last_checkpoint = Instant::now();
        self.ahead.window_moved();
        Ok(())
    }

    /// A batch or the end; nothing only when the time is over.
    fn take(&mut self, ended: Option<Instant>) -> Result<Taken<T>> {
        loop {
            // Also while batches are here: who is to end may not go on with what was read ahead.
            if self.context.is_cancelled() {
                let text = format!("reading channel `{}`", self.channel);
                return Err(Error::new(Kind::Cancelled, text));
            }
            let left =
                ended.map_or(LOOK_INTERVAL, |at| at.saturating_duration_since(Instant::now()));
            match self.ahead.take(left.min(LOOK_INTERVAL)) {
                taken @ (Taken::Batch(..) | Taken::End) => return Ok(taken),
                Taken::Failed(error) => return Err(error),
                Taken::WindowFull if self.automatic && self.has_unsaved() => {
                    self.checkpoint(Bytes::new())?;
                }
                Taken::WindowFull if self.has_unsaved() => {
                    return Err(Error::input(format!(
                        "channel `{}` holds all that it may without a checkpoint, since batch {}; \
                         call checkpoint_when_due after each batch, or at_least_once() if there \
                         is no state to keep",
                        self.channel, self.saved
                    )));
                }
                // Told before the last checkpoint was taken, and no longer so.
                Taken::WindowFull => self.ahead.window_moved(),
                Taken::Nothing if left.is_zero() => return Ok(Taken::Nothing),
                Taken::Nothing => {}
            }
        }
    }

    /// Whether batches were handed out that no checkpoint holds.
    fn has_unsaved(&self) -> bool {
        self.saved < self.position()
    }
}

impl<T> Drop for Batches<T> {
    fn drop(&mut self) {
        self.ahead.close();
        if let Some(reader) = self.reader.take() {
            // A panic of the reader is an error of `next`; here nobody asks any more.
            let _ = reader.join();
        }
    }
}

/// From the run's folder where memory has been lost.
fn restore(
    context: &Context,
    client: &Client,
    files: &CheckpointFiles,
    record: &CheckpointRecord,
) -> Result<Bytes> {
    let (client, key) = (client.clone(), Key::try_from(record.key.as_str())?);
    let object = match context.wait(async move { client.get(&key).await }) {
        Err(error) if error.kind() == Kind::NotFound => return files.load(record),
        object => object?,
    };
    let checksum = cirrus_store::checksum_of(0, &object.value);
    if (object.version.0, checksum) != (record.version, record.checksum) {
        return Err(Error::corrupt(format!("checkpoint `{}` is not what was saved", record.key)));
    }
    Ok(object.value)
}
