//! Every n-th record.

use super::{Lookup, Order};
use crate::error::{Error, Kind, Result};

/// Every `step`-th record from the first on, then every `step`-th from the second on, and so forth:
/// each record once. The columns of a matrix that lies in rows of `step` come one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Strided {
    records: u64,
    step: u64,
    /// Lanes that are one record longer than the others; they come first.
    long_lanes: u64,
    /// Records of one of the other lanes.
    lane_len: u64,
}

impl Strided {
    /// All of `records` records, `step` apart; [`Kind::Invalid`] for a step of 0.
    pub fn new(records: u64, step: u64) -> Result<Self> {
        if step == 0 {
            return Err(Error::new(Kind::Invalid, "a stride of 0; expected 1 or more"));
        }
        Ok(Self { records, step, long_lanes: records % step, lane_len: records / step })
    }

    /// The positions of every `step`-th record from `first` on; empty when there is no such lane.
    pub fn lane(&self, first: u64) -> std::ops::Range<u64> {
        match first < self.step {
            true => self.start_of(first)..self.start_of(first + 1),
            false => self.records..self.records,
        }
    }

    fn start_of(&self, lane: u64) -> u64 {
        lane * self.lane_len + lane.min(self.long_lanes)
    }
}

impl Order for Strided {
    fn len(&self) -> u64 {
        self.records
    }

    fn record(&self, position: u64) -> Option<u64> {
        if position >= self.records {
            return None;
        }
        let in_long_lanes = self.start_of(self.long_lanes);
        let (lane, at) = match position.checked_sub(in_long_lanes) {
            None => (position / (self.lane_len + 1), position % (self.lane_len + 1)),
            Some(behind) => (self.long_lanes + behind / self.lane_len, behind % self.lane_len),
        };
        Some(lane + at * self.step)
    }

    fn lookup(&self) -> Option<&dyn Lookup> {
        Some(self)
    }
}

impl Lookup for Strided {
    fn position_of(&self, record: u64, from: u64) -> Option<u64> {
        let position = self.start_of(record % self.step) + record / self.step;
        (record < self.records && position >= from).then_some(position)
    }
}
