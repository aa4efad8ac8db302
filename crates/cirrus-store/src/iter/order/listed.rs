//! The records of a list.

use std::ops::Range;
use std::sync::Arc;

use super::Order;

/// The records of a list, in its order: some may come often, others never. 8 bytes a position.
#[derive(Debug, Clone)]
pub struct Listed {
    records: Arc<[u64]>,
}

impl Listed {
    /// These records, in this order.
    pub fn new(records: impl Into<Arc<[u64]>>) -> Self {
        Self { records: records.into() }
    }
}

impl Order for Listed {
    fn len(&self) -> u64 {
        self.records.len() as u64
    }

    fn record(&self, position: u64) -> Option<u64> {
        self.records.get(usize::try_from(position).ok()?).copied()
    }

    fn run(&self, positions: Range<u64>, into: &mut Vec<u64>) {
        let end = positions.end.min(self.len());
        let range = usize::try_from(positions.start)..usize::try_from(end);
        if let Range { start: Ok(start), end: Ok(end) } = range {
            into.extend_from_slice(self.records.get(start..end).unwrap_or_default());
        }
    }
}
