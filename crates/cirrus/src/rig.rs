//! A run within one process, for tests of what a task's body is given.
//!
//! Owns a coordinator, a memory node behind a relay, and contexts of tasks. May not know what a test
//! proves. Invariant: the shipped parts talk as in a run of processes; only the relay can hold an
//! answer back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cirrus_store::server::{NodeOptions, Server};
use cirrus_units::ByteSize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{Grant, LeaseAnswer, MemberId, Output};
use crate::context::{Context, Identity};
use crate::control::Control;
use crate::coordinator::keys::batch_key;
use crate::coordinator::status::{ChannelStatus, SetStatus};
use crate::coordinator::{CoordinatorOptions, Timeouts, serve};
use crate::error::Result;
use crate::rundir::RunDir;
use crate::spec::AppSpec;
use crate::spec::tests::example;
use crate::split::SplitSpec;

pub(crate) const SET: &str = "train";
pub(crate) const CHANNEL: &str = "batches";
const LOOPBACK: &str = "127.0.0.1:0";
/// Nobody beats here.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// `load` writes [`SET`], `decode` turns its splits into [`CHANNEL`], `train` reads that.
pub(crate) struct Rig {
    pub(crate) spec: AppSpec,
    folder: TempDir,
    runtime: Runtime,
    memory: ByteSize,
    life: Option<Life>,
}

/// A coordinator and a node.
struct Life {
    coordinator: SocketAddr,
    thread: JoinHandle<Result<()>>,
    relay: Relay,
    tasks: CancellationToken,
    cancel: CancellationToken,
}

/// Between every client and the node.
struct Relay {
    opens: watch::Sender<bool>,
    holds: Arc<AtomicBool>,
}

impl Rig {
    pub(crate) fn new(splits: SplitSpec) -> Self {
        Self::of(example(64 << 20, splits), ByteSize::mib(64))
    }

    /// An application, and how much its node holds.
    pub(crate) fn of(spec: AppSpec, memory: ByteSize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Self { spec, folder, runtime, memory, life: None };
        rig.start(false);
        rig
    }

    /// All that was in memory is gone, whoever lives is no member any more, and the run goes on.
    pub(crate) fn resume(&mut self) {
        self.end();
        self.start(true);
    }

    fn start(&mut self, resumes: bool) {
        let cancel = CancellationToken::new();
        let timeouts = Timeouts { heartbeat_timeout: FOR_EVER, lease_timeout: FOR_EVER };
        let (listen, dir) = (LOOPBACK.parse().unwrap(), self.dir().coordinator());
        let options =
            CoordinatorOptions { listen, dir, spec: self.spec.clone(), timeouts, resumes };
        let (sender, receiver) = std::sync::mpsc::channel();
        let token = cancel.clone();
        let ready = move |address| sender.send(address).unwrap();
        let thread = std::thread::spawn(move || serve(options, ready, token));
        let coordinator = receiver.recv().unwrap();
        let mut options = NodeOptions::new(self.memory);
        options.shared_memory = false;
        let (address, relay) = self.runtime.block_on(async {
            let node = Server::bind(LOOPBACK, options).await.unwrap();
            let behind = node.local_address().unwrap();
            tokio::spawn(node.run(cancel.clone()));
            Relay::before(behind).await
        });
        let node = Control::new(coordinator);
        node.register("memory:data", 0, Some(address.to_string())).unwrap();
        let tasks = CancellationToken::new();
        self.life = Some(Life { coordinator, thread, relay, tasks, cancel });
    }

    fn end(&mut self) {
        let Some(life) = self.life.take() else { return };
        life.relay.opens.send_replace(true);
        life.cancel.cancel();
        life.thread.join().unwrap().unwrap();
    }

    /// Every task is asked to end.
    pub(crate) fn cancel_tasks(&self) {
        self.life().tasks.cancel();
    }

    fn life(&self) -> &Life {
        self.life.as_ref().unwrap()
    }

    pub(crate) fn dir(&self) -> RunDir {
        RunDir::at(self.folder.path().to_owned())
    }

    pub(crate) fn control(&self) -> Control {
        Control::new(self.life().coordinator)
    }

    /// A new process's.
    pub(crate) fn context(&self, task: &str, replica: u32) -> Context {
        let control = Arc::new(self.control());
        let member = control.register(task, replica, None).unwrap();
        let identity = Identity { task: task.to_owned(), replica, member };
        let (spec, runtime) = (self.spec.clone(), self.runtime.handle().clone());
        let cancel = self.life().tasks.clone();
        Context::new(identity, spec, self.dir(), control, runtime, Arc::default(), cancel)
    }

    /// So many records, of their index each, in objects of `packing`.
    pub(crate) fn write_set(&self, count: u64, packing: u32) {
        let writer = self.context("load", 0).write_set(SET).unwrap();
        let mut writer = writer.packing(packing).unwrap();
        (0..count).for_each(|n| writer.push(n.to_le_bytes().to_vec()).unwrap());
        writer.seal().unwrap();
    }

    pub(crate) fn set(&self) -> SetStatus {
        self.control().status().unwrap().sets.remove(SET).unwrap()
    }

    pub(crate) fn channel(&self) -> ChannelStatus {
        self.control().status().unwrap().channels.remove(CHANNEL).unwrap()
    }

    /// No answer of the node leaves until [`Rig::release`].
    pub(crate) fn hold(&self) {
        self.life().relay.opens.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.life().relay.opens.send_replace(true);
    }

    /// Whether the node has answered since [`Rig::hold`].
    pub(crate) fn is_holding(&self) -> bool {
        self.life().relay.holds.load(Ordering::SeqCst)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test's failure is what is to be seen.
            if let Some(life) = &self.life {
                life.cancel.cancel();
            }
            return;
        }
        self.end();
    }
}

impl Relay {
    async fn before(node: SocketAddr) -> (SocketAddr, Self) {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (opens, open) = watch::channel(true);
        let holds = Arc::new(AtomicBool::new(false));
        let held = holds.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let node = TcpStream::connect(node).await.unwrap();
                tokio::spawn(pass(client, node, open.clone(), held.clone()));
            }
        });
        (address, Self { opens, holds })
    }
}

async fn pass(
    client: TcpStream,
    node: TcpStream,
    mut open: watch::Receiver<bool>,
    holds: Arc<AtomicBool>,
) {
    let (mut asks, mut hears) = client.into_split();
    let (mut answers, mut told) = node.into_split();
    let there = tokio::spawn(async move { tokio::io::copy(&mut asks, &mut told).await });
    let mut buffer = vec![0; 64 << 10];
    // Either side's end, however it comes, ends both.
    while let Ok(len @ 1..) = answers.read(&mut buffer).await {
        if !*open.borrow() {
            holds.store(true, Ordering::SeqCst);
        }
        if open.wait_for(|open| *open).await.is_err()
            || hears.write_all(&buffer[..len]).await.is_err()
        {
            break;
        }
    }
    there.abort();
}

/// A worker that a test leads by the hand.
pub(crate) struct Hand {
    context: Context,
    member: MemberId,
}

impl Hand {
    pub(crate) fn new(rig: &Rig, replica: u32) -> Self {
        let context = rig.context("decode", replica);
        Self { member: context.member(), context }
    }

    /// Asks for up to 2 s.
    pub(crate) fn lease(&self) -> Option<Grant> {
        let control = self.context.control();
        match control.lease(self.member, SET, control.request()).unwrap() {
            LeaseAnswer::Granted(grant) => Some(grant),
            LeaseAnswer::Wait | LeaseAnswer::Ended => None,
        }
    }

    /// Stores `bytes` as each batch of the split, and commits them as `told`.
    pub(crate) fn commit(&self, grant: &Grant, bytes: &[u8], told: &[u8]) {
        let store = self.context.store().unwrap();
        let mut checksum = 0;
        for within in 0..grant.range.batches {
            let key = batch_key(CHANNEL, grant.split, grant.attempt, within);
            store.put(&key, bytes.to_vec()).unwrap();
            checksum = cirrus_store::checksum_of(checksum, told);
        }
        let (channel, batches) = (CHANNEL.to_owned(), grant.range.batches);
        let output = Output { channel, batches, bytes: bytes.len() as u64, checksum };
        self.context.control().commit(self.member, SET, grant, vec![output]).unwrap();
    }
}
