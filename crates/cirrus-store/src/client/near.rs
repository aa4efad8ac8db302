//! Nodes of the same host: how a connection comes to share their memory.
//!
//! Owns the step from a TCP connection to the socket beside it, and the one mapping for all
//! connections to a node. Knows nothing of requests. Invariant: where anything about it fails, the
//! TCP connection is used; the semantics are the same.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::timeout;
use tracing::debug;

use crate::client::greeting::Greeted;
use crate::client::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::transport::{Endpoint, Mapper, Window, is_mapped};

/// Of the time for a connection, what the socket beside may take: a node that answers over TCP
/// answers there at once.
const NEAR_SHARE: u32 = 4;

/// The memory of a node that some connection shares, if one does.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<Weak<Window>>);

impl Windows {
    /// The window of this file: the one that is there, or a new one.
    fn of(&self, file: &OwnedFd) -> std::io::Result<Arc<Window>> {
        let mut kept = self.0.lock();
        if let Some(window) = kept.upgrade().filter(|window| window.shows(file)) {
            return Ok(window);
        }
        let window = Arc::new(Window::map(file)?);
        *kept = Arc::downgrade(&window);
        Ok(window)
    }
}

/// The value in memory of this process: a copy, if it lies in a node's. For who holds values for
/// long: the node cannot use the memory of one until it is let go.
pub(crate) fn detached(value: Bytes) -> Bytes {
    match is_mapped(&value) {
        true => Bytes::copy_from_slice(&value),
        false => value,
    }
}

/// The same node over its socket for this host, where there is one; otherwise as it was.
pub(super) async fn nearer(
    greeted: Greeted,
    pool: &Pool,
    windows: &Windows,
) -> (Greeted, Option<Mapper>) {
    let Some(name) = greeted.neighbour.clone().filter(|_| pool.options.maps) else {
        return (greeted, None);
    };
    let limit = pool.options.connect_timeout / NEAR_SHARE;
    let near = timeout(limit, near(&greeted, name, pool, windows))
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::Timeout, format!("no hello within {limit:?}"))));
    match near {
        Ok((near, mapper)) => (near, Some(mapper)),
        Err(error) => {
            debug!("a node of this host is spoken to over TCP: {error}");
            (greeted, None)
        }
    }
}

async fn near(
    greeted: &Greeted,
    name: String,
    pool: &Pool,
    windows: &Windows,
) -> Result<(Greeted, Mapper)> {
    let endpoint = Endpoint::Shm(name);
    let near = Greeted::open(&endpoint, pool.session.id, &pool.options.token).await?;
    if near.greeting != greeted.greeting {
        return Err(Error::new(Kind::Protocol, format!("{endpoint} is another life of the node")));
    }
    let unshared = |why: &str| Error::new(Kind::Protocol, format!("{endpoint} {why}"));
    let file = near.file.as_ref().ok_or_else(|| unshared("shares no memory"))?;
    let window =
        windows.of(file).map_err(|error| unshared("cannot be mapped").with_source(error))?;
    let mapper = near.reader.link().mapper(window);
    mapper.map(|mapper| (near, mapper)).ok_or_else(|| unshared("is no socket"))
}
