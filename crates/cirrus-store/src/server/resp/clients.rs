//! Who is connected: what CLIENT LIST shows, and how CLIENT KILL reaches it.
//!
//! Owns the table of open RESP connections. Knows nothing of what they do. Invariant: a card is in
//! the table for as long as its connection lives.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::server::node::unix_ms;

/// The open RESP connections of a node.
#[derive(Debug, Default)]
pub(in crate::server) struct Clients {
    last_id: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Card>>>,
}

/// What others may know of a connection.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) id: u64,
    pub(super) peer: Option<SocketAddr>,
    pub(super) local: Option<SocketAddr>,
    pub(super) killed: CancellationToken,
    pub(super) name: Mutex<Vec<u8>>,
    /// When the last command came, in Unix time.
    pub(super) active_ms: AtomicU64,
    pub(super) is_resp3: AtomicBool,
    since_ms: u64,
}

/// A card that is in the table.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) card: Arc<Card>,
    clients: &'a Clients,
}

impl Clients {
    /// Cancelling `killed` ends the connection.
    pub(super) fn enter(
        &self,
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
        killed: CancellationToken,
    ) -> Entry<'_> {
        let now_ms = unix_ms();
        let card = Arc::new(Card {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            peer,
            local,
            killed,
            name: Mutex::default(),
            active_ms: AtomicU64::new(now_ms),
            is_resp3: AtomicBool::new(false),
            since_ms: now_ms,
        });
        self.open.lock().insert(card.id, card.clone());
        Entry { card, clients: self }
    }

    /// The cards, oldest first.
    pub(super) fn cards(&self) -> Vec<Arc<Card>> {
        self.open.lock().values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.clients.open.lock().remove(&self.card.id);
    }
}

impl Card {
    /// The peer as `HOST:PORT`.
    pub(super) fn address(&self) -> String {
        self.peer.map_or_else(|| "?:0".to_owned(), |peer| peer.to_string())
    }

    /// The node's own end, likewise.
    pub(super) fn local_address(&self) -> String {
        self.local.map_or_else(|| "?:0".to_owned(), |local| local.to_string())
    }

    /// One line of CLIENT LIST, with the fields of Redis that mean something here.
    pub(super) fn line(&self, now_ms: u64) -> String {
        let seconds = |since: u64| now_ms.saturating_sub(since) / 1000;
        let mut line = String::new();
        let written = write!(
            line,
            "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags=N db=0 sub=0 psub=0 \
             ssub=0 multi=-1 user=default redir=-1 resp={}",
            self.id,
            self.address(),
            self.local_address(),
            String::from_utf8_lossy(&self.name.lock()),
            seconds(self.since_ms),
            seconds(self.active_ms.load(Ordering::Relaxed)),
            if self.is_resp3.load(Ordering::Relaxed) { 3 } else { 2 },
        );
        written.expect("a string takes any text");
        line
    }
}
