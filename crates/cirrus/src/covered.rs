//! Which batches of a channel a consumer has.
//!
//! Owns [`Covered`], a set of batch numbers that is nearly a prefix. May not know splits.
//! Invariant: the runs beyond the cursor are ascending, not empty, and apart from each other.

use std::ops::Range;

/// Batches by their numbers over all epochs: all below a cursor, and runs beyond it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    cursor: u64,
    beyond: Vec<Range<u64>>,
}

impl Covered {
    /// `None` where the runs are not as the invariant has them.
    pub(crate) fn new(cursor: u64, beyond: &[Range<u64>]) -> Option<Self> {
        let mut end = cursor;
        for run in beyond {
            if run.start <= end || run.is_empty() {
                return None;
            }
            end = run.end;
        }
        Some(Self { cursor, beyond: beyond.to_vec() })
    }

    /// All batches below `cursor`.
    pub(crate) fn below(cursor: u64) -> Self {
        Self { cursor, beyond: Vec::new() }
    }

    /// The first that is not covered.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// What is covered beyond the cursor.
    pub(crate) fn beyond(&self) -> &[Range<u64>] {
        &self.beyond
    }

    /// The first number beyond all that is covered.
    pub(crate) fn end(&self) -> u64 {
        self.beyond.last().map_or(self.cursor, |run| run.end)
    }

    pub(crate) fn count(&self) -> u64 {
        self.cursor + self.beyond.iter().map(|run| run.end - run.start).sum::<u64>()
    }

    pub(crate) fn add(&mut self, run: Range<u64>) {
        if run.is_empty() {
            return;
        }
        let at = self.beyond.partition_point(|other| other.start < run.start);
        self.beyond.insert(at, run);
        let mut apart: Vec<Range<u64>> = Vec::with_capacity(self.beyond.len());
        for run in self.beyond.drain(..) {
            match apart.last_mut() {
                _ if run.start <= self.cursor => self.cursor = self.cursor.max(run.end),
                Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                Some(_) | None => apart.push(run),
            }
        }
        self.beyond = apart;
    }

    /// The parts of `range` that are covered, ascending.
    pub(crate) fn held_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let within = |run: &Range<u64>| run.start.max(range.start)..run.end.min(range.end);
        let below = 0..self.cursor;
        let runs = std::iter::once(&below).chain(&self.beyond).map(within);
        runs.filter(|run| !run.is_empty()).collect()
    }

    /// The parts of `range` that are not, ascending.
    pub(crate) fn missing_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let (mut missing, mut at) = (Vec::new(), range.start);
        for held in self.held_in(range) {
            missing.push(at..held.start);
            at = held.end;
        }
        missing.push(at..range.end);
        missing.retain(|run| !run.is_empty());
        missing
    }

    /// Whether all of `range` is covered.
    pub(crate) fn holds(&self, range: &Range<u64>) -> bool {
        self.missing_in(range).is_empty()
    }

    /// Whether all of `other` is covered.
    pub(crate) fn holds_all(&self, other: &Self) -> bool {
        self.cursor >= other.cursor && other.beyond.iter().all(|run| self.holds(run))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn numbers(runs: &[Range<u64>]) -> BTreeSet<u64> {
        runs.iter().cloned().flatten().collect()
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(
            runs in prop::collection::vec((0u64..40, 0u64..6), 0..12),
            others in prop::collection::vec((0u64..40, 0u64..6), 0..3),
            (start, len) in (0u64..45, 0u64..10),
        ) {
            let build = |runs: &[(u64, u64)]| {
                let (mut covered, mut set) = (Covered::default(), BTreeSet::new());
                for (start, len) in runs {
                    covered.add(*start..start + len);
                    set.extend(*start..start + len);
                    let known = Covered::new(covered.cursor, &covered.beyond);
                    assert_eq!(known.as_ref(), Some(&covered));
                }
                (covered, set)
            };
            let (covered, set) = build(&runs);
            let (other, subset) = build(&others);
            let range = start..start + len;
            prop_assert_eq!(covered.count(), set.len() as u64);
            prop_assert_eq!(covered.cursor(), (0..).find(|n| !set.contains(n)).unwrap());
            prop_assert_eq!(covered.end(), set.last().map_or(0, |last| last + 1));
            let (held, missing): (BTreeSet<u64>, _) = range.clone().partition(|n| set.contains(n));
            prop_assert_eq!(numbers(&covered.held_in(&range)), held);
            prop_assert_eq!(covered.holds(&range), missing.is_empty());
            prop_assert_eq!(numbers(&covered.missing_in(&range)), missing);
            prop_assert_eq!(covered.holds_all(&other), subset.is_subset(&set));
        }
    }

    #[test]
    fn runs_that_touch_or_are_empty_are_refused() {
        let covered = |beyond: &[(u64, u64)]| {
            let beyond: Vec<Range<u64>> = beyond.iter().map(|(start, end)| *start..*end).collect();
            Covered::new(3, &beyond).is_some()
        };
        assert!(covered(&[]) && covered(&[(4, 5), (6, 9)]));
        assert!(!covered(&[(3, 5)]) && !covered(&[(4, 5), (5, 9)]) && !covered(&[(6, 9), (4, 5)]));
        assert!(!covered(&[(4, 4)]) && !covered(&[(2, 5)]));
    }
}
