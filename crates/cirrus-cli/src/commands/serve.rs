//! `cirrus serve`: a node for others to use.
//!
//! Owns starting it and ending it on a signal. Invariant: without a token it listens on loopback
//! addresses only; a damaged store is not served.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cirrus_store::segments::{Bucket as _, Engine, ObjectBucket};
use cirrus_store::server::{NodeOptions, Server};
use cirrus_units::ByteSize;
use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::commands::objects::read_token;
use crate::failure::Failure;

/// What to serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Serve {
    /// Hold objects in this process's memory
    Memory(Memory),
    /// Hold objects on a disk: what was acknowledged survives a crash and a power cut
    Storage(Storage),
}

/// A node, of either kind.
#[derive(Debug, clap::Args)]
struct Node {
    /// Where to listen, as HOST:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: String,
    /// Event loops, one thread each [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Clients must show the secret in this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Tell Redis clients of the pool's other nodes, as Redis Cluster does
    #[arg(long)]
    cluster: bool,
    /// Copy large values for clients of this host, too, and share no memory
    #[arg(long)]
    no_shared_memory: bool,
}

/// A memory node.
#[derive(Debug, clap::Args)]
pub(crate) struct Memory {
    #[command(flatten)]
    node: Node,
    /// How many bytes to hold, such as 8GiB: keys, values and overhead
    #[arg(long, value_name = "SIZE")]
    capacity: ByteSize,
    /// Put values that do not fit into this folder, which is emptied at each start
    #[arg(long, value_name = "DIR")]
    spill: Option<PathBuf>,
    /// Bytes to put there at most [default: ten times the capacity]
    #[arg(long, value_name = "SIZE", requires = "spill")]
    spill_capacity: Option<ByteSize>,
}

/// A storage node.
#[derive(Debug, clap::Args)]
pub(crate) struct Storage {
    #[command(flatten)]
    node: Node,
    /// The folder that objects lie in; made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How many bytes to take on the disk, such as 100GiB: objects, their index and garbage
    #[arg(long, value_name = "SIZE")]
    capacity: ByteSize,
    /// How many bytes of memory to take for names and values in use [default: a quarter of the
    /// capacity, at most 1GiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// The bucket to move objects to when the disk is short: s3://BUCKET/FOLDER, gs://, az://,
    /// http:// (WebDAV) or file:///FOLDER, with credentials from AWS_…, GOOGLE_… or AZURE_…
    #[arg(long, value_name = "URL")]
    cold: Option<String>,
}

/// The most memory that a storage node takes unless it is told to.
const STORAGE_MEMORY_DEFAULT: ByteSize = ByteSize::gib(1);

/// The least that a segment, an index and deletes need.
const DISK_CAPACITY_MIN: ByteSize = ByteSize::mib(16);

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).try_init();
        match self {
            Self::Memory(memory) => memory.run(),
            Self::Storage(storage) => storage.run(),
        }
    }
}

impl Memory {
    fn run(self) -> Result<(), Failure> {
        let capacity = self.capacity;
        if capacity.bytes() == 0 {
            return Err(Failure::input("a node of 0 B holds nothing; give --capacity 1GiB, say"));
        }
        let mut options = self.node.options(capacity)?;
        let mut what = format!("memory node of {capacity}");
        if let Some(dir) = self.spill {
            let ten_times = ByteSize::new(capacity.bytes().saturating_mul(10));
            let size = self.spill_capacity.unwrap_or(ten_times);
            options.engine = Some(engine(&dir, size, capacity, Kept::No)?);
            what = format!("{what}, {size} more in {}", dir.display());
        }
        self.node.serve(&what, options)
    }
}

impl Storage {
    fn run(self) -> Result<(), Failure> {
        let quarter = ByteSize::new(self.capacity.bytes() / 4);
        let memory = self.memory.unwrap_or(quarter.min(STORAGE_MEMORY_DEFAULT));
        if memory.bytes() == 0 {
            return Err(Failure::input("names need memory; give --memory 1GiB, say"));
        }
        let mut options = self.node.options(memory)?;
        let bucket = self.cold.as_deref().map(ObjectBucket::from_url).transpose()?.map(Arc::new);
        let mut what = format!("storage node of {} in {}", self.capacity, self.dir.display());
        if let Some(bucket) = &bucket {
            what = format!("{what}, more in {}", bucket.name());
        }
        let kept = Kept::Yes(bucket);
        options.engine = Some(engine(&self.dir, self.capacity, memory, kept)?);
        self.node.serve(&format!("{what}, {memory} of memory,"), options)
    }
}

/// Whether what is on the disk outlives the node, and where it goes when the disk is short.
enum Kept {
    No,
    Yes(Option<Arc<ObjectBucket>>),
}

fn engine(
    dir: &Path,
    capacity: ByteSize,
    memory: ByteSize,
    kept: Kept,
) -> Result<Arc<Engine>, Failure> {
    if capacity < DISK_CAPACITY_MIN {
        let text =
            format!("{capacity} on the disk is too little; give at least {DISK_CAPACITY_MIN}");
        return Err(Failure::input(text));
    }
    let mut options = cirrus_store::segments::Options::default();
    options.capacity = capacity.bytes();
    match kept {
        Kept::No => options.durable = false,
        Kept::Yes(bucket) => options.cold = bucket.map(|bucket| bucket as _),
    }
    // Beside the memory that was asked for, and small beside it.
    let index = usize::try_from(memory.bytes() / 8).unwrap_or(usize::MAX);
    options.index_cache_bytes = index.min(options.index_cache_bytes);
    options.hot_bytes = (index / 4).min(options.hot_bytes);
    Ok(Arc::new(Engine::open_folder(dir, options)?))
}

impl Node {
    fn options(&self, memory: ByteSize) -> Result<NodeOptions, Failure> {
        let mut options = NodeOptions::new(memory);
        options.token = read_token(self.token_file.as_deref())?;
        let threads = self.threads.or_else(|| std::thread::available_parallelism().ok());
        options.threads = threads.map_or(1, NonZeroUsize::get);
        options.cluster = self.cluster;
        options.shared_memory = !self.no_shared_memory;
        Ok(options)
    }

    fn serve(&self, what: &str, options: NodeOptions) -> Result<(), Failure> {
        let listen = resolve(&self.listen)?;
        if options.token.is_empty() && !listen.ip().is_loopback() {
            return Err(Failure::input(format!(
                "refused to listen on {} for everybody: give --token-file FILE, or listen on \
                 127.0.0.1:{}",
                self.listen,
                listen.port()
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::fault(format!("no runtime: {error}")))?;
        runtime.block_on(serve(listen, what, options))
    }
}

/// The first address of HOST:PORT.
fn resolve(listen: &str) -> Result<SocketAddr, Failure> {
    let input = |why| Failure::input(format!("--listen {listen}: {why}; expected HOST:PORT"));
    let mut addresses = listen.to_socket_addrs().map_err(|error| input(error.to_string()))?;
    addresses.next().ok_or_else(|| input("this host has no address".to_owned()))
}

async fn serve(listen: SocketAddr, what: &str, options: NodeOptions) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::fault(format!("cannot take signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let server = Server::bind(&listen.to_string(), options).await?;
    let address = server.local_address().unwrap_or(listen);
    crate::say(&format!("{what} on cirrus://{address}; Ctrl-C ends it"));
    let cancel = CancellationToken::new();
    let ended = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        ended.cancel();
    });
    Ok(server.run(cancel).await?)
}
