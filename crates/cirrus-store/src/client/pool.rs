//! The nodes that a client talks to.
//!
//! Owns the connections, in two lanes a node: one for small frames and one for large ones, so that a
//! small get never waits behind a large one. To a node of the same host the small lane shares memory
//! where it can; the large one stays with TCP, which copies faster than a Unix socket. Connects when first needed and again when a connection
//! has failed. Finding an open connection is one short lock and takes no allocation. Invariant: each
//! place of a lane has at most one connection, open or being opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::ClientOptions;
use crate::client::connection::Connection;
use crate::client::left::Left;
use crate::client::near::Windows;
use crate::client::session::Session;
use crate::client::sizes::Sizes;
use crate::client::views::Views;
use crate::error::{Error, Kind, Result};
use crate::key::Slot;
use crate::transport::{Buffers, Endpoint};
use crate::view::{NodeId, View};

/// Payloads of more bytes than this go over the lane for large ones.
pub(super) const SMALL_BYTES_MAX: u32 = 64 * 1024;

/// Values that are put while they are made, at a time.
const UPLOADS_MAX: usize = 8;

/// Which of a node's connections carry a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Small,
    Large,
}

/// A node and the connections to it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) address: String,
    small: Vec<Place>,
    large: Vec<Place>,
    /// Its memory, where it is shared.
    pub(super) windows: Windows,
}

/// Where a connection stands.
#[derive(Debug, Default)]
struct Place {
    open: Mutex<Option<Arc<Connection>>>,
    opening: tokio::sync::Mutex<()>,
    /// Callers who wait until it is open.
    waiting: AtomicUsize,
}

impl Place {
    /// How much waits for it already: a connection that has yet to be opened counts as half a call.
    fn load(&self, open: Option<&Arc<Connection>>) -> usize {
        match open {
            Some(connection) => 2 * connection.load(),
            None => 1 + 2 * self.waiting.load(Ordering::Relaxed),
        }
    }

    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    fn open(&self) -> Option<Arc<Connection>> {
        self.open.lock().as_ref().filter(|connection| !connection.is_closed()).cloned()
    }
}

/// A caller who waits until a place's connection is open.
struct Waiting<'a>(&'a Place);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    fn new(id: NodeId, address: String, options: &ClientOptions) -> Self {
        let places = |count: usize| std::iter::repeat_with(Place::default).take(count.max(1));
        let small = places(options.small_connections).collect();
        let large = places(options.large_connections).collect();
        Self { id, address, small, large, windows: Windows::default() }
    }

    fn lane(&self, lane: Lane) -> &[Place] {
        match lane {
            Lane::Small => &self.small,
            Lane::Large => &self.large,
        }
    }

    /// The place with the fewest open calls and its connection. One that stands open comes before
    /// one that has yet to be opened, as long as nobody calls over it.
    fn least_loaded(&self, lane: Lane) -> (&Place, Option<Arc<Connection>>) {
        let places = self.lane(lane);
        let mut best = (&places[0], places[0].open());
        if places.len() == 1 {
            return best;
        }
        let mut least = best.0.load(best.1.as_ref());
        for place in &places[1..] {
            let open = place.open();
            let load = place.load(open.as_ref());
            if load < least {
                least = load;
                best = (place, open);
            }
        }
        best
    }

    /// An open connection that is not busier than the others, if the lane has that.
    pub(super) fn ready(&self, lane: Lane) -> Option<Arc<Connection>> {
        self.least_loaded(lane).1
    }
}

/// A view, and the connections to its nodes.
#[derive(Debug)]
pub(super) struct Routes {
    pub(super) epoch: u32,
    pub(super) nodes: Vec<Arc<Node>>,
    /// Runs of slots, ascending: the last slot of each and its holder's place in `nodes`.
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    first: u16,
    last: u16,
    node: usize,
}

impl Routes {
    /// Takes nodes over that the view before had at the same address.
    fn new(view: View, before: &[Arc<Node>], options: &ClientOptions) -> Self {
        let View { epoch, nodes, slots } = view;
        let nodes: Vec<Arc<Node>> = nodes
            .into_iter()
            .map(|node| {
                let same = |old: &&Arc<Node>| old.address == node.address && old.id == node.id;
                match before.iter().find(same) {
                    Some(old) => old.clone(),
                    None => Arc::new(Node::new(node.id, node.address, options)),
                }
            })
            .collect();
        let place = |id| nodes.iter().position(|node| node.id == id);
        let runs = slots.into_iter().filter_map(|range| {
            place(range.node).map(|node| Run { first: range.first, last: range.last, node })
        });
        let runs = runs.collect();
        Self { epoch, nodes, runs }
    }

    /// The node that holds `slot`, and the last slot of the run that it lies in.
    pub(super) fn holder(&self, slot: Slot) -> Result<(&Arc<Node>, u16)> {
        let at = self.runs.partition_point(|run| run.last < slot.number());
        match self.runs.get(at).filter(|run| run.first <= slot.number()) {
            Some(run) => Ok((&self.nodes[run.node], run.last)),
            None => Err(Error::new(Kind::Moved, format!("no node holds slot {}", slot.number()))),
        }
    }
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) options: ClientOptions,
    pub(super) session: Session,
    pub(super) sizes: Sizes,
    /// Of all connections, for large payloads.
    pub(super) buffers: Buffers,
    /// Turns of values that are put while they are made: each has a connection.
    pub(super) uploads: Semaphore,
    views: Arc<dyn Views>,
    routes: Mutex<Arc<Routes>>,
    refresh: tokio::sync::Mutex<()>,
    pub(super) closed: CancellationToken,
    /// The tasks of the connections.
    pub(super) tasks: TaskTracker,
    pub(super) left: Left,
}

impl Pool {
    pub(super) fn new(views: Arc<dyn Views>, view: View, options: ClientOptions) -> Self {
        let routes = Routes::new(view, &[], &options);
        Self {
            buffers: Buffers::new(options.buffer_bytes_max),
            options,
            session: Session::new(),
            sizes: Sizes::new(),
            uploads: Semaphore::new(UPLOADS_MAX),
            views,
            routes: Mutex::new(Arc::new(routes)),
            refresh: tokio::sync::Mutex::new(()),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
            left: Left::default(),
        }
    }

    pub(super) fn routes(&self) -> Arc<Routes> {
        self.routes.lock().clone()
    }

    /// Gets a view that is newer than `epoch`, once for all callers that ask meanwhile.
    pub(super) async fn refresh(&self, epoch: u32) -> Result<()> {
        let _one_at_a_time = self.refresh.lock().await;
        let routes = self.routes();
        if routes.epoch > epoch {
            return Ok(());
        }
        let view = self.views.newer_than(epoch).await?.validated()?;
        if view.epoch <= epoch {
            let text = format!("a view newer than {epoch} was asked for, and {} came", view.epoch);
            return Err(Error::new(Kind::Protocol, text));
        }
        *self.routes.lock() = Arc::new(Routes::new(view, &routes.nodes, &self.options));
        Ok(())
    }

    pub(super) fn endpoint(&self, node: &Node) -> Endpoint {
        match &self.options.network {
            Some(network) => Endpoint::Sim(network.clone(), node.address.clone()),
            None => Endpoint::Tcp(node.address.clone()),
        }
    }

    /// An open connection to the node; opens one where that is wanted.
    pub(super) async fn connection(&self, node: &Node, lane: Lane) -> Result<Arc<Connection>> {
        let (place, open) = node.least_loaded(lane);
        if let Some(open) = open {
            return Ok(open);
        }
        let _waiting = place.wait();
        let _one_at_a_time = place.opening.lock().await;
        if let Some(open) = place.open() {
            return Ok(open);
        }
        let connection = Arc::new(Connection::open(node, lane, self).await?);
        *place.open.lock() = Some(connection.clone());
        Ok(connection)
    }

    /// Ends every call and every connection, for good.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
