//! Questions to every node of a pool: names and numbers.
//!
//! Owns the way of a scan from node to node. A node is asked only about slots that it holds, and
//! what it says of others is dropped. Invariant: a cursor only grows, and every slot is scanned on
//! one node.

use bytes::Bytes;
use futures_util::future::join_all;

use crate::client::Client;
use crate::client::call::Target;
use crate::client::pool::Lane;
use crate::error::{Error, Kind, Result};
use crate::key::{SLOTS, Slot};
use crate::view::NodeId;
use crate::wire::{Page, PageItem, Reply, Request};

/// Names that are asked for at once.
const PAGE_NAMES: u32 = 4096;

/// What a node says about itself.
#[derive(Debug)]
pub struct NodeReport {
    /// The node's number in the pool.
    pub id: NodeId,
    /// Where it is reached.
    pub address: String,
    /// Its numbers, as JSON, or why they could not be had.
    pub stats: Result<Bytes>,
}

impl Client {
    /// The first names with a prefix, at least `limit` unless they end or lie far apart; go on
    /// with the page's `next` until its slot is 16384. A page ends where a node's slots end, so an
    /// empty one is not the end. Names that are there for the whole scan are returned exactly once,
    /// as long as no slot moves meanwhile.
    pub async fn scan(&self, prefix: &[u8], from: (u16, u64), limit: u32) -> Result<Page> {
        let Some(slot) = Slot::new(from.0) else {
            return Ok(Page { items: Vec::new(), next: (SLOTS, 0) });
        };
        let routes = self.pool.routes();
        let (node, last) = routes.holder(slot)?;
        let prefix = Bytes::copy_from_slice(prefix);
        let mut request = Request::Scan { prefix, slot: from.0, hash: from.1, limit };
        let target = Target::Node(node.clone());
        match self.pool.call(target, &mut request, Lane::Large).await? {
            Reply::Page(page) if page.next > from => Ok(within(page, last)),
            _ => Err(Error::new(Kind::Protocol, "a scan was answered with something else")),
        }
    }

    /// Every name with a prefix, in no particular order.
    pub async fn list(&self, prefix: &[u8]) -> Result<Vec<PageItem>> {
        let mut names = Vec::new();
        let mut from = (0, 0);
        while from.0 < SLOTS {
            let page = self.scan(prefix, from, PAGE_NAMES).await?;
            names.extend(page.items);
            from = page.next;
        }
        Ok(names)
    }

    /// The numbers of the node that holds the first slot, as JSON.
    pub async fn stats(&self) -> Result<Bytes> {
        // The empty name falls into slot 0.
        stats(self, Target::Slot(Slot::of(b""))).await
    }

    /// The numbers of every node of the pool.
    pub async fn stats_of_nodes(&self) -> Vec<NodeReport> {
        let routes = self.pool.routes();
        join_all(routes.nodes.iter().map(async |node| NodeReport {
            id: node.id,
            address: node.address.clone(),
            stats: stats(self, Target::Node(node.clone())).await,
        }))
        .await
    }
}

/// The page without what lies beyond `last`, the last slot that concerns us.
pub(super) fn within(mut page: Page, last: u16) -> Page {
    if page.next.0 > last {
        page.items.retain(|item| item.key.slot().number() <= last);
        page.next = (last + 1, 0);
    }
    page
}

async fn stats(client: &Client, target: Target) -> Result<Bytes> {
    match client.pool.call(target, &mut Request::Stats, Lane::Small).await? {
        Reply::Stats(json) => Ok(json),
        _ => Err(Error::new(Kind::Protocol, "stats were answered with something else")),
    }
}
