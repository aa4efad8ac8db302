//! One order after the other.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Lookup, Order};

/// Epochs whose orders are kept: a reader that looks ahead is in two at a time.
const MADE_MAX: usize = 2;

type Make = dyn Fn(u64) -> Arc<dyn Order> + Send + Sync;

/// The orders of several epochs, one after the other, as one order: its positions go on from epoch
/// to epoch, so that a reader looks ahead, and a cache foresees, beyond the end of an epoch.
///
/// All epochs are as long as the first. An epoch's order is made when it is first needed.
pub struct Epochs {
    epochs: u64,
    epoch_len: u64,
    make: Box<Make>,
    first: Arc<dyn Order>,
    made: Mutex<VecDeque<(u64, Arc<dyn Order>)>>,
}

impl Epochs {
    /// `epochs` epochs; `make` gives the order of each, the same whenever it is asked.
    pub fn new(epochs: u64, make: impl Fn(u64) -> Arc<dyn Order> + Send + Sync + 'static) -> Self {
        let first = make(0);
        let made = Mutex::new(VecDeque::with_capacity(MADE_MAX));
        Self { epochs, epoch_len: first.len(), make: Box::new(make), first, made }
    }

    /// The epoch that `position` lies in, and the position there.
    pub fn epoch_of(&self, position: u64) -> (u64, u64) {
        // Without records there is no position either.
        let len = self.epoch_len.max(1);
        (position / len, position % len)
    }

    /// The order of an epoch.
    fn order(&self, epoch: u64) -> Arc<dyn Order> {
        if epoch == 0 {
            return Arc::clone(&self.first);
        }
        let mut made = self.made.lock();
        if let Some((_, order)) = made.iter().find(|(of, _)| *of == epoch) {
            return Arc::clone(order);
        }
        let order = (self.make)(epoch);
        made.truncate(MADE_MAX - 1);
        made.push_front((epoch, Arc::clone(&order)));
        order
    }
}

impl fmt::Debug for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epochs").field("epochs", &self.epochs).field("first", &self.first).finish()
    }
}

impl Order for Epochs {
    fn len(&self) -> u64 {
        self.epochs.saturating_mul(self.epoch_len)
    }

    fn record(&self, position: u64) -> Option<u64> {
        let (epoch, at) = self.epoch_of(position);
        (epoch < self.epochs).then(|| self.order(epoch).record(at)).flatten()
    }

    fn run(&self, positions: Range<u64>, into: &mut Vec<u64>) {
        let mut position = positions.start;
        let end = positions.end.min(self.len());
        while position < end {
            let (epoch, at) = self.epoch_of(position);
            let stop = self.epoch_len.min(at + (end - position));
            let before = into.len();
            self.order(epoch).run(at..stop, into);
            if into.len() - before != usize::try_from(stop - at).unwrap_or(usize::MAX) {
                return;
            }
            position += stop - at;
        }
    }

    fn span(&self) -> u64 {
        self.first.span()
    }

    fn lookup(&self) -> Option<&dyn Lookup> {
        self.first.lookup().map(|_| self as &dyn Lookup)
    }
}

impl Lookup for Epochs {
    fn position_of(&self, record: u64, from: u64) -> Option<u64> {
        let (first, at) = self.epoch_of(from);
        (first..self.epochs).zip(std::iter::once(at).chain(std::iter::repeat(0))).find_map(
            |(epoch, at)| {
                let found = self.order(epoch).lookup()?.position_of(record, at)?;
                Some(epoch * self.epoch_len + found)
            },
        )
    }
}
