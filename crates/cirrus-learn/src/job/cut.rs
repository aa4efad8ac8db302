//! Where does a cut lie, and how is it read?
//!
//! Owns the names of its objects and their transfer to and from the keeper. Knows no shards.
//! Invariant: a cut that is recorded is whole; the one before is removed only after that.

use std::time::Duration;

use bytes::Bytes;
use cirrus::{Context, Kind};
use cirrus_store::{Client, ClientOptions, Key};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::board::Board;

/// What a cut consists of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// Its number.
    pub(super) number: u64,
    /// Pieces of each shard.
    pub(super) pieces: Vec<u32>,
    pub(super) bytes: u64,
}

/// How long a keeper that is being started again is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The way to the keeper, through its restarts.
pub(super) struct Cuts<'a> {
    context: &'a Context,
    board: &'a Board,
    client: Option<(String, Client)>,
}

impl<'a> Cuts<'a> {
    pub(super) fn new(context: &'a Context, board: &'a Board) -> Self {
        Self { context, board, client: None }
    }

    pub(super) async fn put_head(
        &mut self,
        cut: u64,
        shard: usize,
        head: Bytes,
    ) -> cirrus::Result<()> {
        self.put(&head_name(cut, shard), head).await
    }

    pub(super) async fn put_piece(
        &mut self,
        (cut, shard): (u64, usize),
        piece: u32,
        bytes: Bytes,
    ) -> cirrus::Result<()> {
        self.put(&piece_name(cut, shard, piece), bytes).await
    }

    pub(super) async fn head(&mut self, cut: u64, shard: usize) -> cirrus::Result<Bytes> {
        self.get(&head_name(cut, shard)).await
    }

    pub(super) async fn piece(
        &mut self,
        (cut, shard): (u64, usize),
        piece: u32,
    ) -> cirrus::Result<Bytes> {
        self.get(&piece_name(cut, shard, piece)).await
    }

    /// Removes the objects of a cut; what of it is gone already is no error.
    pub(super) async fn remove(&mut self, cut: &Cut) -> cirrus::Result<()> {
        let mut names = Vec::new();
        for (shard, pieces) in cut.pieces.iter().enumerate() {
            names.push(head_name(cut.number, shard));
            names.extend((0..*pieces).map(|piece| piece_name(cut.number, shard, piece)));
        }
        let keys = names.iter().map(|name| Key::try_from(name.as_str()));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let client = self.client().await?;
        for removed in client.delete_many(&keys).await {
            match removed {
                Err(error) if error.kind() != cirrus_store::Kind::NotFound => {
                    return Err(error.into());
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    async fn put(&mut self, name: &str, bytes: Bytes) -> cirrus::Result<()> {
        let key = Key::try_from(name)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let client = self.client().await?;
            match client.put(&key, bytes.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => self.lost(name, error, until).await?,
            }
        }
    }

    async fn get(&mut self, name: &str) -> cirrus::Result<Bytes> {
        let key = Key::try_from(name)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let client = self.client().await?;
            match client.get(&key).await {
                Ok(object) => return Ok(object.value),
                Err(error) => self.lost(name, error, until).await?,
            }
        }
    }

    /// Whether it makes sense to try again: the same bytes may be put any number of times.
    async fn lost(
        &mut self,
        name: &str,
        error: cirrus_store::Error,
        until: Instant,
    ) -> cirrus::Result<()> {
        let may_pass = error.is_retryable() || error.kind() == cirrus_store::Kind::Unknown;
        if !may_pass || Instant::now() >= until || self.context.is_cancelled() {
            let text = format!("the keeper of cuts, object {name}");
            return Err(cirrus::Error::from(error).context(text));
        }
        self.client = None;
        sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    async fn client(&mut self) -> cirrus::Result<Client> {
        let until = Instant::now() + PATIENCE;
        loop {
            let place = self.board.keeper().await?;
            match (place, &self.client) {
                (Some(place), Some((address, client))) if *address == place.address => {
                    return Ok(client.clone());
                }
                (Some(place), _) => {
                    let mut options = ClientOptions::default();
                    options.connect_timeout = Duration::from_secs(1);
                    options.request_timeout = Duration::from_secs(10);
                    let client = Client::new(&place.address, options);
                    self.client = Some((place.address, client));
                }
                (None, _) if self.context.is_cancelled() => {
                    return Err(cirrus::Error::new(Kind::Cancelled, "waiting for the keeper"));
                }
                (None, _) if Instant::now() >= until => {
                    return Err(cirrus::Error::unavailable("the keeper of cuts did not start"));
                }
                (None, _) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

fn head_name(cut: u64, shard: usize) -> String {
    format!("cut/{cut}/{shard}/head")
}

fn piece_name(cut: u64, shard: usize, piece: u32) -> String {
    format!("cut/{cut}/{shard}/{piece}")
}
