//! How do the parts of a training find each other?
//!
//! Owns the objects in the run's memory by which they do: where each shard and the keeper listen, what
//! the chief has ordered, who has done it. Knows nothing of what is learnt.
//! Invariant: each object has one writer; what a process said in an earlier life is told from what
//! it says now.

use std::time::Duration;

use cirrus::{Context, Kind};
use cirrus_store::{Client, Key, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::Facts;
use crate::examples::source::UsersAndItems;

/// Where a shard or the keeper listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) address: String,
    /// The process: another one has another number.
    pub(super) life: u64,
}

/// What the chief wants of all shards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    /// The table's; 0 before the first.
    pub(super) generation: u64,
    /// The lives of the shards that this is for, each in its place.
    pub(super) lives: Vec<u64>,
    /// Begin from this cut; `None` from nothing.
    pub(super) from: Option<u64>,
    /// The pieces of that cut, of each shard.
    pub(super) pieces: Vec<u32>,
    /// Keep all as it is now under this number; 0 for nothing.
    pub(super) cut: u64,
    /// Splits before this one are over.
    pub(super) floor: u64,
    /// The training is over: end.
    pub(super) over: bool,
}

/// What a shard has done of an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) life: u64,
    pub(super) generation: u64,
    /// The last cut, and the pieces that its rows are in.
    pub(super) cut: u64,
    pub(super) pieces: u32,
    pub(super) bytes: u64,
}

/// What a worker has done since it began, as it last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) examples: u64,
    pub(super) loss: f64,
    pub(super) steps: u64,
    /// By how many steps it was ahead of the slowest when it read: sum over steps, and the most.
    pub(super) staleness: u64,
    pub(super) staleness_max: u32,
    /// Times that it began anew, because a shard was lost or it had been thought gone.
    pub(super) anew: u64,
    /// Bytes of gradients and values, rows included.
    pub(super) bytes: u64,
}

/// The objects, by name.
pub(super) struct Board {
    client: Client,
}

const ORDER: &str = "!learn/order";
const KEEPER: &str = "!learn/keeper";
const FACTS: &str = "!learn/facts";
const NAMES: &str = "!learn/names";

impl Board {
    pub(super) fn new(context: &Context) -> cirrus::Result<Self> {
        Ok(Self { client: context.store()?.client().clone() })
    }

    pub(super) async fn order(&self) -> cirrus::Result<Option<Order>> {
        self.get(ORDER).await
    }

    pub(super) async fn give_order(&self, order: &Order) -> cirrus::Result<()> {
        self.put(ORDER, order).await
    }

    /// An order given after the one of this version, or nothing for a while.
    pub(super) async fn later_order(
        &self,
        version: Version,
        patience: Duration,
    ) -> cirrus::Result<Option<(Version, Order)>> {
        match self.client.wait(&key(ORDER)?, version, patience).await {
            Ok(_) => {}
            Err(error) if error.kind() == cirrus_store::Kind::Timeout => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let object = self.client.get(&key(ORDER)?).await?;
        Ok(Some((object.version, parse(ORDER, &object.value)?)))
    }

    pub(super) async fn shard(&self, shard: usize) -> cirrus::Result<Option<Place>> {
        self.get(&shard_name(shard)).await
    }

    pub(super) async fn announce_shard(&self, shard: usize, place: &Place) -> cirrus::Result<()> {
        self.put(&shard_name(shard), place).await
    }

    pub(super) async fn keeper(&self) -> cirrus::Result<Option<Place>> {
        self.get(KEEPER).await
    }

    pub(super) async fn announce_keeper(&self, place: &Place) -> cirrus::Result<()> {
        self.put(KEEPER, place).await
    }

    pub(super) async fn done(&self, shard: usize) -> cirrus::Result<Option<Done>> {
        self.get(&format!("!learn/done/{shard}")).await
    }

    pub(super) async fn tell_done(&self, shard: usize, done: &Done) -> cirrus::Result<()> {
        self.put(&format!("!learn/done/{shard}"), done).await
    }

    pub(super) async fn tally(&self, worker: u64) -> cirrus::Result<Option<Tally>> {
        self.get(&format!("!learn/tally/{worker}")).await
    }

    pub(super) async fn tell_tally(&self, worker: u64, tally: &Tally) -> cirrus::Result<()> {
        self.put(&format!("!learn/tally/{worker}"), tally).await
    }

    /// What is known of the data; waits until they have been read.
    pub(super) async fn facts(&self, context: &Context) -> cirrus::Result<Facts> {
        loop {
            let patience = Duration::from_millis(500);
            match self.client.wait(&key(FACTS)?, Version(0), patience).await {
                Ok(_) => {
                    let object = self.client.get(&key(FACTS)?).await?;
                    return parse(FACTS, &object.value);
                }
                Err(error) if error.kind() != cirrus_store::Kind::Timeout => {
                    return Err(error.into());
                }
                Err(_) if context.is_cancelled() => {
                    return Err(cirrus::Error::new(Kind::Cancelled, "waiting for the data"));
                }
                Err(_) => {}
            }
        }
    }

    pub(super) async fn tell_facts(&self, facts: &Facts) -> cirrus::Result<()> {
        self.put(FACTS, facts).await
    }

    /// The names of users and items, if the data have some.
    pub(super) async fn names(&self) -> cirrus::Result<Option<UsersAndItems>> {
        self.get(NAMES).await
    }

    pub(super) async fn tell_names(&self, names: &UsersAndItems) -> cirrus::Result<()> {
        self.put(NAMES, names).await
    }

    async fn get<T: DeserializeOwned>(&self, name: &str) -> cirrus::Result<Option<T>> {
        match self.client.get(&key(name)?).await {
            Ok(object) => parse(name, &object.value).map(Some),
            Err(error) if error.kind() == cirrus_store::Kind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, name: &str, value: &impl Serialize) -> cirrus::Result<()> {
        let json = serde_json::to_vec(value).map_err(|error| {
            cirrus::Error::new(Kind::Internal, format!("object {name}")).with_source(error)
        })?;
        self.client.put(&key(name)?, json).await?;
        Ok(())
    }
}

/// Threads that sockets and timers of this process live on, beside the body's own.
pub(super) fn runtime() -> cirrus::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("learn-io")
        .build()
        .map_err(|error| cirrus::Error::io("cannot start a thread", error))
}

/// A number that no other process has.
pub(super) fn fresh_number() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id()).max(1)
}

fn shard_name(shard: usize) -> String {
    format!("!learn/shard/{shard}")
}

fn key(name: &str) -> cirrus::Result<Key> {
    Ok(Key::try_from(name)?)
}

fn parse<T: DeserializeOwned>(name: &str, json: &[u8]) -> cirrus::Result<T> {
    serde_json::from_slice(json)
        .map_err(|error| cirrus::Error::corrupt(format!("object {name}")).with_source(error))
}
