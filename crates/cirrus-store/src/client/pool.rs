//! The nodes that a client talks to.
//!
//! Owns the connections, two lanes a node: one for small frames and one for large ones, so that a
//! small get never waits behind a large one. Connects when first needed and again when a
//! connection has failed. Invariant: at most one connection is being opened for a lane at a time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::ClientOptions;
use crate::client::connection::Connection;
use crate::client::session::Session;
use crate::client::views::Views;
use crate::error::{Error, Kind, Result};
use crate::key::Slot;
use crate::transport::Endpoint;
use crate::view::View;

/// Payloads of more bytes than this go over the lane for large ones.
pub(super) const SMALL_BYTES_MAX: u32 = 64 * 1024;

/// Which of a node's connections carries a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Small,
    Large,
}

#[derive(Debug, Default)]
struct NodeLanes {
    small: tokio::sync::Mutex<Option<Arc<Connection>>>,
    large: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) options: ClientOptions,
    pub(super) session: Session,
    views: Arc<dyn Views>,
    view: Mutex<Arc<View>>,
    refresh: tokio::sync::Mutex<()>,
    nodes: Mutex<HashMap<String, Arc<NodeLanes>>>,
    pub(super) closed: CancellationToken,
    /// The tasks of the connections.
    pub(super) tasks: TaskTracker,
}

impl Pool {
    pub(super) fn new(views: Arc<dyn Views>, view: View, options: ClientOptions) -> Self {
        Self {
            options,
            session: Session::new(),
            views,
            view: Mutex::new(Arc::new(view)),
            refresh: tokio::sync::Mutex::new(()),
            nodes: Mutex::default(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.view.lock().clone()
    }

    /// Gets a view that is newer than `epoch`, once for all callers that ask meanwhile.
    pub(super) async fn refresh(&self, epoch: u32) -> Result<()> {
        let _one_at_a_time = self.refresh.lock().await;
        if self.view().epoch > epoch {
            return Ok(());
        }
        let view = self.views.newer_than(epoch).await?.validated()?;
        if view.epoch <= epoch {
            let text = format!("a view newer than {epoch} was asked for, and {} came", view.epoch);
            return Err(Error::new(Kind::Protocol, text));
        }
        let addresses: Vec<&String> = view.nodes.iter().map(|node| &node.address).collect();
        self.nodes.lock().retain(|address, _| addresses.contains(&address));
        *self.view.lock() = Arc::new(view);
        Ok(())
    }

    /// The address of the node that holds `slot`.
    pub(super) fn address(&self, slot: Slot) -> Result<String> {
        match self.view().holder(slot) {
            Some(node) => Ok(node.address.clone()),
            None => Err(Error::new(Kind::Moved, format!("no node holds slot {}", slot.number()))),
        }
    }

    /// An open connection to the node at `address`.
    pub(super) async fn connection(&self, address: &str, lane: Lane) -> Result<Arc<Connection>> {
        let node = self.nodes.lock().entry(address.to_owned()).or_default().clone();
        let mut open = match lane {
            Lane::Small => node.small.lock().await,
            Lane::Large => node.large.lock().await,
        };
        if let Some(connection) = open.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let endpoint = match &self.options.network {
            Some(network) => Endpoint::Sim(network.clone(), address.to_owned()),
            None => Endpoint::Tcp(address.to_owned()),
        };
        let connection = Connection::open(&endpoint, self).await?;
        Ok(open.insert(Arc::new(connection)).clone())
    }

    /// Ends every call and every connection, for good.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
