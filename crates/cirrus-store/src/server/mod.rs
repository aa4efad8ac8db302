//! The memory node: the program that holds objects.
//!
//! Owns accepting connections and their end; `loops` owns where they are served, `node` what
//! happens to objects. Never imports the client. Invariant: every connection's task is joined
//! before [`Server::run`] returns.

mod arena;
mod connection;
mod disk;
mod keyspace;
mod loops;
mod memory;
mod node;
mod operations;
mod pins;
pub mod resp;
mod session;
mod settling;
mod stats;
mod tables;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use cirrus_units::ByteSize;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::segments::Engine;
use crate::server::connection::{Connection, HELLO_TIMEOUT};
use crate::server::loops::{Loops, Serve};
use crate::server::node::Node;
use crate::server::pins::Sharing;
pub use crate::server::stats::NodeStats;
pub use crate::server::tables::{TableRestore, TableSnapshot, table_rows};
use crate::table::TableSpec;
use crate::token::Token;
use crate::transport::{self, Incoming, Link, Listener};
use crate::view::{NodeId, View};
use crate::wire::{Fault, Limits, MAGIC};

/// What clients of this host may pin, unless the options say otherwise: a quarter of the capacity.
const PINNED_SHARE: u64 = 4;

/// How a node behaves. [`NodeOptions::new`] gives the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeOptions {
    /// Bytes that it may hold: keys, values, checksums and overhead.
    pub capacity: ByteSize,
    /// What it accepts of its clients.
    pub limits: Limits,
    /// The secret that clients must show; empty asks for none.
    pub token: Token,
    /// Event loops: the caller's runtime is one, each further one is a thread. Default 1.
    pub threads: usize,
    /// Connections beyond this many are closed at once. Default 10,000.
    pub connections_max: u64,
    /// How long the results of a client without connections are kept. Default ten minutes.
    pub session_idle: Duration,
    /// How often expired objects and idle sessions are looked for. Default one second.
    pub sweep_interval: Duration,
    /// Whether RESP clients are told of the pool's other nodes, as by Redis Cluster: commands on
    /// keys of several slots are refused then. Default no.
    pub cluster: bool,
    /// Whether clients of the same host and user may read large values where they lie. Over TCP
    /// everything stays as it is. Default yes.
    pub shared_memory: bool,
    /// Bytes of values that they may hold so; beyond, values are copied. Replaced or removed, such
    /// a value takes room until its last reader lets it go. Default a quarter of the capacity.
    pub pinned_bytes_max: Option<ByteSize>,
    /// The name of this life; by default the time of its start, in nanoseconds since 1970. Versions
    /// begin with it, so that of a later life is larger.
    pub incarnation: Option<u64>,
    /// The disk behind the node's memory: with a durable engine it is a storage node, whose writes
    /// are answered when they are on the disk; with one that is not, a memory node that puts on the
    /// disk what does not fit into its capacity. Default none.
    pub engine: Option<Arc<Engine>>,
}

impl NodeOptions {
    /// The defaults, for a node of this capacity.
    pub fn new(capacity: ByteSize) -> Self {
        Self {
            capacity,
            limits: Limits::default(),
            token: Token::default(),
            threads: 1,
            connections_max: 10_000,
            session_idle: Duration::from_secs(600),
            sweep_interval: Duration::from_secs(1),
            cluster: false,
            shared_memory: true,
            pinned_bytes_max: None,
            incarnation: None,
            engine: None,
        }
    }
}

/// A node: it holds objects in this process's memory, and on a disk if it was given one.
#[derive(Debug)]
pub struct Server {
    node: Arc<Node>,
    listener: Listener,
    /// For clients of this host.
    beside: Option<Listener>,
}

impl Server {
    /// Binds `address`; port 0 takes a free one.
    pub async fn bind(address: &str, options: NodeOptions) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let text = format!("cannot listen on {address}; choose another address or port");
            Error::new(Kind::Invalid, text).with_source(error)
        })?;
        let mut node = Node::new(options).map_err(|error| {
            let text = "cannot reserve addresses for the node's memory; lower its capacity";
            Error::new(Kind::OutOfMemory, text).with_source(error)
        })?;
        node.keyspace.open(node.incarnation)?;
        let beside = match node.options.shared_memory {
            true => beside(&mut node, &listener)
                .inspect_err(|error| warn!("clients of this host use TCP: {error}"))
                .ok(),
            false => None,
        };
        Ok(Self { node: Arc::new(node), listener: Listener::Tcp(listener), beside })
    }

    /// A node that is reached through `listener`.
    ///
    /// # Panics
    /// When the addresses for its memory cannot be reserved, or its disk cannot be read;
    /// [`Server::bind`] returns an error.
    pub fn on(listener: Listener, options: NodeOptions) -> Self {
        let node = Node::new(options).expect("addresses for its memory");
        node.keyspace.open(node.incarnation).expect("names from the disk");
        Self { node: Arc::new(node), listener, beside: None }
    }

    /// Where it listens; `None` in a simulated network.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.listener.local_address()
    }

    /// A handle to the running node.
    pub fn handle(&self) -> NodeHandle {
        NodeHandle(self.node.clone())
    }

    /// Serves until `cancel` is called; then closes every connection, and its disk, and returns. An
    /// error means that it could not begin, or that the disk could not be closed.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<()> {
        // A simulated network lives in the caller's runtime, whose time it shares.
        let threads = match self.listener {
            Listener::Tcp(_) => self.node.options.threads,
            Listener::Shm(_) | Listener::Sim(_) => 1,
        };
        let served = Served { node: self.node.clone(), cancel: cancel.clone() };
        let mut loops = Loops::start(threads, served, &cancel)?;
        let node = self.node.clone();
        let mut mending = pin!(node.mend());
        let mut sweep = tokio::time::interval(self.node.options.sweep_interval);
        loop {
            tokio::select! {
                accepted = accept(&mut self.listener, &mut self.beside) => match accepted {
                    Ok(incoming) => loops.hand_out(incoming),
                    Err(error) if cancel.is_cancelled() => debug!("stopped listening: {error}"),
                    // Who came has left already.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    // Out of descriptors, for example: the ones that are open go on.
                    Err(error) => {
                        warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                () = loops.ended() => {}
                _ = sweep.tick() => self.node.sweep(),
                () = &mut mending => {}
                () = cancel.cancelled() => break,
            }
        }
        loops.join().await;
        match &self.node.options.engine {
            Some(engine) => engine.finish(),
            None => Ok(()),
        }
    }
}

/// The socket for clients of this host, beside the one of a node that listens over TCP.
fn beside(node: &mut Node, listener: &TcpListener) -> std::io::Result<Listener> {
    let beside = transport::listen(node.incarnation, listener.local_addr()?.port())?;
    let file = node.keyspace.extents().reader()?.ok_or(ErrorKind::Unsupported)?;
    let default = ByteSize::new(node.options.capacity.bytes() / PINNED_SHARE);
    let pinned_bytes_max = node.options.pinned_bytes_max.unwrap_or(default);
    node.sharing = Some(Sharing::new(file, pinned_bytes_max.bytes()));
    Ok(Listener::Shm(beside))
}

/// The next peer, wherever it comes in.
async fn accept(
    listener: &mut Listener,
    beside: &mut Option<Listener>,
) -> std::io::Result<Incoming> {
    match beside {
        None => listener.accept().await,
        Some(beside) => tokio::select! {
            accepted = listener.accept() => accepted,
            accepted = beside.accept() => accepted,
        },
    }
}

/// What serves each connection.
#[derive(Debug, Clone)]
struct Served {
    node: Arc<Node>,
    cancel: CancellationToken,
}

impl Serve for Served {
    async fn beside(self, number: usize) {
        self.node.wake(number).await;
    }

    async fn serve(self, incoming: Incoming) {
        let Self { node, cancel } = self;
        let _counted = Counted::new(node.clone());
        if node.connections.load(Ordering::Relaxed) > node.options.connections_max {
            warn!("refused a connection: {} are open", node.options.connections_max);
            return;
        }
        let opened = async {
            let link = incoming.open().map_err(|error| {
                Error::new(Kind::Closed, "a connection was lost").with_source(error)
            })?;
            open(&node, link).await
        };
        let opened = tokio::select! {
            opened = opened => opened,
            () = cancel.cancelled() => Err(Error::new(Kind::Closed, "stopping")),
        };
        match opened {
            Ok(Opened::Native(connection)) => connection.run(cancel).await,
            Ok(Opened::Resp(link, first)) => resp::serve(node, link, first, cancel).await,
            Err(error) => debug!("no connection: {error}"),
        }
    }
}

/// A connection, by the protocol that it speaks.
enum Opened {
    Native(Box<Connection>),
    Resp(Link, BytesMut),
}

/// The first byte of a TLS record, which nothing here answers.
const TLS: u8 = 0x16;

/// Reads the first byte, which says what the client speaks.
async fn open(node: &Arc<Node>, mut link: Link) -> Result<Opened> {
    let mut first = BytesMut::new();
    let closed =
        |error| Error::new(Kind::Closed, "closed before its first byte").with_source(error);
    let read = link.reader.read_buf(&mut first);
    match timeout(HELLO_TIMEOUT, read).await {
        Ok(read) => drop(read.map_err(closed)?),
        Err(_) => return Err(Error::new(Kind::Timeout, "the client said nothing")),
    }
    match first.first() {
        None => Err(Error::new(Kind::Closed, "closed before its first byte")),
        Some(&TLS) => Err(Error::new(Kind::Protocol, "the client speaks TLS")),
        Some(byte) if *byte == MAGIC[0] => Connection::open(node.clone(), link, first)
            .await
            .map(|native| Opened::Native(Box::new(native))),
        Some(_) => Ok(Opened::Resp(link, first)),
    }
}

/// Counts an open connection for as long as it lives.
struct Counted(Arc<Node>);

impl Counted {
    fn new(node: Arc<Node>) -> Self {
        node.connections.fetch_add(1, Ordering::Relaxed);
        Self(node)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A handle to a running node.
#[derive(Debug, Clone)]
pub struct NodeHandle(Arc<Node>);

impl NodeHandle {
    /// The node takes up `view`, in which it is `id`, unless its own is as new.
    pub fn set_view(&self, id: NodeId, view: View) {
        self.0.set_view(id, view);
    }

    /// This life of the node.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// All of a table as it is now; it goes on meanwhile.
    pub fn freeze_table(&self, name: &Key) -> Result<TableSnapshot> {
        self.0.tables.freeze(name).map_err(|fault| table_failed(name, fault))
    }

    /// Begins a table without rows, which takes the place of one of this name.
    pub fn begin_table(&self, name: &Key, spec: TableSpec) -> Result<TableRestore> {
        Ok(TableRestore::empty(self.0.tables.clone(), name.clone(), spec.validated()?))
    }

    /// Begins to bring a table back, from the head of a snapshot, as one of this generation.
    pub fn restore_table(&self, name: &Key, head: &[u8], generation: u64) -> Result<TableRestore> {
        TableRestore::new(self.0.tables.clone(), name.clone(), head, generation)
    }

    /// Minibatches of splits before this one will never be sent again, except late.
    pub fn forget_splits_before(&self, name: &Key, split: u64) -> Result<()> {
        self.0.tables.forget_before(name, split).map_err(|fault| table_failed(name, fault))
    }

    /// The node's own numbers.
    pub fn stats(&self) -> NodeStats {
        self.0.stats()
    }
}

fn table_failed(name: &Key, fault: Fault) -> Error {
    let text = match fault.kind {
        Kind::NotFound => format!("there is no table {name:?}"),
        kind => format!("table {name:?}: {kind:?}"),
    };
    Error::new(fault.kind, text).with_detail(fault.detail)
}
