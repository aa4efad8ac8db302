//! Which part of an order one of several readers reads, and where it went on from.
//!
//! Owns [`Share`] and [`State`]. Knows nothing of records or of how they are fetched.
//! Invariant: the shares of all readers, laid batch by batch in the order of their ranks, are the
//! order itself, for any number of readers.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::order::{Order, fingerprint};
use crate::error::{Error, Kind, Result};

/// One of several readers that divide every batch of an order among themselves: of a batch of
/// `batch` positions the reader of rank r reads those from r·batch/of to (r+1)·batch/of.
///
/// So a batch, put together from all readers by rank, is the same for any number of readers; the
/// last batch may be shorter and is divided in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    rank: u32,
    of: u32,
    batch: u32,
}

impl Share {
    /// The only reader.
    pub const WHOLE: Self = Self { rank: 0, of: 1, batch: 1 };

    /// The share of reader `rank` of `of`. [`Kind::Invalid`] unless the rank is one of them and a
    /// batch has a position for each.
    pub fn new(rank: u32, of: u32, batch: u32) -> Result<Self> {
        if rank >= of {
            let text = format!("rank {rank} of {of} readers; ranks are 0 to {of} less 1");
            return Err(Error::new(Kind::Invalid, text));
        }
        if batch < of {
            let text = format!("a batch of {batch} for {of} readers; expected {of} or more");
            return Err(Error::new(Kind::Invalid, text));
        }
        Ok(Self { rank, of, batch })
    }

    /// How many positions of an order of `len` this reader reads.
    pub fn len(&self, len: u64) -> u64 {
        let (batch, last) = (u64::from(self.batch), len % u64::from(self.batch));
        len / batch * size(&self.part(batch)) + size(&self.part(last))
    }

    /// Whether this reader reads nothing of an order of `len`.
    pub fn is_empty(&self, len: u64) -> bool {
        self.len(len) == 0
    }

    /// The positions from the `step`th that this reader reads on, as far as they are neighbours, of
    /// an order of `len`; empty from [`Share::len`] on.
    pub(super) fn run(&self, step: u64, len: u64) -> Range<u64> {
        if self.of == 1 {
            return step.min(len)..len;
        }
        let batch = u64::from(self.batch);
        let part = self.part(batch);
        let number = (step / size(&part)).min(len / batch);
        let within = step - number * size(&part);
        let start = number * batch;
        let part = self.part(batch.min(len - start));
        start + (part.start + within).min(part.end)..start + part.end
    }

    /// Which step of this reader the position is, if it is one of its own.
    pub(super) fn step_of(&self, position: u64, len: u64) -> Option<u64> {
        let step = self.step_at(position, len)?;
        (self.run(step, len).next() == Some(position)).then_some(step)
    }

    /// Which step of this reader the position is, if it is one of its own, or, at the beginning of a
    /// batch, its first step in that batch.
    fn step_at(&self, position: u64, len: u64) -> Option<u64> {
        let batch = u64::from(self.batch);
        let (number, within) = (position / batch, position % batch);
        let before = number * size(&self.part(batch));
        let part = self.part(batch.min(len - number * batch));
        match within {
            0 => Some(before),
            _ => part.contains(&within).then(|| before + within - part.start),
        }
    }

    /// The part of a batch of `len`.
    fn part(&self, len: u64) -> Range<u64> {
        // Up to 2^32 of both: no overflow.
        let cut = |rank: u32| u64::from(rank) * len / u64::from(self.of);
        cut(self.rank)..cut(self.rank + 1)
    }
}

fn size(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// Where a reader is. To be kept with what was made of the records so far, and given to
/// [`Records::resume`](super::Records::resume).
///
/// At the end of a batch the states of all readers are equal, and any number of readers goes on
/// from one of them. In the midst of a batch only the same readers do. (When the order's last batch
/// is so short that a reader has no part in it, that reader is done before it, and says so to the
/// end: the last rank has a part in every batch.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    order: u64,
    position: u64,
    share: Share,
}

impl State {
    /// Of the reader of `share` that has read `steps` positions.
    pub(super) fn new(order: &dyn Order, share: Share, steps: u64) -> Self {
        let (len, batch) = (order.len(), u64::from(share.batch));
        let next = match share.run(steps, len) {
            run if !run.is_empty() => run.start,
            // It has no part in a last batch that is shorter, and does not know whether that was
            // read.
            _ if share.part(len % batch).is_empty() => len - len % batch,
            _ => len,
        };
        let start = next - next % batch;
        let is_between = next == len || share.step_at(start, len) == Some(steps);
        let position = if is_between && next < len { start } else { next };
        let share = if is_between { Share::WHOLE } else { share };
        Self { order: fingerprint(order), position, share }
    }

    /// The position in the order, the one common to all readers.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many positions the reader of `share` has read by now. [`Kind::Invalid`] where it cannot
    /// go on from here.
    pub(super) fn steps(&self, order: &dyn Order, share: Share) -> Result<u64> {
        let (position, len) = (self.position, order.len());
        if self.order != fingerprint(order) || position > len {
            let text = format!("the state at position {position} is that of another order");
            return Err(Error::new(Kind::Invalid, text));
        }
        if position == len {
            return Ok(share.len(len));
        }
        let batch = u64::from(share.batch);
        let is_between = position.is_multiple_of(batch);
        if !is_between && self.share != share {
            let text = format!(
                "position {position} is in the midst of a batch of {batch}: only reader {} of {} \
                 goes on from there; take states at the end of a batch",
                self.share.rank, self.share.of
            );
            return Err(Error::new(Kind::Invalid, text));
        }
        share.step_at(position, len).ok_or_else(|| {
            let text = format!("position {position} is not one of reader {}", share.rank);
            Error::new(Kind::Invalid, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Kind;
    use crate::iter::{EpochSeed, Epochs, Sequential, Shuffled};
    use std::sync::Arc;

    /// What `of` readers read of batches `batches`, put together by rank batch by batch, and their
    /// states thereafter. Each starts from `from`.
    fn read(
        order: &dyn Order,
        from: Option<State>,
        of: u32,
        batch: u32,
        batches: u64,
    ) -> (Vec<u64>, Vec<State>) {
        let (mut parts, mut states) = (Vec::new(), Vec::new());
        for rank in 0..of {
            let share = Share::new(rank, of, batch).unwrap();
            let mut step = from.map_or(0, |state| state.steps(order, share).unwrap());
            let first = from.map_or(0, |state| state.position() / u64::from(batch));
            let end = (first + batches).saturating_mul(u64::from(batch)).min(order.len());
            let mut positions = Vec::new();
            while let Some(position) = share.run(step, order.len()).next().filter(|at| *at < end) {
                positions.push(position);
                step += 1;
                assert_eq!(share.step_of(position, order.len()), Some(step - 1));
            }
            states.push(State::new(order, share, step));
            parts.push(positions.into_iter().map(move |at| (at / u64::from(batch), rank, at)));
        }
        let mut all: Vec<_> = parts.into_iter().flatten().collect();
        all.sort_unstable();
        (all.into_iter().map(|(_, _, at)| order.record(at).unwrap()).collect(), states)
    }

    fn order(seed: u64, records: u64) -> Epochs {
        Epochs::new(3, move |epoch| Arc::new(Shuffled::new(EpochSeed { seed, epoch }, records)))
    }

    proptest! {
        #[test]
        fn any_number_of_readers_reads_the_one_order(
            seed: u64, records in 1u64..300, batch in 64u32..130,
        ) {
            let order = order(seed, records);
            let expected: Vec<u64> = (0..order.len()).filter_map(|at| order.record(at)).collect();
            for of in [1, 2, 7, 64] {
                let (all, states) = read(&order, None, of, batch, u64::MAX / 256);
                prop_assert_eq!(&all, &expected, "{} readers", of);
                prop_assert_eq!(states.last().unwrap().position(), order.len());
            }
        }

        #[test]
        fn readers_go_on_in_another_number(
            seed: u64, records in 60u64..300, batch in 64u32..100, first in 0u64..3, second in 0u64..3,
        ) {
            let order = order(seed, records);
            let expected: Vec<u64> = (0..order.len()).filter_map(|at| order.record(at)).collect();
            let mut all = Vec::new();
            let mut state = None;
            for (of, batches) in [(7, first), (2, second), (64, 1), (1, u64::MAX / 256)] {
                let (some, states) = read(&order, state, of, batch, batches);
                all.extend(some);
                let last = *states.last().unwrap();
                if order.len() - last.position() >= u64::from(batch) {
                    prop_assert!(states.iter().all(|state| *state == last), "{:?}", states);
                }
                state = Some(last);
            }
            prop_assert_eq!(all, expected);
        }

        #[test]
        fn a_reader_goes_on_from_any_record(
            len in 0u64..300, batch in 1u32..40, of in 1u32..40, rank in 0u32..40,
        ) {
            let (of, rank) = (of.min(batch), rank % of.min(batch));
            let (order, share) = (Sequential::new(len), Share::new(rank, of, batch).unwrap());
            for steps in 0..share.len(len) {
                let state = State::new(&order, share, steps);
                prop_assert_eq!(state.steps(&order, share).unwrap(), steps);
                let written = serde_json::to_string(&state).unwrap();
                prop_assert_eq!(serde_json::from_str::<State>(&written).unwrap(), state);
            }
        }
    }

    #[test]
    fn who_cannot_go_on_is_told_why() {
        let order = Sequential::new(100);
        let share = |rank, of, batch| Share::new(rank, of, batch).unwrap();
        let midst = State::new(&order, share(1, 2, 10), 3);
        assert_eq!(midst.position(), 8);
        assert_eq!(midst.steps(&order, share(1, 2, 10)).unwrap(), 3);
        for (state, order, share, text) in [
            (midst, Sequential::new(100), share(0, 2, 10), "reader 1 of 2"),
            (midst, Sequential::new(100), share(1, 3, 10), "midst of a batch of 10"),
            (midst, Sequential::new(101), share(1, 2, 10), "another order"),
            (State::new(&order, share(0, 2, 10), 5), Sequential::new(100), share(0, 2, 8), "of 8"),
        ] {
            let error = state.steps(&order, share).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains(text), "{error}");
        }
        for (rank, of, batch, text) in [(2, 2, 9, "rank 2 of 2"), (0, 10, 9, "a batch of 9")] {
            let error = Share::new(rank, of, batch).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        assert!(Share::new(0, 0, 0).is_err());
    }
}
