//! The records as they lie.

use super::{Lookup, Order};

/// The records as they lie.
#[derive(Debug, Clone, Copy)]
pub struct Sequential {
    records: u64,
}

impl Sequential {
    /// All of `records` records, from the first to the last.
    pub fn new(records: u64) -> Self {
        Self { records }
    }
}

impl Order for Sequential {
    fn len(&self) -> u64 {
        self.records
    }

    fn record(&self, position: u64) -> Option<u64> {
        (position < self.records).then_some(position)
    }

    fn lookup(&self) -> Option<&dyn Lookup> {
        Some(self)
    }
}

impl Lookup for Sequential {
    fn position_of(&self, record: u64, from: u64) -> Option<u64> {
        (from..self.records).contains(&record).then_some(record)
    }
}
