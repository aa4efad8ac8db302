//! How a store client learns from the coordinator which memory node holds which slot.
//!
//! Owns the bridge between the coordinator's pool views and the store's. May not decide anything.
//! Invariant: a wait for a newer view ends with one, or with the coordinator's patience.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cirrus_store::client::{ViewFuture, Views};
use cirrus_store::view::{NodeId, SlotRange, View, ViewNode};

use crate::api::PoolView;
use crate::control::Control;

/// How long a pool may take to have a memory node.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pool, as the coordinator describes it.
#[derive(Debug)]
pub(crate) struct PoolViews {
    pub(crate) control: Arc<Control>,
    pub(crate) pool: String,
}

impl Views for PoolViews {
    fn newer_than(&self, epoch: u32) -> ViewFuture<'_> {
        let (control, pool) = (self.control.clone(), self.pool.clone());
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || ask(&control, &pool, epoch)).await;
            asked.unwrap_or_else(|error| Err(failed("asking for a view was cut off", error)))
        })
    }
}

fn ask(control: &Control, pool: &str, epoch: u32) -> cirrus_store::Result<View> {
    let started = Instant::now();
    loop {
        let view = control.view(pool, Some(epoch)).map_err(|error| failed("no view", error))?;
        if view.epoch > epoch && !view.slots.is_empty() {
            return Ok(translated(view));
        }
        if started.elapsed() > PATIENCE {
            let text = format!("pool `{pool}` has had no memory node for {PATIENCE:?}");
            return Err(cirrus_store::Error::new(cirrus_store::Kind::Timeout, text));
        }
    }
}

fn translated(view: PoolView) -> View {
    let nodes = view.nodes.into_iter();
    let slots = view.slots.into_iter();
    View {
        epoch: view.epoch,
        nodes: nodes.map(|n| ViewNode { id: NodeId(n.id.0), address: n.address }).collect(),
        slots: slots
            .map(|r| SlotRange { first: r.first, last: r.last, node: NodeId(r.node.0) })
            .collect(),
    }
}

fn failed(
    text: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> cirrus_store::Error {
    cirrus_store::Error::new(cirrus_store::Kind::Closed, text).with_source(error)
}
