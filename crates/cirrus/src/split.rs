//! How a set is cut into batches and splits.
//!
//! Owns [`SplitSpec`] and the geometry that follows from it, [`SplitPlan`]. May not know records,
//! channels or workers. Invariant: order and shape are pure functions of the spec and the count.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a set is read: order, batches, splits, and how far workers may run ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSpec {
    /// What every random choice about the set is drawn from.
    pub seed: u64,
    /// How many times the set is read.
    pub epochs: u32,
    /// Records in a batch.
    pub batch: u32,
    /// Batches in a split, the share of work that a worker leases. A consumer holds a whole split
    /// while it checks it.
    pub batches_per_split: u32,
    /// The order of records in an epoch.
    pub order: OrderSpec,
    /// What becomes of an epoch's last batch when records are too few to fill it.
    pub short_batch: ShortBatch,
    /// Splits that may be leased beyond the one the consumer's durable cursor is in, itself
    /// included.
    pub window: u32,
}

/// The order of records in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderSpec {
    /// As the set holds them.
    Sequential,
    /// A permutation drawn from (seed, epoch).
    Shuffled,
    /// The set's objects anywhere, and the records of each so many of them among themselves: small
    /// records that are packed are shuffled so without fetching an object for each. Drawn from
    /// (seed, epoch, how the set is packed), so a set that is written again is packed alike.
    Windowed {
        /// Objects whose records are shuffled together, at least 1.
        objects: u64,
    },
    /// Every so manieth record from the first on, then from the second on, and so forth.
    Strided {
        /// How far apart, at least 1.
        step: u64,
    },
}

/// What becomes of an epoch's last batch when records are too few to fill it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShortBatch {
    /// It is delivered short.
    Keep,
    /// Its records are left out of that epoch, and the ledger's check names them.
    Drop,
}

/// The geometry of a spec over a set of known size. Every answer is a few divisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPlan {
    batch: u32,
    batches_per_split: u32,
    /// Records of an epoch that are delivered.
    kept: u64,
    dropped: u64,
    batches_per_epoch: u64,
    splits_per_epoch: u64,
    epochs: u32,
}

/// One split: consecutive batches of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRange {
    /// The epoch it belongs to; a split never spans two.
    pub epoch: u32,
    /// Its first batch, counted within the epoch.
    pub first_batch: u64,
    /// How many batches it has, at least one.
    pub batches: u32,
    /// Its first record, as a position in the epoch's order.
    pub first_position: u64,
    /// How many records it has.
    pub records: u64,
}

/// One batch: consecutive positions of one epoch's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRange {
    /// The epoch it belongs to.
    pub epoch: u32,
    /// Its number within the epoch.
    pub batch: u64,
    /// Its first record, as a position in the epoch's order.
    pub first_position: u64,
    /// How many records it has.
    pub records: u32,
}

impl SplitSpec {
    /// Refuses numbers that no set can be cut by, naming the set.
    pub(crate) fn validate(&self, set: &str) -> Result<()> {
        let of_order = match self.order {
            OrderSpec::Sequential | OrderSpec::Shuffled => ("order", 1),
            OrderSpec::Windowed { objects } => ("objects", objects),
            OrderSpec::Strided { step } => ("step", step),
        };
        let zero = [
            ("epochs", u64::from(self.epochs)),
            ("batch", self.batch.into()),
            ("batches_per_split", self.batches_per_split.into()),
            ("window", self.window.into()),
            of_order,
        ];
        match zero.iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(Error::input(format!(
                "`{field}` of the splits of set `{set}` is 0; it must be at least 1"
            ))),
            None => Ok(()),
        }
    }
}

impl Default for SplitSpec {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 1,
            batch: 64,
            batches_per_split: 8,
            order: OrderSpec::Shuffled,
            short_batch: ShortBatch::Keep,
            window: 16,
        }
    }
}

impl SplitPlan {
    /// The plan of a set of `count` records. Refuses zeros, and more batches or positions over
    /// all epochs than a u64 counts.
    pub fn new(spec: &SplitSpec, count: u64) -> Result<Self> {
        spec.validate("(unnamed)")?;
        let batch = u64::from(spec.batch);
        let kept = match spec.short_batch {
            ShortBatch::Keep => count,
            ShortBatch::Drop => count - count % batch,
        };
        // Batches and splits of an epoch are at most its records, so this bound covers them.
        // Twice the epochs, because the last batch's end may lie a batch beyond the last record.
        if count.checked_mul(2).and_then(|n| n.checked_mul(u64::from(spec.epochs))).is_none() {
            return Err(Error::input(format!(
                "{} epochs of {count} records are more than can be counted; take fewer epochs",
                spec.epochs
            )));
        }
        let batches_per_epoch = kept.div_ceil(batch);
        let splits_per_epoch = batches_per_epoch.div_ceil(u64::from(spec.batches_per_split));
        Ok(Self {
            batch: spec.batch,
            batches_per_split: spec.batches_per_split,
            kept,
            dropped: count - kept,
            batches_per_epoch,
            splits_per_epoch,
            epochs: spec.epochs,
        })
    }

    /// How many times the set is read.
    pub fn epochs(&self) -> u32 {
        self.epochs
    }

    /// Batches of one epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.batches_per_epoch
    }

    /// Splits of one epoch.
    pub fn splits_per_epoch(&self) -> u64 {
        self.splits_per_epoch
    }

    /// Batches of all epochs: global batch numbers are below this.
    pub fn batches(&self) -> u64 {
        self.batches_per_epoch * u64::from(self.epochs)
    }

    /// Splits of all epochs: split numbers are below this.
    pub fn splits(&self) -> u64 {
        self.splits_per_epoch * u64::from(self.epochs)
    }

    /// Records at the end of each epoch's order that [`ShortBatch::Drop`] leaves out.
    pub fn dropped_per_epoch(&self) -> u64 {
        self.dropped
    }

    /// Records of one epoch that are delivered.
    pub fn kept_per_epoch(&self) -> u64 {
        self.kept
    }

    /// Split `split`, or `None` at or beyond [`SplitPlan::splits`].
    pub fn split(&self, split: u64) -> Option<SplitRange> {
        if split >= self.splits() {
            return None;
        }
        let epoch = u32::try_from(split / self.splits_per_epoch).ok()?;
        let per_split = u64::from(self.batches_per_split);
        let first_batch = (split % self.splits_per_epoch) * per_split;
        let batches = per_split.min(self.batches_per_epoch - first_batch);
        let first_position = first_batch * u64::from(self.batch);
        let records = (self.kept - first_position).min(batches.saturating_mul(self.batch.into()));
        let batches = u32::try_from(batches).ok()?;
        Some(SplitRange { epoch, first_batch, batches, first_position, records })
    }

    /// Batch `batch`, counted over all epochs, or `None` at or beyond [`SplitPlan::batches`].
    pub fn batch(&self, batch: u64) -> Option<BatchRange> {
        if batch >= self.batches() {
            return None;
        }
        let epoch = u32::try_from(batch / self.batches_per_epoch).ok()?;
        let batch = batch % self.batches_per_epoch;
        let first_position = batch * u64::from(self.batch);
        let records = (self.kept - first_position).min(self.batch.into());
        let records = u32::try_from(records).ok()?;
        Some(BatchRange { epoch, batch, first_position, records })
    }

    /// The global number of `batch` of `epoch`, or `None` where there is no such batch.
    pub fn global_batch(&self, epoch: u32, batch: u64) -> Option<u64> {
        let exists = epoch < self.epochs && batch < self.batches_per_epoch;
        exists.then(|| u64::from(epoch) * self.batches_per_epoch + batch)
    }

    /// The split that holds global batch `batch`; [`SplitPlan::splits`] at and beyond the end.
    pub fn split_of(&self, batch: u64) -> u64 {
        if batch >= self.batches() {
            return self.splits();
        }
        let within = (batch % self.batches_per_epoch) / u64::from(self.batches_per_split);
        (batch / self.batches_per_epoch) * self.splits_per_epoch + within
    }

    /// The splits that lie whole within a run of batches.
    pub(crate) fn splits_within(&self, run: &std::ops::Range<u64>) -> std::ops::Range<u64> {
        let first = self.split_of(run.start);
        let cut = self.batches_of(first).start < run.start;
        let end = self.split_of(run.end);
        (first + u64::from(cut)).min(end)..end
    }

    /// Whether so many splits lie between two batches that workers would soon wait for a
    /// checkpoint: half of the window, and at least one.
    pub(crate) fn is_half_a_window(&self, cursor: u64, position: u64, window: u64) -> bool {
        self.split_of(position).saturating_sub(self.split_of(cursor)) >= (window / 2).max(1)
    }

    /// The global batches of split `split`; empty at and beyond the end.
    pub fn batches_of(&self, split: u64) -> std::ops::Range<u64> {
        let Some(range) = self.split(split) else {
            return self.batches()..self.batches();
        };
        let first = u64::from(range.epoch) * self.batches_per_epoch + range.first_batch;
        first..first + u64::from(range.batches)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use proptest::prelude::*;

    fn specs() -> impl Strategy<Value = SplitSpec> {
        (1u32..4, 1u32..9, 1u32..6, prop::bool::ANY).prop_map(|(epochs, batch, per_split, drop)| {
            SplitSpec {
                epochs,
                batch,
                batches_per_split: per_split,
                short_batch: if drop { ShortBatch::Drop } else { ShortBatch::Keep },
                ..SplitSpec::default()
            }
        })
    }

    proptest! {
        #[test]
        fn every_kept_position_is_in_exactly_one_batch_of_one_split(
            spec in specs(), count in 0u64..200,
        ) {
            let plan = SplitPlan::new(&spec, count).unwrap();
            let kept = match spec.short_batch {
                ShortBatch::Keep => count,
                ShortBatch::Drop => count / u64::from(spec.batch) * u64::from(spec.batch),
            };
            let mut expected = Vec::new();
            for epoch in 0..spec.epochs {
                expected.extend((0..kept).map(|position| (epoch, position)));
            }
            let (mut by_split, mut by_batch, mut next) = (Vec::new(), Vec::new(), 0);
            for n in 0..plan.splits() {
                let split = plan.split(n).unwrap();
                let end = split.first_position + split.records;
                by_split.extend((split.first_position..end).map(|p| (split.epoch, p)));
                prop_assert_eq!(plan.batches_of(n).start, next);
                prop_assert_eq!(plan.batches_of(n).count(), usize::try_from(split.batches).unwrap());
                next = plan.batches_of(n).end;
                let Range { start, end } = plan.batches_of(n);
                for (from, to) in [(start, end), (start + 1, end), (start, end - 1)] {
                    let splits: Vec<u64> = plan.splits_within(&(from..to)).collect();
                    let whole = (from, to) == (start, end);
                    prop_assert_eq!(splits, if whole { vec![n] } else { vec![] });
                }
                for global in plan.batches_of(n) {
                    let batch = plan.batch(global).unwrap();
                    prop_assert_eq!(plan.split_of(global), n);
                    prop_assert_eq!(plan.global_batch(batch.epoch, batch.batch), Some(global));
                    prop_assert!(batch.records >= 1 && batch.records <= spec.batch);
                    let end = batch.first_position + u64::from(batch.records);
                    by_batch.extend((batch.first_position..end).map(|p| (batch.epoch, p)));
                }
            }
            prop_assert_eq!(next, plan.batches());
            prop_assert_eq!(plan.splits_within(&(0..next)), 0..plan.splits());
            prop_assert_eq!(&by_split, &expected);
            prop_assert_eq!(&by_batch, &expected);
            prop_assert!(plan.split(plan.splits()).is_none());
            prop_assert!(plan.batch(plan.batches()).is_none());
            prop_assert_eq!(plan.split_of(plan.batches()), plan.splits());
        }

        #[test]
        fn drop_leaves_out_only_the_short_tail(spec in specs(), count in 0u64..200) {
            let spec = SplitSpec { short_batch: ShortBatch::Drop, ..spec };
            let plan = SplitPlan::new(&spec, count).unwrap();
            prop_assert_eq!(plan.dropped_per_epoch(), count % u64::from(spec.batch));
            for global in 0..plan.batches() {
                prop_assert_eq!(plan.batch(global).unwrap().records, spec.batch);
            }
        }

        #[test]
        fn any_numbers_are_refused_or_answered_but_never_overflow(
            epochs: u32, batch: u32, batches_per_split: u32, count: u64, n: u64,
        ) {
            let spec = SplitSpec { epochs, batch, batches_per_split, ..SplitSpec::default() };
            if let Ok(plan) = SplitPlan::new(&spec, count) {
                for n in [n, 0, plan.splits().saturating_sub(1), plan.batches().saturating_sub(1)] {
                    let _ = (plan.split(n), plan.batch(n), plan.split_of(n), plan.batches_of(n));
                }
                if plan.splits() > 0 {
                    prop_assert!(plan.split(plan.splits() - 1).is_some());
                    prop_assert!(plan.batch(plan.batches() - 1).is_some());
                }
            }
        }
    }

    #[test]
    fn zeros_and_overflow_are_refused_by_name() {
        let spec = SplitSpec { batch: 0, ..SplitSpec::default() };
        let error = spec.validate("train").unwrap_err().to_string();
        assert!(error.contains("`batch`") && error.contains("`train`"), "{error}");
        let spec = SplitSpec { epochs: 3, ..SplitSpec::default() };
        assert!(SplitPlan::new(&spec, u64::MAX / 3).is_err());
        let orders = [
            (OrderSpec::Windowed { objects: 0 }, "`objects`"),
            (OrderSpec::Strided { step: 0 }, "`step`"),
        ];
        for (order, field) in orders {
            let error = SplitSpec { order, ..SplitSpec::default() }.validate("train").unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn orders_are_written_as_they_always_were() {
        let json = |order| serde_json::to_string(&order).unwrap();
        let orders = [
            (OrderSpec::Sequential, r#""sequential""#),
            (OrderSpec::Shuffled, r#""shuffled""#),
            (OrderSpec::Windowed { objects: 16 }, r#"{"windowed":{"objects":16}}"#),
            (OrderSpec::Strided { step: 7 }, r#"{"strided":{"step":7}}"#),
        ];
        for (order, text) in orders {
            assert_eq!(json(order), text);
            assert_eq!(serde_json::from_str::<OrderSpec>(text).unwrap(), order);
        }
    }

    #[test]
    fn half_a_window_is_whole_splits_and_at_least_one() {
        let spec = SplitSpec { batch: 1, batches_per_split: 2, ..SplitSpec::default() };
        let plan = SplitPlan::new(&spec, 20).unwrap();
        let first = |cursor, window| {
            (cursor..=20).find(|position| plan.is_half_a_window(cursor, *position, window))
        };
        assert_eq!((first(0, 1), first(0, 3), first(0, 8)), (Some(2), Some(2), Some(8)));
        assert_eq!(
            (first(3, 8), first(14, 8)),
            (Some(10), None),
            "to a split's end, or the plan's"
        );
    }

    #[test]
    fn an_empty_set_has_no_split() {
        let plan = SplitPlan::new(&SplitSpec::default(), 0).unwrap();
        assert_eq!((plan.splits(), plan.batches()), (0, 0));
        assert_eq!(plan.split_of(0), 0);
    }
}
