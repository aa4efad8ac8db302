//! The task that holds a part of the parameters.
//!
//! Owns `shard`: a memory node with one table, and what the chief orders of it. Knows no examples.
//! Invariant: a shard does what is ordered of its own life only; one that comes back waits until it
//! is told from which cut.

use std::time::Duration;

use cirrus::{Context, Kind};
use cirrus_store::Version;
use cirrus_store::server::{NodeHandle, NodeOptions, Server};
use tokio_util::sync::CancellationToken;

use super::board::{Board, Done, Order, Place, fresh_number, runtime};
use super::cut::Cuts;
use super::{Args, table_name, table_spec};
use crate::models::Model;

/// Holds its range of rows.
#[cirrus::task(cpu = 1, memory = "1GiB", replicas = 1..=64)]
pub(super) fn shard(ctx: Context, args: Args) -> cirrus::Result<()> {
    let runtime = runtime()?;
    let board = Board::new(&ctx)?;
    let life = fresh_number();
    runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0", NodeOptions::new(args.shard_memory)).await?;
        let address = server.local_address().map(|address| address.to_string());
        let place = Place { address: address.unwrap_or_default(), life };
        let (stop, node) = (CancellationToken::new(), server.handle());
        let serving = tokio::spawn(server.run(stop.clone()));
        let number = ctx.replica() as usize;
        board.announce_shard(number, &place).await?;
        let model = args.kind.model(&args, &board.facts(&ctx).await?);
        let model = model.as_ref();
        let mut shard = Shard { ctx: &ctx, args: &args, board: &board, model, node, number, life };
        let obeyed = shard.obey().await;
        stop.cancel();
        let served = serving.await;
        obeyed?;
        match served {
            Ok(served) => Ok(served?),
            Err(error) => Err(cirrus::Error::internal("a shard's node").with_source(error)),
        }
    })
}

struct Shard<'a> {
    ctx: &'a Context,
    args: &'a Args,
    board: &'a Board,
    model: &'a dyn Model,
    node: NodeHandle,
    number: usize,
    life: u64,
}

impl Shard<'_> {
    /// Does what is ordered until the training is over.
    async fn obey(&mut self) -> cirrus::Result<()> {
        let mut seen = Version(0);
        let mut done = Done { life: self.life, ..Done::default() };
        while !self.ctx.is_cancelled() {
            let patience = Duration::from_millis(500);
            let Some((version, order)) = self.board.later_order(seen, patience).await? else {
                continue;
            };
            seen = version;
            if order.over {
                return Ok(());
            }
            if order.lives.get(self.number) != Some(&self.life) {
                continue;
            }
            self.carry_out(&order, &mut done).await?;
            self.board.tell_done(self.number, &done).await?;
        }
        Err(cirrus::Error::new(Kind::Cancelled, "holding parameters"))
    }

    async fn carry_out(&self, order: &Order, done: &mut Done) -> cirrus::Result<()> {
        let table = table_name()?;
        if order.generation > done.generation {
            let mut cuts = Cuts::new(self.ctx, self.board);
            match order.from {
                None => {
                    let spec = table_spec(self.args, self.model, self.number, order.generation)?;
                    self.node.begin_table(&table, spec)?.finish();
                }
                Some(cut) => {
                    let head = cuts.head(cut, self.number).await?;
                    let mut restore = self.node.restore_table(&table, &head, order.generation)?;
                    for piece in 0..order.pieces.get(self.number).copied().unwrap_or_default() {
                        restore.piece(&cuts.piece((cut, self.number), piece).await?)?;
                    }
                    restore.finish();
                }
            }
            done.generation = order.generation;
        }
        if order.cut > done.cut {
            let mut cuts = Cuts::new(self.ctx, self.board);
            let kept = self.node.freeze_table(&table)?;
            let (mut pieces, mut bytes) = (0, 0);
            for piece in kept.pieces() {
                bytes += piece.len() as u64;
                cuts.put_piece((order.cut, self.number), pieces, piece).await?;
                pieces += 1;
            }
            cuts.put_head(order.cut, self.number, kept.head()).await?;
            (done.cut, done.pieces, done.bytes) = (order.cut, pieces, bytes);
        }
        self.node.forget_splits_before(&table, order.floor)?;
        Ok(())
    }
}
