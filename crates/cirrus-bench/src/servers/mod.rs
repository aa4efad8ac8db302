//! The servers under test: started here, each a process of its own on the server's processor.
//!
//! Owns their lives. A server starts when a comparison first asks for it and ends with
//! [`Servers`]; it also ends when the bench does, however that happens. One file a server.
//! Invariant: a server is handed out only once it accepts connections.

mod bare;
mod canned;
mod cirrus;
mod db_bench;
mod launch;
mod memcached;
mod redis;

use std::collections::HashSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

pub(crate) use bare::{Bare, BareClient};
pub(crate) use canned::{CANNED_VALUE_BYTES, Canned};
pub(crate) use cirrus::Cirrus;
pub(crate) use db_bench::DbBench;
use launch::Launch;
pub(crate) use launch::Launched;

use crate::load::KeySpace;
use crate::processor::Processors;

/// How long a server may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The servers that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A memory node of Cirrus.
    Cirrus,
    /// A storage node of Cirrus.
    Storage,
    Redis,
    /// Redis with appendfsync always.
    DurableRedis,
    Memcached,
    /// Answers what the load generator expects without looking: the generator's ceiling.
    Canned,
    /// Copies bytes between a socket and one buffer: the ceiling of a transfer.
    Bare,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Instance {
    kind: Kind,
    pub(crate) address: SocketAddr,
    /// What it says it is, for the record.
    pub(crate) version: String,
    child: Child,
    filled: HashSet<KeySpace>,
}

impl Instance {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Notes that the values of `space` are there; false if they were already.
    pub(crate) fn note_filled(&mut self, space: KeySpace) -> bool {
        self.filled.insert(space)
    }

    fn started(kind: Kind, version: String, mut child: Child, address: SocketAddr) -> Result<Self> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = child.try_wait().context("a server's state")? {
                bail!("{kind:?} ended at once ({status}); its output stands above");
            }
            match TcpStream::connect(address) {
                Ok(_) => break,
                Err(error) if Instant::now() > deadline => {
                    child.kill().context("a server that does not listen")?;
                    child.wait().context("a server that does not listen")?;
                    return Err(error).with_context(|| format!("{kind:?} does not listen"));
                }
                // It is still starting: ask again, not too often.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Ok(Self { kind, address, version, child, filled: HashSet::new() })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The servers that have been started.
#[derive(Debug)]
pub(crate) struct Servers {
    processors: Processors,
    running: Vec<Instance>,
    /// Where those that write to a disk do so.
    stores: PathBuf,
}

impl Servers {
    /// Servers with a disk write to folders in `stores`, which is theirs alone.
    pub(crate) fn new(processors: Processors, stores: PathBuf) -> Self {
        Self { processors, running: Vec::new(), stores }
    }

    /// An empty folder of this name.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.stores.join(name);
        let context = || path.display().to_string();
        if path.exists() {
            fs::remove_dir_all(&path).with_context(context)?;
        }
        fs::create_dir_all(&path).with_context(context)?;
        Ok(path)
    }

    /// RocksDB's benchmark, with a store of so many objects.
    pub(crate) fn db_bench(
        &self,
        threads: usize,
        objects: u64,
        value_bytes: usize,
    ) -> Result<DbBench> {
        let launch = Launch::on(self.processors.server)?;
        DbBench::new(launch, self.folder("rocksdb")?, threads, objects, value_bytes)
    }

    /// The server of a kind, started if it does not run.
    pub(crate) fn of(&mut self, kind: Kind) -> Result<&mut Instance> {
        let at = match self.running.iter().position(|instance| instance.kind == kind) {
            Some(at) => at,
            None => {
                self.running.push(self.fresh(kind)?);
                self.running.len() - 1
            }
        };
        Ok(&mut self.running[at])
    }

    /// A server of a kind for the caller alone, who ends it.
    pub(crate) fn fresh(&self, kind: Kind) -> Result<Instance> {
        let launch = Launch::on(self.processors.server)?;
        match kind {
            Kind::Cirrus => cirrus::start(&launch),
            Kind::Storage => cirrus::start_durable(&launch, &self.folder("cirrus")?),
            Kind::Redis => redis::start(&launch),
            Kind::DurableRedis => redis::start_durable(&launch, &self.folder("redis")?),
            Kind::Memcached => memcached::start(&launch),
            Kind::Canned => canned::start(&launch),
            Kind::Bare => bare::start(&launch),
        }
    }

    /// Ends all servers.
    pub(crate) fn end(&mut self) {
        self.running.clear();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.end();
        // What is left over is removed by the next run.
        let _ = fs::remove_dir_all(&self.stores);
    }
}

/// A port that is free now.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1")?;
    listener.local_addr().context("the address of a socket")
}
