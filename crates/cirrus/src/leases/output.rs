//! Where the results of a split go: batches of a channel, or nowhere.
//!
//! Owns cutting results into batches and putting them, many in flight. May not lease or commit.
//! Invariant: `end` returns only when every batch of the attempt is acknowledged.

use std::collections::VecDeque;

use cirrus_store::{Client, Key};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::Splits;
use crate::api::{Grant, Output};
use crate::context::Context;
use crate::coordinator::keys::{attempt_prefix, batch_key};
use crate::counters::{BATCHES, BYTES_OUT};
use crate::error::{Error, Result};
use crate::sweeper::delete_prefix;

/// Bytes of batches that may be on their way to the store.
const PUT_BYTES_MAX: usize = 32 << 20;

/// Where the results of a split go.
pub(super) trait SplitOutput {
    /// One result.
    type Item;

    fn begin(&mut self, grant: Grant);
    fn push(&mut self, item: Self::Item) -> Result<()>;
    /// All results of the split are stored.
    fn end(&mut self) -> Result<Vec<Output>>;
    /// Removes what an attempt wrote that is not the split's any more.
    fn discard(&mut self, grant: &Grant) -> Result<()>;
    /// Stops in the middle of a split and gives it back.
    fn abandon(&mut self, splits: &Splits) -> Result<()>;
}

#[derive(Default)]
pub(super) struct NoOutput {
    grant: Option<Grant>,
}

impl SplitOutput for NoOutput {
    type Item = ();

    fn push(&mut self, (): ()) -> Result<()> {
        Ok(())
    }

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
pub(super) struct ChannelOutput<T> {
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
    /// Batches of `batch` items for `channel`.
    pub(super) fn new(context: Context, client: Client, channel: &str, batch: usize) -> Self {
        Self {
            context,
            client,
            channel: channel.to_owned(),
            batch,
            items: Vec::new(),
            split: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        }
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
        self.context.counter(BYTES_OUT).add(len as u64);
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
    type Item = T;

    fn push(&mut self, item: T) -> Result<()> {
        self.items.push(item);
        if self.items.len() >= self.batch { self.write_batch() } else { Ok(()) }
    }

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
