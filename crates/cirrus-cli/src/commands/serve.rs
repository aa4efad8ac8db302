//! `cirrus serve`: a node for others to use.
//!
//! Owns starting it and ending it on a signal. Invariant: without a token it listens on loopback
//! addresses only.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;

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
}

/// A memory node.
#[derive(Debug, clap::Args)]
pub(crate) struct Memory {
    /// Where to listen, as HOST:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: String,
    /// How many bytes to hold, such as 8GiB: keys, values and overhead
    #[arg(long, value_name = "SIZE")]
    capacity: ByteSize,
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

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Self::Memory(memory) = self;
        let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).try_init();
        if memory.capacity.bytes() == 0 {
            return Err(Failure::input("a node of 0 B holds nothing; give --capacity 1GiB, say"));
        }
        let mut options = NodeOptions::new(memory.capacity);
        options.token = read_token(memory.token_file.as_deref())?;
        let threads = memory.threads.or_else(|| std::thread::available_parallelism().ok());
        options.threads = threads.map_or(1, NonZeroUsize::get);
        options.cluster = memory.cluster;
        options.shared_memory = !memory.no_shared_memory;
        let listen = resolve(&memory.listen)?;
        if options.token.is_empty() && !listen.ip().is_loopback() {
            return Err(Failure::input(format!(
                "refused to listen on {} for everybody: give --token-file FILE, or listen on \
                 127.0.0.1:{}",
                memory.listen,
                listen.port()
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::fault(format!("no runtime: {error}")))?;
        runtime.block_on(serve(listen, memory.capacity, options))
    }
}

/// The first address of HOST:PORT.
fn resolve(listen: &str) -> Result<SocketAddr, Failure> {
    let input = |why| Failure::input(format!("--listen {listen}: {why}; expected HOST:PORT"));
    let mut addresses = listen.to_socket_addrs().map_err(|error| input(error.to_string()))?;
    addresses.next().ok_or_else(|| input("this host has no address".to_owned()))
}

async fn serve(
    listen: SocketAddr,
    capacity: ByteSize,
    options: NodeOptions,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::fault(format!("cannot take signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let server = Server::bind(&listen.to_string(), options).await?;
    let address = server.local_address().unwrap_or(listen);
    crate::say(&format!("memory node of {capacity} on cirrus://{address}; Ctrl-C ends it"));
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
