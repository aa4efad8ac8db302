//! The thread that asks for committed splits and reads them ahead of the body.
//!
//! Owns getting, comparing and decoding batches. May not checkpoint. Invariant: a batch is handed
//! over only when all bytes of its split have the checksum that was committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use cirrus_store::{Client, Key, Object};
use serde::de::DeserializeOwned;

use super::Batch;
use super::ahead::Ahead;
use crate::api::{Committed, Generation, NextAnswer};
use crate::context::Context;
use crate::coordinator::keys::batch_key;
use crate::counters::BYTES_IN;
use crate::covered::Covered;
use crate::error::{Error, Result};
use crate::split::SplitPlan;

/// Batches that are got together.
const GET_BATCHES: usize = 8;

/// What became of reading a committed split.
enum Fetched {
    Whole(Vec<Object>),
    /// A batch is not there any more.
    Gone,
    /// The bytes are not those that were committed.
    Altered(Error),
}

/// The thread that reads ahead.
pub(super) struct ChannelReader<T> {
    pub(super) context: Context,
    pub(super) client: Client,
    pub(super) channel: String,
    pub(super) generation: Generation,
    pub(super) plan: SplitPlan,
    pub(super) ahead: Arc<Ahead<T>>,
}

/// Ends what waits for a thread that panicked, as one may in a user's `Deserialize`.
struct EndOfPanic<'a, T>(&'a ChannelReader<T>);

impl<T> Drop for EndOfPanic<'_, T> {
    fn drop(&mut self) {
        let text = format!(
            "the thread that reads channel `{}` panicked, as the log tells, perhaps while it \
             decoded a {}",
            self.0.channel,
            std::any::type_name::<T>()
        );
        // Where it did not panic, its own end came first.
        self.0.ahead.end(Err(Error::task(text)));
    }
}

impl<T: DeserializeOwned + Send + 'static> ChannelReader<T> {
    /// `read` is what a checkpoint holds: batches that are not handed over again.
    pub(super) fn run(self, read: Covered) {
        let _guard = EndOfPanic(&self);
        let end = self.read_all(read);
        self.ahead.end(end);
    }

    fn read_all(&self, mut read: Covered) -> Result<()> {
        // Splits that are made again; all lie within the window.
        let mut altered = BTreeSet::new();
        while !self.ahead.is_closed() {
            let (first, taken) = self.taken(&read);
            match self.context.control().next(&self.channel, self.generation, first, taken)? {
                NextAnswer::Wait => {}
                NextAnswer::Ended => return Ok(()),
                NextAnswer::WindowFull => {
                    if !self.ahead.wait_for_window() {
                        return Ok(());
                    }
                }
                NextAnswer::Committed(committed) => match self.fetch(&committed)? {
                    Fetched::Whole(objects) => {
                        if !self.hand_over(&committed, objects, &read)? {
                            return Ok(());
                        }
                        altered.remove(&committed.split);
                        read.add(self.plan.batches_of(committed.split));
                    }
                    Fetched::Gone => self.lost(&committed)?,
                    // Made again once: memory may have failed. A second time it is something else.
                    Fetched::Altered(error) => {
                        if !altered.insert(committed.split) {
                            return Err(error);
                        }
                        tracing::warn!("{error}; it is made again");
                        self.lost(&committed)?;
                    }
                },
            }
        }
        Ok(())
    }

    /// The first split of which something is to be read, and those beyond that are read.
    fn taken(&self, read: &Covered) -> (u64, Vec<u64>) {
        let taken = read.beyond().iter().flat_map(|run| self.plan.splits_within(run));
        (self.plan.split_of(read.cursor()), taken.collect())
    }

    /// The split is made again, and asked for again.
    fn lost(&self, committed: &Committed) -> Result<()> {
        let (split, attempt) = (committed.split, committed.attempt);
        self.context.control().lost(&self.channel, self.generation, split, attempt)
    }

    /// All batches of a split: none is handed over before the sum of all is right.
    fn fetch(&self, committed: &Committed) -> Result<Fetched> {
        let (split, attempt) = (committed.split, committed.attempt);
        let (mut whole, mut checksum) = (Vec::new(), 0);
        let key = |within| Ok(Key::try_from(batch_key(&self.channel, split, attempt, within))?);
        let within: Vec<u32> = (0..committed.batches).collect();
        for together in within.chunks(GET_BATCHES) {
            let keys = together.iter().map(|within| key(*within)).collect::<Result<Vec<_>>>()?;
            let client = self.client.clone();
            let objects =
                self.context.wait(async move { Ok::<_, Error>(client.get_many(&keys).await) })?;
            for object in objects {
                match object {
                    Ok(object) => {
                        checksum = cirrus_store::checksum_of(checksum, &object.value);
                        whole.push(object);
                    }
                    Err(error) if error.kind() == cirrus_store::Kind::NotFound => {
                        return Ok(Fetched::Gone);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if checksum == committed.checksum {
            return Ok(Fetched::Whole(whole));
        }
        Ok(Fetched::Altered(Error::corrupt(format!(
            "split {split} of channel `{}` has checksum {checksum:08x} and was committed with \
             {:08x}; if it happens again, test the memory of this machine",
            self.channel, committed.checksum
        ))))
    }

    /// Decodes the batches of a split that are not `read` yet and hands them over; false when
    /// nobody listens any more.
    fn hand_over(
        &self,
        committed: &Committed,
        objects: Vec<Object>,
        read: &Covered,
    ) -> Result<bool> {
        let numbers = self.plan.batches_of(committed.split);
        let unread = numbers.clone().zip(objects).filter(|(n, _)| !read.holds(&(*n..*n + 1)));
        for (number, object) in unread {
            let bytes = object.value.len();
            self.context.counter(BYTES_IN).add(bytes as u64);
            let due = committed.checkpoint_due && number + 1 == numbers.end;
            if !self.ahead.put(bytes, self.decode(number, &object)?, due) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn decode(&self, number: u64, object: &Object) -> Result<Batch<T>> {
        let items = postcard::from_bytes(&object.value).map_err(|error| {
            Error::input(format!(
                "batch {number} of channel `{}` is not a list of {}; reader and writers must \
                 agree on the type",
                self.channel,
                std::any::type_name::<T>()
            ))
            .with_source(error)
        })?;
        let range = self.plan.batch(number);
        let range = range.ok_or_else(|| Error::internal("a batch beyond the plan's end"))?;
        let (epoch, index, first_position) = (range.epoch, range.batch, range.first_position);
        Ok(Batch { epoch, index, number, first_position, items })
    }
}
