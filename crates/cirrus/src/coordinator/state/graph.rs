//! Who reads and writes what, looked up by name.
//!
//! Owns the maps that follow from an [`AppSpec`]. May not know what happens at run time.
//! Invariant: it is made from a valid spec only, so every channel has its feed and reader.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Refusal, RefusalKind};
use crate::error::Result;
use crate::spec::AppSpec;
use crate::split::SplitSpec;

/// What a memory node registers as: `memory:<pool>`.
const MEMORY_PREFIX: &str = "memory:";

#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) name: String,
    pub(crate) run: String,
    pub(crate) pools: BTreeSet<String>,
    pub(crate) tasks: BTreeSet<String>,
    /// Every set that a task reads, writes or is fed.
    pub(crate) sets: BTreeSet<String>,
    /// Sets that are read through splits.
    pub(crate) feeds: BTreeMap<String, Feed>,
    pub(crate) channels: BTreeMap<String, ChannelEnds>,
}

/// A set that is read through splits.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) splits: SplitSpec,
    /// The task that leases them.
    pub(crate) worker: String,
    /// The channels their output goes to, sorted.
    pub(crate) outputs: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct ChannelEnds {
    /// In bytes.
    pub(crate) capacity: u64,
    /// Its splits are delivered as they come.
    pub(crate) unordered: bool,
    /// The set whose splits it carries.
    pub(crate) set: String,
    pub(crate) reader: String,
}

impl Graph {
    /// Validates `spec` and reads it.
    pub(crate) fn new(spec: &AppSpec) -> Result<Self> {
        spec.validate()?;
        let mut channels = BTreeMap::new();
        for channel in &spec.channels {
            let set = spec.channel_feed(&channel.name)?;
            let reads = |name: &String| *name == channel.name;
            for task in spec.tasks.iter().filter(|task| task.reads.iter().any(reads)) {
                let ends = ChannelEnds {
                    capacity: channel.capacity.bytes(),
                    unordered: channel.unordered,
                    set: set.into(),
                    reader: task.name.clone(),
                };
                channels.insert(channel.name.clone(), ends);
            }
        }
        let mut feeds = BTreeMap::new();
        for task in &spec.tasks {
            for (set, splits) in spec.feeds.iter().filter(|(set, _)| task.reads.contains(set)) {
                let carries = |(_, ends): &(&String, &ChannelEnds)| ends.set == *set;
                let outputs = channels.iter().filter(carries).map(|(name, _)| name.clone());
                let feed = Feed {
                    splits: splits.clone(),
                    worker: task.name.clone(),
                    outputs: outputs.collect(),
                };
                feeds.insert(set.clone(), feed);
            }
        }
        let named = spec.tasks.iter().flat_map(|task| task.reads.iter().chain(&task.writes));
        Ok(Self {
            name: spec.name.clone(),
            run: spec.run.clone(),
            pools: spec.pools.iter().map(|pool| pool.name.clone()).collect(),
            tasks: spec.tasks.iter().map(|task| task.name.clone()).collect(),
            sets: named.filter(|name| !channels.contains_key(*name)).cloned().collect(),
            feeds,
            channels,
        })
    }

    pub(crate) fn feed(&self, set: &str) -> Result<&Feed, Refusal> {
        self.feeds.get(set).ok_or_else(|| missing("set with splits", set, self.feeds.keys()))
    }

    pub(crate) fn channel(&self, channel: &str) -> Result<&ChannelEnds, Refusal> {
        self.channels.get(channel).ok_or_else(|| missing("channel", channel, self.channels.keys()))
    }

    pub(crate) fn set(&self, set: &str) -> Result<(), Refusal> {
        let known = self.sets.contains(set);
        known.then_some(()).ok_or_else(|| missing("set", set, self.sets.iter()))
    }

    pub(crate) fn pool(&self, pool: &str) -> Result<(), Refusal> {
        let known = self.pools.contains(pool);
        known.then_some(()).ok_or_else(|| missing("pool", pool, self.pools.iter()))
    }

    /// A task of the application, or the pool of a memory node.
    pub(crate) fn task(&self, task: &str) -> Result<(), Refusal> {
        match memory_pool(task) {
            Some(pool) => self.pool(pool),
            None if self.tasks.contains(task) => Ok(()),
            None => Err(missing("task", task, self.tasks.iter())),
        }
    }
}

/// The pool that a memory node of this name belongs to; `None` for every other task.
pub(crate) fn memory_pool(task: &str) -> Option<&str> {
    task.strip_prefix(MEMORY_PREFIX)
}

fn missing<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Refusal {
    let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Refusal::new(RefusalKind::NotFound, format!("no {what} is called {name:?}; there is {known}"))
}
