//! A memory node of Cirrus on one event loop, as `cirrus serve memory` runs it.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use cirrus_store::server::{NodeOptions, Server};
use cirrus_units::ByteSize;
use tokio_util::sync::CancellationToken;

use crate::servers::launch::Launch;
use crate::servers::{Instance, Kind};

/// Serves a memory node, until it is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Cirrus {
    /// Bytes that it may hold
    #[arg(long, default_value = "8GiB")]
    capacity: ByteSize,
}

impl Cirrus {
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("no runtime")?.block_on(async {
            let server = Server::bind("127.0.0.1:0", NodeOptions::new(self.capacity)).await?;
            let address = server.local_address().context("a TCP listener has an address")?;
            writeln!(std::io::stdout(), "{address}").context("stdout")?;
            Ok(server.run(CancellationToken::new()).await?)
        })
    }
}

pub(super) fn start(launch: &Launch) -> Result<Instance> {
    let (child, address) = launch.own(&["cirrus"])?;
    let version = format!("cirrus {}", env!("CARGO_PKG_VERSION"));
    Instance::started(Kind::Cirrus, version, child, address)
}
