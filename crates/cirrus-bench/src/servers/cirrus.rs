//! A node of Cirrus on one event loop, as `cirrus serve memory` and `cirrus serve storage` run it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cirrus_store::segments::{self, Engine};
use cirrus_store::server::{NodeOptions, Server};
use cirrus_units::ByteSize;
use tokio_util::sync::CancellationToken;

use crate::servers::launch::Launch;
use crate::servers::{Instance, Kind};

/// Serves a node, until it is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Cirrus {
    /// Bytes that it may hold
    #[arg(long, default_value = "8GiB")]
    capacity: ByteSize,
    /// Where a storage node keeps its objects; without it this is a memory node
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Cirrus {
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("no runtime")?.block_on(async {
            let mut options = NodeOptions::new(self.capacity);
            if let Some(folder) = self.dir {
                let engine = Engine::open_folder(folder, segments::Options::default())?;
                options.engine = Some(Arc::new(engine));
            }
            let server = Server::bind("127.0.0.1:0", options).await?;
            let address = server.local_address().context("a TCP listener has an address")?;
            writeln!(std::io::stdout(), "{address}").context("stdout")?;
            Ok(server.run(CancellationToken::new()).await?)
        })
    }
}

pub(super) fn start(launch: &Launch) -> Result<Instance> {
    started(launch, Kind::Cirrus, &[])
}

pub(super) fn start_durable(launch: &Launch, folder: &Path) -> Result<Instance> {
    started(launch, Kind::Storage, &["--dir", &folder.display().to_string()])
}

fn started(launch: &Launch, kind: Kind, arguments: &[&str]) -> Result<Instance> {
    let (child, address) = launch.own(&[&["cirrus"], arguments].concat())?;
    let version = format!("cirrus {}", env!("CARGO_PKG_VERSION"));
    Instance::started(kind, version, child, address)
}
