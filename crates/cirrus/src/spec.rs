//! What an application declares: pools, channels, tasks and the sets they read through splits.
//!
//! Owns [`AppSpec`] and the rules that make one valid. May not know processes, sockets or plans.
//! Invariant: an [`AppSpec`] that passed [`AppSpec::validate`] names nothing that does not exist.

use std::collections::{BTreeMap, BTreeSet};

use cirrus_store::cache::Freshness;
use cirrus_units::ByteSize;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::split::SplitSpec;

const NAME_LEN_MAX: usize = 64;

/// One application and one run of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppSpec {
    /// The application.
    pub(crate) name: String,
    /// The run; a journal belongs to one.
    pub(crate) run: String,
    /// Memory; channels live in the first.
    pub(crate) pools: Vec<PoolSpec>,
    /// How tasks talk.
    pub(crate) channels: Vec<ChannelSpec>,
    /// What runs.
    pub(crate) tasks: Vec<TaskSpec>,
    /// The sets that are read through splits, and how.
    pub(crate) feeds: BTreeMap<String, SplitSpec>,
}

/// A pool of memory nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolSpec {
    pub(crate) name: String,
    pub(crate) capacity: ByteSize,
    /// What each process keeps of it.
    #[serde(default)]
    pub(crate) cache: Option<CacheSpec>,
}

/// A process's cache of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheSpec {
    pub(crate) size: ByteSize,
    pub(crate) freshness: Freshness,
}

/// A bounded stream of committed batches from one task to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelSpec {
    pub(crate) name: String,
    pub(crate) capacity: ByteSize,
    /// Its splits are delivered as they come.
    #[serde(default)]
    pub(crate) unordered: bool,
    /// The type of what it carries, for people.
    pub(crate) item: String,
}

/// A task and what it touches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskSpec {
    pub(crate) name: String,
    pub(crate) demand: cirrus_plan::Demand,
    /// Sets and channels.
    pub(crate) reads: Vec<String>,
    /// Sets and channels.
    pub(crate) writes: Vec<String>,
    /// Processes to start with.
    pub(crate) replicas: u32,
}

impl AppSpec {
    /// Checks every rule; the error names the first thing that breaks one and how to mend it.
    pub(crate) fn validate(&self) -> Result<()> {
        self.validate_names()?;
        self.validate_tasks()?;
        self.validate_sets()?;
        self.validate_channels()?;
        self.validate_capacity()
    }

    /// What differs of what decides the bytes of batches: all but how many processes there are and how
    /// much memory.
    pub(crate) fn changed_part(&self, other: &Self) -> Option<&'static str> {
        let names = |spec: &Self| spec.pools.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        let tasks = |spec: &Self| {
            spec.tasks.iter().map(|t| TaskSpec { replicas: 1, ..t.clone() }).collect::<Vec<_>>()
        };
        let differs = [
            ("pools", names(self) != names(other)),
            ("channels", self.channels != other.channels),
            ("tasks", tasks(self) != tasks(other)),
            ("splits", self.feeds != other.feeds),
        ];
        differs.iter().find(|(_, differs)| *differs).map(|(part, _)| *part)
    }

    fn channel_names(&self) -> BTreeSet<&str> {
        self.channels.iter().map(|channel| channel.name.as_str()).collect()
    }

    fn validate_names(&self) -> Result<()> {
        check_name("application", &self.name)?;
        check_name("run", &self.run)?;
        check_unique("pool", self.pools.iter().map(|pool| pool.name.as_str()))?;
        check_unique("channel", self.channels.iter().map(|channel| channel.name.as_str()))?;
        check_unique("task", self.tasks.iter().map(|task| task.name.as_str()))
    }

    fn validate_tasks(&self) -> Result<()> {
        for task in &self.tasks {
            let name = &task.name;
            for (verb, things) in [("reads", &task.reads), ("writes", &task.writes)] {
                let mut seen = BTreeSet::new();
                for thing in things {
                    check_name("channel or set", thing)?;
                    if !seen.insert(thing) {
                        return Err(Error::input(format!(
                            "task `{name}` {verb} `{thing}` twice; say it once"
                        )));
                    }
                }
            }
            if task.replicas == 0 {
                return Err(Error::input(format!(
                    "task `{name}` starts with 0 replicas; give it at least 1"
                )));
            }
        }
        Ok(())
    }

    fn validate_sets(&self) -> Result<()> {
        let channels = self.channel_names();
        let written: BTreeSet<&str> =
            self.tasks.iter().flat_map(|task| &task.writes).map(String::as_str).collect();
        for task in &self.tasks {
            for set in task.reads.iter().filter(|name| !channels.contains(name.as_str())) {
                if !written.contains(set.as_str()) {
                    return Err(Error::input(format!(
                        "task `{}` reads `{set}`, which is no channel and no set that a task \
                         writes; declare the channel, or add .writes(\"{set}\") to the task that \
                         fills the set",
                        task.name
                    )));
                }
            }
        }
        for (set, spec) in &self.feeds {
            spec.validate(set)?;
            let readers: Vec<&str> = self.readers(set);
            if channels.contains(set.as_str()) {
                return Err(Error::input(format!(
                    "`{set}` is a channel and is also read through splits; splits are of sets"
                )));
            }
            match readers.as_slice() {
                [_] => {}
                [] => {
                    return Err(Error::input(format!(
                        "set `{set}` has splits but no task reads it; add .reads(\"{set}\") to \
                         the task that does"
                    )));
                }
                [first, second, ..] => {
                    return Err(Error::input(format!(
                        "set `{set}` is read through splits by tasks `{first}` and `{second}`; \
                         one task may, so write it under a second name for the other"
                    )));
                }
            }
        }
        Ok(())
    }

    fn validate_channels(&self) -> Result<()> {
        for channel in &self.channels {
            let name = &channel.name;
            if channel.capacity.bytes() == 0 {
                return Err(Error::input(format!("channel `{name}` has a capacity of 0 B")));
            }
            match self.readers(name).as_slice() {
                [reader] => {
                    let replicas =
                        self.tasks.iter().find(|task| task.name == *reader).map(|t| t.replicas);
                    if replicas != Some(1) {
                        return Err(Error::input(format!(
                            "task `{reader}` reads channel `{name}` with several replicas; a \
                             channel's reader has exactly 1"
                        )));
                    }
                }
                readers => {
                    return Err(Error::input(format!(
                        "channel `{name}` is read by {} tasks; exactly 1 reads a channel",
                        readers.len()
                    )));
                }
            }
            self.channel_feed(name)?;
        }
        Ok(())
    }

    /// The one set whose splits become the channel's batches.
    pub(crate) fn channel_feed(&self, channel: &str) -> Result<&str> {
        let writers: Vec<&TaskSpec> =
            self.tasks.iter().filter(|task| task.writes.iter().any(|w| w == channel)).collect();
        let [writer] = writers.as_slice() else {
            return Err(Error::input(format!(
                "channel `{channel}` is written by {} tasks; exactly 1 writes a channel",
                writers.len()
            )));
        };
        let fed: Vec<&String> =
            writer.reads.iter().filter(|set| self.feeds.contains_key(*set)).collect();
        match fed.as_slice() {
            [set] => Ok(set),
            sets => Err(Error::input(format!(
                "task `{}` writes channel `{channel}` and reads {} sets through splits; it \
                 reads exactly 1, whose splits the channel carries",
                writer.name,
                sets.len()
            ))),
        }
    }

    fn validate_capacity(&self) -> Result<()> {
        if self.channels.is_empty() {
            return Ok(());
        }
        let Some(pool) = self.pools.first() else {
            return Err(Error::input(format!(
                "channel `{}` has no memory to live in; declare a pool with .memory(...)",
                self.channels[0].name
            )));
        };
        let sum: u128 = self.channels.iter().map(|c| u128::from(c.capacity.bytes())).sum();
        if sum > u128::from(pool.capacity.bytes()) {
            let sum = ByteSize::new(u64::try_from(sum).unwrap_or(u64::MAX));
            return Err(Error::input(format!(
                "channels together may hold {sum}, more than pool `{}` with {}; raise the pool's \
                 capacity or lower the channels'",
                pool.name, pool.capacity
            )));
        }
        Ok(())
    }

    fn readers(&self, name: &str) -> Vec<&str> {
        let reads = |task: &&TaskSpec| task.reads.iter().any(|read| read == name);
        self.tasks.iter().filter(reads).map(|task| task.name.as_str()).collect()
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let fits = (1..=NAME_LEN_MAX).contains(&name.len());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if fits && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::input(format!(
        "{what} name {name:?} is not 1 to {NAME_LEN_MAX} of a-z, 0-9, `_` and `-`"
    )))
}

fn check_unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        check_name(what, name)?;
        if !seen.insert(name) {
            return Err(Error::input(format!(
                "{what} `{name}` is declared twice; rename one of them"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn task(name: &str, reads: &[&str], writes: &[&str]) -> TaskSpec {
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        TaskSpec {
            name: name.into(),
            demand: cirrus_plan::Demand::default(),
            reads: owned(reads),
            writes: owned(writes),
            replicas: 1,
        }
    }

    /// `load` fills set `train`, `decode` turns its splits into `batches`, `train` reads these;
    /// `index` reads the splits of set `words` and writes no channel.
    pub(crate) fn example(capacity: u64, splits: SplitSpec) -> AppSpec {
        AppSpec {
            name: "photos".into(),
            run: "one".into(),
            pools: vec![PoolSpec { name: "data".into(), capacity: ByteSize::gib(1), cache: None }],
            channels: vec![ChannelSpec {
                name: "batches".into(),
                capacity: ByteSize::new(capacity),
                unordered: false,
                item: "Batch".into(),
            }],
            tasks: vec![
                task("load", &[], &["train", "words"]),
                task("decode", &["train"], &["batches"]),
                task("train", &["batches"], &[]),
                task("index", &["words"], &[]),
            ],
            feeds: [("train".into(), splits.clone()), ("words".into(), splits)].into(),
        }
    }

    fn refused(change: impl FnOnce(&mut AppSpec), names: &[&str]) {
        let mut spec = example(1000, SplitSpec::default());
        spec.validate().unwrap();
        change(&mut spec);
        let error = spec.validate().unwrap_err().to_string();
        for name in names {
            assert!(error.contains(name), "{error:?} does not name {name:?}");
        }
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn names_are_plain_and_unique() {
        refused(|s| s.name = "Photos".into(), &["application", "Photos"]);
        refused(|s| s.run = String::new(), &["run"]);
        refused(|s| s.tasks[0].name = "x".repeat(65), &["task"]);
        refused(|s| s.tasks[1].name = "load".into(), &["task `load`", "twice"]);
        refused(|s| s.pools.push(s.pools[0].clone()), &["pool `data`", "twice"]);
        refused(|s| s.channels.push(s.channels[0].clone()), &["channel `batches`", "twice"]);
        refused(|s| s.tasks[2].reads.push("batches".into()), &["`train` reads `batches` twice"]);
    }

    #[test]
    fn what_is_read_exists() {
        refused(|s| s.tasks[2].reads.push("labels".into()), &["`train`", "`labels`", "writes"]);
        refused(|s| s.tasks[0].writes.clear(), &["`decode`", "`train`"]);
    }

    #[test]
    fn a_set_with_splits_has_one_reader() {
        refused(|s| s.tasks[3].reads.push("train".into()), &["`train`", "`decode`", "`index`"]);
        refused(|s| s.tasks[3].reads.clear(), &["`words`", "no task reads it"]);
        refused(
            |s| s.feeds.get_mut("words").unwrap().window = 0,
            &["`window`", "`words`", "at least 1"],
        );
        refused(
            |s| {
                s.feeds.insert("batches".into(), SplitSpec::default());
            },
            &["`batches`", "channel"],
        );
    }

    #[test]
    fn a_channel_has_one_writer_and_one_reader_with_one_replica() {
        refused(|s| s.tasks[2].reads.clear(), &["`batches`", "read by 0 tasks"]);
        refused(|s| s.tasks[3].reads.push("batches".into()), &["`batches`", "read by 2 tasks"]);
        refused(|s| s.tasks[2].replicas = 2, &["`train`", "`batches`", "exactly 1"]);
        refused(|s| s.tasks[1].writes.clear(), &["`batches`", "written by 0 tasks"]);
        refused(|s| s.tasks[3].writes.push("batches".into()), &["written by 2 tasks"]);
        refused(|s| s.tasks[1].replicas = 0, &["`decode`", "0 replicas"]);
    }

    #[test]
    fn a_channel_carries_the_splits_of_one_set() {
        refused(|s| s.feeds.retain(|set, _| set != "train"), &["`decode`", "reads 0 sets"]);
        refused(
            |s| {
                s.tasks[3].reads.clear();
                s.tasks[1].reads.push("words".into());
            },
            &["`decode`", "`batches`", "reads 2 sets"],
        );
    }

    #[test]
    fn channels_fit_the_first_pool() {
        refused(|s| s.pools.clear(), &["`batches`", ".memory("]);
        refused(|s| s.pools[0].capacity = ByteSize::new(999), &["`data`", "999 B", "1000 B"]);
        refused(|s| s.channels[0].capacity = ByteSize::new(0), &["`batches`", "0 B"]);
    }

    #[test]
    fn a_spec_survives_its_json() {
        let spec = example(1000, SplitSpec::default());
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<AppSpec>(&text).unwrap(), spec);
    }
}
