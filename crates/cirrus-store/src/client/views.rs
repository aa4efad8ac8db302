//! Where a client learns which node holds which slot.
//!
//! Owns the [`Views`] trait and the view that never changes. Invariant: the epochs of the views
//! that a client uses only grow.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;

use crate::error::{Error, Kind, Result};
use crate::view::View;

/// A future of this trait: boxed, so that any source of views fits a client.
pub type ViewFuture<'a> = Pin<Box<dyn Future<Output = Result<View>> + Send + 'a>>;

/// A source of views: a coordinator, or a fixed address.
pub trait Views: fmt::Debug + Send + Sync + 'static {
    /// A view with a larger epoch than `epoch`, as soon as there is one.
    fn newer_than(&self, epoch: u32) -> ViewFuture<'_>;
}

/// One node, at one address, for ever.
#[derive(Debug)]
pub(super) struct FixedView(pub(super) View);

impl Views for FixedView {
    fn newer_than(&self, epoch: u32) -> ViewFuture<'_> {
        Box::pin(ready(match self.0.epoch > epoch {
            true => Ok(self.0.clone()),
            false => Err(Error::new(
                Kind::Moved,
                "the node has handed its slots to another; ask the coordinator where",
            )),
        }))
    }
}
