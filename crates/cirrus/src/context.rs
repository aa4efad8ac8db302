//! What a task's body is given: the store, sets, channels, splits, and who it is.
//!
//! Owns [`Context`] and [`Store`]. May not know how the process was started. Invariant: every
//! method may be called from any thread, in sync and async bodies alike.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use cirrus_store::cache::{Cache, CacheOptions};
use cirrus_store::{Client, ClientOptions, Key, Object, Stat, Version};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::api::MemberId;
use crate::consumer::Batches;
use crate::control::Control;
use crate::counters::{Counter, Counters};
use crate::error::{Error, Result};
use crate::leases::Splits;
use crate::near::Near;
use crate::rundir::RunDir;
use crate::sets::{SetReader, SetWriter};
use crate::spec::{AppSpec, CacheSpec};
use crate::views::PoolViews;

/// The report that is shown while the run goes on.
pub(crate) const PROGRESS: &str = "progress";

/// A running task's door to the rest of its application. Clones are the same door.
#[derive(Debug, Clone)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: Identity,
    spec: AppSpec,
    dir: RunDir,
    control: Arc<Control>,
    runtime: Handle,
    clients: Mutex<BTreeMap<String, Client>>,
    caches: Mutex<BTreeMap<String, Cache<Client>>>,
    counters: Arc<Counters>,
    cancel: CancellationToken,
}

/// Who a process is in its application.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) task: String,
    pub(crate) replica: u32,
    pub(crate) member: MemberId,
}

impl Context {
    pub(crate) fn new(
        identity: Identity,
        spec: AppSpec,
        dir: RunDir,
        control: Arc<Control>,
        runtime: Handle,
        counters: Arc<Counters>,
        cancel: CancellationToken,
    ) -> Self {
        let (clients, caches) = (Mutex::default(), Mutex::default());
        let inner =
            Inner { identity, spec, dir, control, runtime, clients, caches, counters, cancel };
        Self(Arc::new(inner))
    }

    /// The application's name.
    pub fn app(&self) -> &str {
        &self.0.spec.name
    }

    /// The task's name.
    pub fn task(&self) -> &str {
        &self.0.identity.task
    }

    /// Which of the task's replicas this is, from 0.
    pub fn replica(&self) -> u32 {
        self.0.identity.replica
    }

    /// The run's folder: what a task leaves here outlives the run, until ten later runs.
    pub fn run_dir(&self) -> &Path {
        self.0.dir.path()
    }

    /// Whether the task should end: SIGTERM came, or the application is being stopped. Splits that
    /// are leased are given back by themselves; a loop of one's own should look here.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// The same as a token that can be awaited.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.cancel.clone()
    }

    /// A number that the status shows, summed over the task's replicas.
    pub fn counter(&self, name: &str) -> Counter {
        self.0.counters.counter(name)
    }

    /// Leaves a result that is printed at the end of the run and written by `--json`. A later
    /// value of the same key replaces it.
    pub fn report(&self, key: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)
            .map_err(|error| Error::input(format!("report `{key}`")).with_source(error))?;
        self.control().report(self.member(), key, value)
    }

    /// What a person sees beside the bar of the run's progress, in a few words. Each replaces the
    /// one before.
    pub fn progress(&self, text: &str) -> Result<()> {
        self.control().report(self.member(), PROGRESS, text.into())
    }

    /// The first pool's store.
    pub fn store(&self) -> Result<Store> {
        match self.0.spec.pools.first() {
            Some(pool) => self.pool(&pool.name),
            None => Err(Error::input(format!(
                "application `{}` has no memory; declare some with .memory(\"data\", \"1GiB\")",
                self.app()
            ))),
        }
    }

    /// A pool's store.
    pub fn pool(&self, name: &str) -> Result<Store> {
        if !self.0.spec.pools.iter().any(|pool| pool.name == name) {
            return Err(Error::input(format!(
                "memory `{name}` is not declared; add .memory(\"{name}\", \"1GiB\")"
            )));
        }
        if let Some(client) = self.0.clients.lock().get(name) {
            return Ok(Store { client: client.clone(), context: self.clone() });
        }
        let views = PoolViews { control: self.0.control.clone(), pool: name.to_owned() };
        let opened = Client::with_views(Arc::new(views), ClientOptions::default());
        let client = self.wait(opened)?;
        let client = self.0.clients.lock().entry(name.to_owned()).or_insert(client).clone();
        Ok(Store { client, context: self.clone() })
    }

    /// The cache that this process has before a pool, the same for all who ask.
    pub fn cache(&self, pool: &str) -> Result<Cache<Client>> {
        let made = self.0.caches.lock().get(pool).cloned();
        match made {
            Some(cache) => Ok(cache),
            None => {
                let cache = self.new_cache(pool, CacheOptions::default())?;
                Ok(self.0.caches.lock().entry(pool.to_owned()).or_insert(cache).clone())
            }
        }
    }

    /// Makes the cache that this process has before a pool, with policies, prefetch, a shadow or
    /// room for writes of its own; size and freshness stay what the application declares. Sets and
    /// splits of the pool are read through it from then on.
    ///
    /// # Errors
    ///
    /// [`Kind::Input`](crate::Kind::Input) when the pool has no cache, or when this process has
    /// made it already: that is before a set is read there.
    pub fn cache_with(&self, pool: &str, options: CacheOptions) -> Result<Cache<Client>> {
        let cache = self.new_cache(pool, options)?;
        match self.0.caches.lock().entry(pool.to_owned()) {
            Entry::Vacant(place) => Ok(place.insert(cache).clone()),
            Entry::Occupied(_) => Err(Error::input(format!(
                "this process has a cache before memory `{pool}` already; call cache_with before \
                 anything is read there"
            ))),
        }
    }

    fn new_cache(&self, pool: &str, mut options: CacheOptions) -> Result<Cache<Client>> {
        let store = self.pool(pool)?;
        let declared = self.0.spec.pools.iter().find(|spec| spec.name == pool);
        let Some(CacheSpec { size, freshness }) = declared.and_then(|spec| spec.cache) else {
            return Err(Error::input(format!(
                "memory `{pool}` has no cache; declare one with .cache(\"{pool}\", \"256MiB\", \
                 Freshness::VersionCheck)"
            )));
        };
        options.freshness = freshness;
        Ok(Cache::new(store.client, size, options))
    }

    /// The first pool, through its cache if it has one.
    pub(crate) fn near(&self) -> Result<Near> {
        let store = self.store()?;
        match self.0.spec.pools.first().filter(|pool| pool.cache.is_some()) {
            Some(pool) => self.cache(&pool.name).map(Near::Cache),
            None => Ok(Near::Client(store.client)),
        }
    }

    /// Begins to write a set. Replaces what an earlier attempt of this task wrote.
    pub fn write_set(&self, name: &str) -> Result<SetWriter> {
        self.declared("writes", name, |task| &task.writes)?;
        SetWriter::new(self.clone(), name)
    }

    /// A set, once it is sealed: waits for that.
    pub fn set(&self, name: &str) -> Result<SetReader> {
        self.declared("reads", name, |task| &task.reads)?;
        SetReader::open(self.clone(), name)
    }

    /// The shares of a set that this task's replicas divide among themselves.
    pub fn splits(&self, set: &str) -> Result<Splits> {
        self.declared("reads", set, |task| &task.reads)?;
        Splits::new(self.clone(), set)
    }

    /// The batches of a channel, in their order. `T` is what the writers' closure returns.
    pub fn batches<T: DeserializeOwned + Send + 'static>(
        &self,
        channel: &str,
    ) -> Result<Batches<T>> {
        self.declared("reads", channel, |task| &task.reads)?;
        Batches::open(self.clone(), channel, false)
    }

    /// The same, when what the writers did beside the channel since the last checkpoint is lost:
    /// every split that it does not cover is made again, whether it was committed, handed out or
    /// leased. Batches of a reader that was opened before are void.
    pub fn batches_made_again<T: DeserializeOwned + Send + 'static>(
        &self,
        channel: &str,
    ) -> Result<Batches<T>> {
        self.declared("reads", channel, |task| &task.reads)?;
        Batches::open(self.clone(), channel, true)
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.0.control
    }

    pub(crate) fn member(&self) -> MemberId {
        self.0.identity.member
    }

    pub(crate) fn dir(&self) -> &RunDir {
        &self.0.dir
    }

    pub(crate) fn spec(&self) -> &AppSpec {
        &self.0.spec
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Runs a future on Cirrus's own runtime and blocks until it ends. Works inside an async body
    /// too, where a nested `block_on` would panic.
    pub(crate) fn wait<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Error> + Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.0.runtime.spawn(async move {
            // Nobody listens only when the caller's thread is gone.
            let _ = sender.send(future.await);
        });
        match receiver.recv() {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(Error::internal("Cirrus's runtime ended under a request")),
        }
    }

    fn declared(
        &self,
        verb: &str,
        name: &str,
        names: impl Fn(&crate::spec::TaskSpec) -> &Vec<String>,
    ) -> Result<()> {
        let task = self.task();
        let declared = self.0.spec.tasks.iter().find(|spec| spec.name == task).map(names);
        if declared.is_some_and(|names| names.iter().any(|declared| declared == name)) {
            return Ok(());
        }
        Err(Error::input(format!(
            "task `{task}` {verb} `{name}` without saying so; add .{verb}(\"{name}\") to \
             {task}::task()"
        )))
    }
}

/// A pool of memory nodes: puts and gets that block the calling thread.
///
/// Values are at most 1 GiB, keys 1 to 1024 bytes. [`Store::client`] has every operation, for
/// async bodies.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    context: Context,
}

impl Store {
    /// The asynchronous client underneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The object of a key; kind `NotFound` when there is none.
    pub fn get(&self, key: &str) -> Result<Object> {
        let (client, key) = (self.client.clone(), Key::try_from(key)?);
        self.context.wait(async move { client.get(&key).await })
    }

    /// Stores a value; kind `OutOfMemory` when there is no room.
    pub fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<Version> {
        let (client, key, value) = (self.client.clone(), Key::try_from(key)?, value.into());
        self.context.wait(async move { client.put(&key, value).await })
    }

    /// Version and size; kind `NotFound` when there is no object.
    pub fn stat(&self, key: &str) -> Result<Stat> {
        let (client, key) = (self.client.clone(), Key::try_from(key)?);
        self.context.wait(async move { client.stat(&key).await })
    }

    /// Removes an object; kind `NotFound` when there is none.
    pub fn delete(&self, key: &str) -> Result<()> {
        let (client, key) = (self.client.clone(), Key::try_from(key)?);
        self.context.wait(async move { client.delete(&key).await })
    }

    /// Adds to an integer and returns the sum; an absent one counts as 0.
    pub fn add(&self, key: &str, delta: i64) -> Result<i64> {
        let (client, key) = (self.client.clone(), Key::try_from(key)?);
        self.context.wait(async move { client.add(&key, delta).await })
    }
}
