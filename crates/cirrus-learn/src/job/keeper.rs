//! The task that keeps cuts on a disk.
//!
//! Owns `keep`: a storage node in the run's folder, for as long as the training goes on. Knows
//! nothing of tables.
//! Invariant: what it acknowledged is there after it was killed.

use std::sync::Arc;
use std::time::Duration;

use cirrus::{ByteSize, Context};
use cirrus_store::segments::{Engine, Options};
use cirrus_store::server::{NodeOptions, Server};
use tokio_util::sync::CancellationToken;

use super::Args;
use super::board::{Board, Place, fresh_number, runtime};

/// Serves a folder of the run.
#[cirrus::task(cpu = 0.1, memory = "256MiB")]
pub(super) fn keep(ctx: Context, args: Args) -> cirrus::Result<()> {
    let runtime = runtime()?;
    let board = Board::new(&ctx)?;
    let mut options = Options::default();
    options.capacity = args.disk.bytes();
    let engine = Arc::new(Engine::open_folder(ctx.run_dir().join("cuts"), options)?);
    let mut node = NodeOptions::new(ByteSize::mib(128));
    node.engine = Some(engine);
    runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0", node).await?;
        let address = server.local_address().map(|address| address.to_string());
        let place = Place { address: address.unwrap_or_default(), life: fresh_number() };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.run(stop.clone()));
        board.announce_keeper(&place).await?;
        let mut seen = cirrus_store::Version(0);
        while !ctx.is_cancelled() {
            match board.later_order(seen, Duration::from_millis(500)).await? {
                Some((_, order)) if order.over => break,
                Some((version, _)) => seen = version,
                None => {}
            }
        }
        stop.cancel();
        match serving.await {
            Ok(served) => Ok(served?),
            Err(error) => Err(cirrus::Error::internal("the keeper's node").with_source(error)),
        }
    })
}
