//! What an application declares.
//!
//! Owns [`App`], the builder that people write, and its translation into an `AppSpec`. May not
//! know processes or sockets. Invariant: the first wrong declaration is what `main` reports.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::process::ExitCode;

use cirrus_plan::{Cpu, CpuKind, Demand};
use cirrus_store::cache::Freshness;
use cirrus_units::ByteSize;

use crate::command;
use crate::error::{Error, Result};
use crate::spec::{AppSpec, CacheSpec, ChannelSpec, PoolSpec, TaskSpec};
use crate::split::SplitSpec;
use crate::task::{Task, TaskArgs};

/// The arguments of an application that takes none.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct NoArgs {}

/// An application: tasks, the memory between them, and the channels they talk through.
///
/// A run starts every task as a process of its own. Names are 1 to 64 of `[a-z0-9_-]`. A name that
/// a task reads or writes is a channel if [`App::channel`] declares it, and a set otherwise.
#[derive(Debug)]
pub struct App<A = NoArgs> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) tasks: Vec<Task<A>>,
    settings: Settings,
    pub(crate) configure: Option<fn(&A, &mut Settings)>,
    pub(crate) prepare: Option<fn(&A) -> Result<()>>,
    wrong: Option<String>,
}

/// What an application may decide by its arguments; see [`App::configure`].
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pools: Vec<PoolSpec>,
    caches: BTreeMap<String, CacheSpec>,
    channels: Vec<ChannelSpec>,
    splits: BTreeMap<String, SplitSpec>,
    replicas: BTreeMap<String, u32>,
    unordered: BTreeSet<String>,
    capacities: BTreeMap<String, ByteSize>,
}

impl Settings {
    /// A pool of memory nodes. The first pool holds the channels and is a task's default store.
    pub fn memory(&mut self, name: &str, capacity: ByteSize) {
        match self.pools.iter_mut().find(|pool| pool.name == name) {
            Some(pool) => pool.capacity = capacity,
            None => self.pools.push(PoolSpec { name: name.to_owned(), capacity, cache: None }),
        }
    }

    /// Each process keeps up to `size` bytes of what it reads from a pool, beside the memory that its
    /// task needs: the sets there, and what it asks of [`Context::cache`](crate::Context::cache).
    /// Sets never change: [`Freshness::Immutable`] reads them once.
    pub fn cache(&mut self, pool: &str, size: ByteSize, freshness: Freshness) {
        self.caches.insert(pool.to_owned(), CacheSpec { size, freshness });
    }

    /// How a set is cut into splits for the task that reads it.
    pub fn splits(&mut self, set: &str, spec: SplitSpec) {
        self.splits.insert(set.to_owned(), spec);
    }

    /// The batches of a channel are delivered split by split as they are ready, and not in their
    /// order: nobody waits for a slow split, and the same seed no longer gives the same sequence.
    /// Each batch is delivered as often as in order, and tells its place.
    pub fn unordered(&mut self, channel: &str) {
        self.unordered.insert(channel.to_owned());
    }

    /// At most how many bytes of batches a channel carries, instead of what its declaration says.
    pub fn channel_capacity(&mut self, channel: &str, capacity: ByteSize) {
        self.capacities.insert(channel.to_owned(), capacity);
    }

    /// How many replicas of a task to start; its annotation says how many there may be.
    pub fn replicas(&mut self, task: &str, count: u32) {
        self.replicas.insert(task.to_owned(), count);
    }
}

impl App {
    /// An application of this name, without arguments, tasks or memory.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            about: "",
            tasks: Vec::new(),
            settings: Settings::default(),
            configure: None,
            prepare: None,
            wrong: None,
        }
    }

    /// The arguments that `run` and `plan` take and that every task is given.
    pub fn args<A: TaskArgs + clap::Args>(self) -> App<A> {
        let Self { name, about, settings, wrong, .. } = self;
        App { name, about, tasks: Vec::new(), settings, configure: None, prepare: None, wrong }
    }
}

impl<A: TaskArgs + clap::Args> App<A> {
    /// One line about what it does, for `--help`.
    #[must_use]
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// A pool of memory nodes with this capacity, such as `"8GiB"`. The first pool holds the
    /// channels and is a task's default store.
    #[must_use]
    pub fn memory(mut self, name: &str, capacity: &str) -> Self {
        match capacity.parse() {
            Ok(capacity) => self.settings.memory(name, capacity),
            Err(error) => self.wrong(format!("memory `{name}`: {error}")),
        }
        self
    }

    /// A cache of this size, such as `"256MiB"`, before a pool in each process; see
    /// [`Settings::cache`].
    #[must_use]
    pub fn cache(mut self, pool: &str, size: &str, freshness: Freshness) -> Self {
        match size.parse() {
            Ok(size) => self.settings.cache(pool, size, freshness),
            Err(error) => self.wrong(format!("cache of memory `{pool}`: {error}")),
        }
        self
    }

    /// A channel that carries batches of `T`, at most `capacity` bytes of them, such as
    /// `"256MiB"`.
    #[must_use]
    pub fn channel<T>(mut self, name: &str, capacity: &str) -> Self {
        let item = std::any::type_name::<T>().to_owned();
        match capacity.parse() {
            Ok(capacity) => {
                let name = name.to_owned();
                let unordered = false;
                self.settings.channels.push(ChannelSpec { name, capacity, unordered, item });
            }
            Err(error) => self.wrong(format!("channel `{name}`: {error}")),
        }
        self
    }

    /// Delivers the batches of a channel as they are ready; see [`Settings::unordered`].
    #[must_use]
    pub fn unordered(mut self, channel: &str) -> Self {
        self.settings.unordered(channel);
        self
    }

    /// A task.
    #[must_use]
    pub fn task(mut self, task: Task<A>) -> Self {
        self.tasks.push(task);
        self
    }

    /// How a set is cut into splits for the task that reads it; by default as
    /// [`SplitSpec::default`] says.
    #[must_use]
    pub fn splits(mut self, set: &str, spec: SplitSpec) -> Self {
        self.settings.splits(set, spec);
        self
    }

    /// What depends on the arguments: splits, replicas, capacities. Called before a run or a plan;
    /// must do the same every time.
    #[must_use]
    pub fn configure(mut self, configure: fn(&A, &mut Settings)) -> Self {
        self.configure = Some(configure);
        self
    }

    /// What has to be there before a run, such as a data set to fetch. Called once, in the process
    /// that a person started and sees, before any other is started.
    #[must_use]
    pub fn prepare(mut self, prepare: fn(&A) -> Result<()>) -> Self {
        self.prepare = Some(prepare);
        self
    }

    /// Runs the command line: `run`, `plan`, `status`, `logs`, `down`. In a process that a run
    /// started, does that process's part instead.
    pub fn main(self) -> ExitCode {
        self.main_from(std::env::args_os())
    }

    /// As [`App::main`], with these arguments; the first is the program's name.
    pub fn main_from(self, args: impl IntoIterator<Item = OsString>) -> ExitCode {
        command::main(self, args.into_iter().collect())
    }

    /// What is decided under these arguments.
    fn settings(&self, args: &A) -> Settings {
        let mut settings = self.settings.clone();
        if let Some(configure) = self.configure {
            configure(args, &mut settings);
        }
        settings
    }

    /// How many replicas of a task these arguments ask for, or else the fewest that make sense:
    /// how many this machine carries says nothing of others.
    pub(crate) fn replicas_wanted(&self, args: &A) -> BTreeMap<&'static str, u32> {
        let told = self.settings(args).replicas;
        let wanted = |task: &Task<A>| {
            told.get(task.name).copied().unwrap_or_else(|| task.demand.replicas.min())
        };
        self.tasks.iter().map(|task| (task.name, wanted(task))).collect()
    }

    /// The declaration as data, checked, under these arguments.
    pub(crate) fn spec(&self, args: &A, run: &str) -> Result<AppSpec> {
        if let Some(wrong) = &self.wrong {
            return Err(Error::input(wrong.clone()));
        }
        let settings = self.settings(args);
        let tasks = self.tasks.iter().map(|task| task_spec(task, &settings, &self.tasks));
        let tasks = tasks.collect::<Result<Vec<_>>>()?;
        for name in settings.replicas.keys() {
            if !tasks.iter().any(|task| task.name == *name) {
                return Err(Error::input(format!("replicas of `{name}`, which is no task")));
            }
        }
        let Settings { mut pools, caches, mut channels, mut splits, unordered, capacities, .. } =
            settings;
        for (name, cache) in caches {
            let wrong = || format!("cache of memory `{name}`, which is not declared");
            declared(&mut pools, |pool| pool.name == name, wrong)?.cache = Some(cache);
        }
        for (name, capacity) in capacities {
            let wrong = || format!("capacity of `{name}`, which is no channel");
            declared(&mut channels, |channel| channel.name == name, wrong)?.capacity = capacity;
        }
        for name in unordered {
            let wrong = || format!("unordered `{name}`, which is no channel");
            declared(&mut channels, |channel| channel.name == name, wrong)?.unordered = true;
        }
        // A set that is read by a task of many replicas, or that feeds a channel, has splits.
        for task in &tasks {
            let is_channel = |name: &str| channels.iter().any(|channel| channel.name == name);
            let feeds = task.writes.iter().any(|name| is_channel(name));
            for set in task.reads.iter().filter(|name| feeds && !is_channel(name)) {
                splits.entry(set.clone()).or_default();
            }
        }
        let (name, run) = (self.name.to_owned(), run.to_owned());
        let spec = AppSpec { name, run, pools, channels, tasks, feeds: splits };
        spec.validate()?;
        Ok(spec)
    }

    fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}

/// What was declared and is meant, or what is wrong.
fn declared<T>(
    all: &mut [T],
    is_meant: impl Fn(&T) -> bool,
    wrong: impl FnOnce() -> String,
) -> Result<&mut T> {
    all.iter_mut().find(|one| is_meant(one)).ok_or_else(|| Error::input(wrong()))
}

fn task_spec<A>(task: &Task<A>, settings: &Settings, all: &[Task<A>]) -> Result<TaskSpec> {
    let bounds = task.demand.replicas;
    let replicas = match settings.replicas.get(task.name) {
        Some(count) if (bounds.min()..=bounds.max()).contains(count) => *count,
        Some(count) => {
            return Err(Error::input(format!(
                "{count} replicas of task `{}`; its annotation allows {} to {}",
                task.name,
                bounds.min(),
                bounds.max()
            )));
        }
        None => default_replicas(task, all),
    };
    Ok(TaskSpec {
        name: task.name.to_owned(),
        demand: task.demand.clone(),
        reads: task.reads.clone(),
        writes: task.writes.clone(),
        replicas,
    })
}

/// As many as this machine's processors carry beside one of every other task, within the bounds.
fn default_replicas<A>(task: &Task<A>, all: &[Task<A>]) -> u32 {
    let milli = |demand: &Demand| match demand.cpu {
        Cpu { cores, kind: CpuKind::Sustained | CpuKind::Burst, .. } => u64::from(cores.as_milli()),
    };
    let machine = std::thread::available_parallelism().map_or(1, usize::from) as u64 * 1000;
    let others: u64 =
        all.iter().filter(|other| other.name != task.name).map(|o| milli(&o.demand)).sum();
    let fitting = machine.saturating_sub(others) / milli(&task.demand).max(1);
    let bounds = task.demand.replicas;
    u32::try_from(fitting).unwrap_or(u32::MAX).clamp(bounds.min(), bounds.max())
}
