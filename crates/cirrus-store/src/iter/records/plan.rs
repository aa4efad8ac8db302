//! The positions that come next, a run at a time.
//!
//! Owns where planning is in a share of an order. Knows nothing of objects or of bytes.
//! Invariant: positions come in the share's order, each once.

use std::ops::Range;
use std::sync::Arc;

use crate::iter::{Order, Share};

/// Positions that are looked up at a time.
const RUN_MAX: u64 = 256;

/// A share of an order, from some step on.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) order: Arc<dyn Order>,
    pub(super) share: Share,
    /// Steps of the share that are planned at most.
    end: u64,
    /// The step behind `records`.
    step: u64,
    /// Positions that are looked up and not planned.
    run: Range<u64>,
    /// The records from position `first` on; an order that ends early leaves some without.
    records: Vec<u64>,
    first: u64,
}

impl Plan {
    pub(super) fn new(order: Arc<dyn Order>, share: Share, steps: Range<u64>) -> Self {
        let end = steps.end.min(share.len(order.len()));
        Self { order, share, end, step: steps.start, run: 0..0, records: Vec::new(), first: 0 }
    }

    /// The next position and its record; `None` at the end. The record is `None` where the order
    /// has none.
    pub(super) fn peek(&mut self) -> Option<(u64, Option<u64>)> {
        if self.run.is_empty() {
            self.look_up();
        }
        let position = (!self.run.is_empty()).then_some(self.run.start)?;
        let at = usize::try_from(position - self.first).ok();
        Some((position, at.and_then(|at| self.records.get(at)).copied()))
    }

    /// Goes behind the next position.
    pub(super) fn advance(&mut self) {
        self.run.start += u64::from(!self.run.is_empty());
    }

    /// The steps before the next position.
    pub(super) fn steps(&self) -> u64 {
        self.step - (self.run.end - self.run.start)
    }

    /// The position of a step; the end of the order behind the last.
    pub(super) fn position_of(&self, step: u64) -> u64 {
        let len = self.order.len();
        // A last batch that is shorter may end with another reader's part.
        if step < self.share.len(len) { self.share.run(step, len).start } else { len }
    }

    /// Leaves out `steps` steps.
    pub(super) fn skip(&mut self, steps: u64) {
        self.step = self.steps().saturating_add(steps).min(self.end.max(self.steps()));
        self.run = 0..0;
    }

    fn look_up(&mut self) {
        let left = self.end.saturating_sub(self.step).min(RUN_MAX);
        let run = self.share.run(self.step, self.order.len());
        self.run = run.start..run.end.min(run.start + left);
        self.step += self.run.end - self.run.start;
        self.first = self.run.start;
        self.records.clear();
        self.order.run(self.run.clone(), &mut self.records);
    }
}
