//! Nodes and clients for the tests.

use std::sync::Arc;
use std::time::Duration;

use cirrus_store::segments::Engine;
use cirrus_store::segments::sim::{Loss, Plan, SimDisk};
use cirrus_store::server::{NodeHandle, NodeOptions, Server};
use cirrus_store::transport::{Endpoint, Listener, SimFaults, SimNetwork};
use cirrus_store::{ByteSize, Client, ClientOptions, Key};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running node.
pub(crate) struct Node {
    pub(crate) handle: NodeHandle,
    pub(crate) address: String,
    pub(crate) endpoint: Endpoint,
    network: Option<SimNetwork>,
    disk: Option<SimDisk>,
    options: NodeOptions,
    cancel: CancellationToken,
    task: JoinHandle<cirrus_store::Result<()>>,
}

impl Node {
    /// On a free port of the loopback, and nowhere else.
    pub(crate) async fn tcp(mut options: NodeOptions) -> Self {
        options.shared_memory = false;
        Self::tcp_at("127.0.0.1:0", options).await
    }

    /// On a free port of the loopback, with memory that clients share.
    pub(crate) async fn shm(mut options: NodeOptions) -> Self {
        options.shared_memory = true;
        Self::tcp_at("127.0.0.1:0", options).await
    }

    async fn tcp_at(address: &str, options: NodeOptions) -> Self {
        let server = Server::bind(address, options.clone()).await.unwrap();
        let address = server.local_address().unwrap().to_string();
        let endpoint = Endpoint::Tcp(address.clone());
        Self::start(server, address, endpoint, (None, options))
    }

    /// In a simulated network.
    pub(crate) fn sim(network: &SimNetwork, name: &str, options: NodeOptions) -> Self {
        let server = Server::on(Listener::Sim(network.listen(name)), options.clone());
        let endpoint = Endpoint::Sim(network.clone(), name.to_owned());
        Self::start(server, name.to_owned(), endpoint, (Some(network.clone()), options))
    }

    fn start(
        server: Server,
        address: String,
        endpoint: Endpoint,
        (network, options): (Option<SimNetwork>, NodeOptions),
    ) -> Self {
        let (handle, cancel) = (server.handle(), CancellationToken::new());
        let task = tokio::spawn(server.run(cancel.clone()));
        Self { handle, address, endpoint, network, disk: None, options, cancel, task }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address, self.client_options())
    }

    pub(crate) fn client_options(&self) -> ClientOptions {
        let mut options = ClientOptions::default();
        options.network.clone_from(&self.network);
        options
    }

    /// Stops it and waits until its connections have ended.
    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// A storage node on a simulated disk.
    pub(crate) async fn storage(options: NodeOptions, disk: SimDisk) -> Self {
        Self::storage_at("127.0.0.1:0", options, disk).await
    }

    async fn storage_at(address: &str, options: NodeOptions, disk: SimDisk) -> Self {
        let node = Self::tcp_at(address, on_disk(options, true, &disk)).await;
        Self { disk: Some(disk), ..node }
    }

    /// The power goes, in the midst of what it does; what is left of its disk starts again.
    async fn power_cut(self, disk: &SimDisk) -> Self {
        let (address, mut options) = (self.address.clone(), self.options.clone());
        disk.set_plan(Plan { cut_at: Some(1), ..Plan::default() });
        self.cancel.cancel();
        // It could not close its disk.
        let _ = self.task.await.unwrap();
        options.engine = None;
        Self::storage_at(&address, options, disk.power_cut(Loss::Tail, disk.calls())).await
    }

    /// Stops it and starts an empty one in its place; one with a disk starts as its disk was.
    pub(crate) async fn restarted(mut self) -> Self {
        if let Some(disk) = self.disk.take() {
            return self.power_cut(&disk).await;
        }
        let (address, options) = (self.address.clone(), self.options.clone());
        let network = self.network.clone();
        self.stop().await;
        match network {
            Some(network) => Self::sim(&network, &address, options),
            None => Self::tcp_at(&address, options).await,
        }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.handle.stats().used_bytes
    }
}

pub(crate) fn quiet() -> SimNetwork {
    SimNetwork::new(SimFaults::default())
}

pub(crate) fn options(capacity: ByteSize) -> NodeOptions {
    NodeOptions::new(capacity)
}

/// A node with a simulated disk behind its memory; `durable` makes it a storage node.
pub(crate) fn with_disk(options: NodeOptions, durable: bool) -> NodeOptions {
    on_disk(options, durable, &SimDisk::default())
}

pub(crate) fn on_disk(mut options: NodeOptions, durable: bool, disk: &SimDisk) -> NodeOptions {
    let mut engine = cirrus_store::segments::Options::default();
    engine.capacity = 4 << 30;
    engine.segment_bytes = 64 << 20;
    engine.durable = durable;
    let engine = Engine::open(Arc::new(disk.clone()), engine).unwrap();
    options.engine = Some(Arc::new(engine));
    options
}

pub(crate) fn key(text: impl Into<String>) -> Key {
    Key::try_from(text.into()).unwrap()
}

/// Bytes that differ from block to block and from seed to seed.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut value = Vec::with_capacity(len + 8);
    while value.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(len);
    value
}

/// Small random numbers that follow a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

impl Random {
    pub(crate) fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

/// Waits for a condition, with a deadline.
pub(crate) async fn until(what: &str, holds: impl FnMut() -> bool) {
    until_within(Duration::from_secs(20), what, holds).await;
}

pub(crate) async fn until_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + limit;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Bytes of this process's memory that are resident.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
