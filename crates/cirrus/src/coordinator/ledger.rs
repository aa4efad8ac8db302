//! The proof of exactly once: which delivery of each batch is in checkpointed state.
//!
//! Owns the [`Ledger`] of a channel, its lines, and [`check`], which judges them. May not know
//! members or the store. Invariant: lines are only added; a line never changes its state.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::api::{Attempt, Generation};
use crate::split::SplitPlan;

/// What became of a delivered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LineState {
    /// A checkpoint holds its effect.
    Kept,
    /// The consumer restarted before a checkpoint held it.
    RolledBack,
}

/// One delivery of one batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LedgerLine {
    pub(crate) epoch: u32,
    /// Within the epoch.
    pub(crate) batch: u64,
    pub(crate) generation: Generation,
    pub(crate) attempt: Attempt,
    /// In the epoch's order.
    pub(crate) first_position: u64,
    pub(crate) records: u32,
    pub(crate) state: LineState,
}

/// The deliveries of one channel, as runs of global batches that share everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    runs: Vec<Run>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The first global batch.
    pub(crate) first: u64,
    pub(crate) batches: u64,
    pub(crate) generation: Generation,
    pub(crate) attempt: Attempt,
    pub(crate) state: LineState,
}

impl Ledger {
    /// Adds a run; one that continues the last run lengthens it.
    pub(crate) fn push(&mut self, run: Run) {
        if run.batches == 0 {
            return;
        }
        if let Some(last) = self.runs.last_mut() {
            let same = (last.generation, last.attempt, last.state)
                == (run.generation, run.attempt, run.state);
            if same && last.first + last.batches == run.first {
                last.batches += run.batches;
                return;
            }
        }
        self.runs.push(run);
    }

    /// Runs so far.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    /// One line a batch of runs `from..from + len`, in the order they were recorded.
    pub(crate) fn lines<'a>(
        &'a self,
        plan: &'a SplitPlan,
        from: usize,
        len: usize,
    ) -> impl Iterator<Item = LedgerLine> + 'a {
        self.runs.iter().skip(from).take(len).flat_map(move |run| {
            (run.first..run.first + run.batches).filter_map(move |global| {
                let batch = plan.batch(global)?;
                Some(LedgerLine {
                    epoch: batch.epoch,
                    batch: batch.batch,
                    generation: run.generation,
                    attempt: run.attempt,
                    first_position: batch.first_position,
                    records: batch.records,
                    state: run.state,
                })
            })
        })
    }
}

/// What a ledger without fault says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LedgerSummary {
    /// Batches in checkpointed state, each once.
    pub(crate) kept: u64,
    /// Deliveries that were undone.
    pub(crate) rolled_back: u64,
    /// Records left out on purpose, per epoch.
    pub(crate) dropped: Vec<DroppedTail>,
}

/// The short last batch of an epoch under [`crate::split::ShortBatch::Drop`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DroppedTail {
    pub(crate) epoch: u32,
    pub(crate) first_position: u64,
    pub(crate) records: u64,
}

/// Why a ledger does not show exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LedgerFault {
    /// No checkpoint holds the batch.
    Missing { epoch: u32, batch: u64 },
    /// Checkpoints hold it more than once.
    Twice { epoch: u32, batch: u64 },
    /// The plan has no such batch, or with other records.
    Foreign { epoch: u32, batch: u64 },
}

impl fmt::Display for LedgerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (epoch, batch, fault) = match self {
            Self::Missing { epoch, batch } => (epoch, batch, "is in no checkpoint"),
            Self::Twice { epoch, batch } => (epoch, batch, "is in checkpoints more than once"),
            Self::Foreign { epoch, batch } => (epoch, batch, "is not as the plan has it"),
        };
        write!(f, "batch {batch} of epoch {epoch} {fault}")
    }
}

impl std::error::Error for LedgerFault {}

/// Whether every batch of the plan, hence every record not dropped, is kept exactly once.
/// Lines may come in any order. Takes 8 bytes a kept line.
pub(crate) fn check(
    plan: &SplitPlan,
    lines: impl IntoIterator<Item = LedgerLine>,
) -> Result<LedgerSummary, LedgerFault> {
    let (mut kept, mut rolled_back) = (Vec::new(), 0);
    for line in lines {
        let (epoch, batch) = (line.epoch, line.batch);
        let foreign = LedgerFault::Foreign { epoch, batch };
        let Some(global) = plan.global_batch(epoch, batch) else {
            return Err(foreign);
        };
        let planned = plan.batch(global).map(|b| (b.first_position, b.records));
        if planned != Some((line.first_position, line.records)) {
            return Err(foreign);
        }
        match line.state {
            LineState::Kept => kept.push(global),
            LineState::RolledBack => rolled_back += 1,
        }
    }
    kept.sort_unstable();
    let place = |global| plan.batch(global).map_or((0, 0), |b| (b.epoch, b.batch));
    for expected in 0..plan.batches() {
        let index = usize::try_from(expected).ok();
        match index.and_then(|index| kept.get(index)) {
            Some(&global) if global == expected => {}
            // Sorted, so a smaller number here is the one before it again.
            Some(&global) if global < expected => {
                let (epoch, batch) = place(global);
                return Err(LedgerFault::Twice { epoch, batch });
            }
            Some(_) | None => {
                let (epoch, batch) = place(expected);
                return Err(LedgerFault::Missing { epoch, batch });
            }
        }
    }
    let count = plan.batches();
    if let Some(&global) = usize::try_from(count).ok().and_then(|index| kept.get(index)) {
        let (epoch, batch) = place(global);
        return Err(LedgerFault::Twice { epoch, batch });
    }
    Ok(LedgerSummary { kept: count, rolled_back, dropped: dropped_tails(plan) })
}

fn dropped_tails(plan: &SplitPlan) -> Vec<DroppedTail> {
    let records = plan.dropped_per_epoch();
    let epochs = if records == 0 { 0..0 } else { 0..plan.epochs() };
    epochs
        .map(|epoch| DroppedTail { epoch, first_position: plan.kept_per_epoch(), records })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::{ShortBatch, SplitSpec};

    fn plan() -> SplitPlan {
        let spec = SplitSpec {
            epochs: 2,
            batch: 4,
            batches_per_split: 2,
            short_batch: ShortBatch::Drop,
            ..SplitSpec::default()
        };
        SplitPlan::new(&spec, 22).unwrap()
    }

    fn run(first: u64, batches: u64, attempt: u64, state: LineState) -> Run {
        Run { first, batches, generation: Generation(1), attempt: Attempt(attempt), state }
    }

    fn lines(runs: &[Run]) -> Vec<LedgerLine> {
        let mut ledger = Ledger::default();
        runs.iter().cloned().for_each(|run| ledger.push(run));
        ledger.lines(&plan(), 0, usize::MAX).collect()
    }

    #[test]
    fn adjacent_batches_of_one_delivery_are_one_run() {
        let mut ledger = Ledger::default();
        ledger.push(run(0, 1, 7, LineState::Kept));
        ledger.push(run(1, 1, 7, LineState::Kept));
        ledger.push(run(2, 1, 8, LineState::Kept));
        ledger.push(run(3, 0, 8, LineState::Kept));
        ledger.push(run(3, 1, 8, LineState::RolledBack));
        assert_eq!(ledger.len(), 3);
        assert_eq!(ledger.lines(&plan(), 0, usize::MAX).count(), 4);
        assert_eq!(ledger.lines(&plan(), 1, 1).count(), 1);
    }

    #[test]
    fn a_whole_ledger_passes_and_names_what_was_dropped() {
        let kept = lines(&[
            run(0, 3, 1, LineState::Kept),
            run(3, 2, 2, LineState::RolledBack),
            run(3, 7, 3, LineState::Kept),
        ]);
        let summary = check(&plan(), kept).unwrap();
        assert_eq!((summary.kept, summary.rolled_back), (10, 2));
        assert_eq!(
            summary.dropped,
            [0, 1].map(|epoch| DroppedTail { epoch, first_position: 20, records: 2 })
        );
    }

    #[test]
    fn a_missing_batch_is_named() {
        let holes = lines(&[run(0, 6, 1, LineState::Kept), run(7, 3, 2, LineState::Kept)]);
        assert_eq!(check(&plan(), holes), Err(LedgerFault::Missing { epoch: 1, batch: 1 }));
        let short = lines(&[run(0, 9, 1, LineState::Kept)]);
        assert_eq!(check(&plan(), short), Err(LedgerFault::Missing { epoch: 1, batch: 4 }));
        let undone = lines(&[run(0, 9, 1, LineState::Kept), run(9, 1, 2, LineState::RolledBack)]);
        assert_eq!(check(&plan(), undone), Err(LedgerFault::Missing { epoch: 1, batch: 4 }));
    }

    #[test]
    fn a_batch_kept_twice_is_named() {
        for (again, epoch, batch) in [(3, 0, 3), (0, 0, 0), (9, 1, 4)] {
            let twice = lines(&[run(0, 10, 1, LineState::Kept), run(again, 1, 2, LineState::Kept)]);
            assert_eq!(check(&plan(), twice), Err(LedgerFault::Twice { epoch, batch }));
        }
    }

    #[test]
    fn a_line_that_the_plan_does_not_have_is_named() {
        let mut wrong = lines(&[run(0, 10, 1, LineState::Kept)]);
        wrong[4].records = 3;
        assert_eq!(check(&plan(), wrong.clone()), Err(LedgerFault::Foreign { epoch: 0, batch: 4 }));
        wrong[4].batch = 5;
        let fault = check(&plan(), wrong).unwrap_err();
        assert_eq!(fault.to_string(), "batch 5 of epoch 0 is not as the plan has it");
    }
}
