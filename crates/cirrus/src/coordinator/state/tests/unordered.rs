//! Rules of a channel that is read in any order.
//!
//! Owns one test a rule. May not know those that hold in order, too.
//! Invariant: each test fails when its rule is broken.

use super::*;
use crate::coordinator::keys::attempt_prefix;
use crate::coordinator::ledger::check;
use crate::split::SplitPlan;

/// Splits 0 to 3 are leased by two workers, 1 and 3 are committed. How large a split is was known.
fn two_of_four(capacity: u64) -> (Rig, Vec<(MemberId, Grant)>, Generation) {
    let mut rig = Rig::unordered(capacity);
    let (workers, trainer) = ([rig.worker(0), rig.worker(1)], rig.trainer(1));
    let generation = rig.open(trainer).generation;
    let Grant { split, attempt, .. } = rig.produce(workers[0], 10);
    rig.ok(Lost { channel: CHANNEL.into(), generation, split, attempt });
    let grants: Vec<_> =
        (0..4).map(|n| workers[n % 2]).map(|member| (member, rig.grant(member))).collect();
    for (member, grant) in [grants[1], grants[3]] {
        rig.ok(Rig::commit_of(member, &grant, 10));
    }
    (rig, grants, generation)
}

impl Rig {
    fn any(&mut self, generation: Generation, split: u64, taken: &[u64]) -> NextAnswer {
        match self.ok(Next { channel: CHANNEL.into(), generation, split, taken: taken.to_vec() }) {
            Reply::Next(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn given(&mut self, generation: Generation, split: u64, taken: &[u64]) -> u64 {
        match self.any(generation, split, taken) {
            NextAnswer::Committed(committed) => committed.split,
            other => panic!("{other:?}"),
        }
    }
}

/// A checkpoint of batches below `cursor` and of these runs.
fn holding(generation: Generation, cursor: u64, beyond: &[(u64, u64)]) -> Checkpoint {
    let mut checkpoint = Rig::checkpoint_of(generation, cursor);
    let batches = cursor + beyond.iter().map(|(start, end)| end - start).sum::<u64>();
    checkpoint.record.key = format!("model.{generation}.{batches}");
    checkpoint.record.beyond = beyond.iter().map(|(start, end)| *start..*end).collect();
    checkpoint
}

#[test]
fn any_committed_split_is_given_once_and_the_same_to_a_repeat() {
    let (mut rig, grants, generation) = two_of_four(1000);
    assert_eq!(rig.given(generation, 0, &[]), 1);
    assert_eq!(rig.given(generation, 0, &[]), 1);
    assert_eq!(rig.given(generation, 0, &[1]), 3);
    assert_eq!(rig.any(generation, 0, &[1, 3]), NextAnswer::Wait);
    rig.ok(Rig::commit_of(grants[0].0, &grants[0].1, 10));
    assert_eq!(rig.given(generation, 0, &[1, 3]), 0);
    assert_eq!(rig.any(generation, 2, &[3]), NextAnswer::Wait);
    assert_eq!(rig.any(generation, 4, &[]), NextAnswer::WindowFull, "a window of four splits");
    assert_eq!(rig.any(generation, 8, &[]), NextAnswer::Ended);
}

#[test]
fn what_is_taken_is_within_the_window_and_not_what_is_asked_for() {
    let (mut rig, _, generation) = two_of_four(1000);
    let next = |split, taken: &[u64]| Next {
        channel: CHANNEL.into(),
        generation,
        split,
        taken: taken.to_vec(),
    };
    assert_eq!(rig.refused(next(1, &[1])), RefusalKind::Input);
    assert_eq!(rig.refused(next(0, &[1, 2, 3, 4, 5])), RefusalKind::Input);
}

#[test]
fn a_checkpoint_beyond_the_cursor_frees_whole_splits_and_they_are_not_given_again() {
    let (mut rig, grants, generation) = two_of_four(1000);
    let swept = rig.garbage().len();
    for taken in [vec![], vec![1]] {
        rig.given(generation, 0, &taken);
    }
    // All of split 1, half of split 3.
    rig.ok(holding(generation, 0, &[(2, 4), (6, 7)]));
    let garbage = |split: u64, attempt| Garbage::Prefix(attempt_prefix(CHANNEL, split, attempt));
    assert_eq!(rig.garbage()[swept..], [garbage(1, grants[1].1.attempt)]);
    assert_eq!(rig.state.status().channels[CHANNEL].retained_bytes, 10);
    rig.restart();
    let trainer = rig.trainer(2);
    let opened = rig.open(trainer);
    assert_eq!(opened.checkpoint.unwrap().beyond, [2..4, 6..7]);
    assert_eq!(rig.given(opened.generation, 0, &[1]), 3);
    rig.ok(holding(opened.generation, 0, &[(2, 4), (6, 8)]));
    assert_eq!(rig.state.status().channels[CHANNEL].retained_bytes, 0);
    assert_eq!(rig.any(opened.generation, 0, &[1, 3]), NextAnswer::Wait);
}

#[test]
fn a_checkpoint_never_holds_less_and_only_what_was_given() {
    let (mut rig, _, generation) = two_of_four(1000);
    for taken in [vec![], vec![1]] {
        rig.given(generation, 0, &taken);
    }
    assert_eq!(rig.refused(holding(generation, 0, &[(2, 5)])), RefusalKind::Input, "split 2");
    assert_eq!(rig.refused(holding(generation, 1, &[])), RefusalKind::Input, "split 0");
    assert_eq!(rig.refused(holding(generation, 0, &[(6, 99)])), RefusalKind::Input, "no split");
    assert_eq!(rig.refused(holding(generation, 0, &[(3, 3)])), RefusalKind::Input, "no run");
    rig.ok(holding(generation, 0, &[(2, 4)]));
    let less = holding(generation, 0, &[(6, 8)]);
    assert_eq!(rig.refused(less), RefusalKind::StaleGeneration);
    rig.ok(holding(generation, 0, &[(2, 4), (6, 8)]));
    let mut ordered = Rig::sealed(1000);
    let trainer = ordered.trainer(1);
    let generation = ordered.open(trainer).generation;
    assert_eq!(ordered.refused(holding(generation, 0, &[(2, 4)])), RefusalKind::Input);
}

#[test]
fn the_ledger_has_every_batch_once_in_whatever_order() {
    let (mut rig, mut grants, mut generation) = two_of_four(1000);
    let (worker, mut read, mut pid) = (grants[0].0, Vec::<u64>::new(), 1);
    while read.len() < 8 {
        let first = (0..).find(|split| !read.contains(split)).unwrap();
        let taken: Vec<u64> = read.iter().copied().filter(|split| *split > first).collect();
        match rig.any(generation, first, &taken) {
            NextAnswer::Committed(committed) => read.push(committed.split),
            NextAnswer::Wait | NextAnswer::WindowFull => {
                // The first comes last.
                if let Some((member, grant)) = grants.pop() {
                    rig.ok(Rig::commit_of(member, &grant, 10));
                } else if let LeaseAnswer::Granted(grant) = rig.lease(worker) {
                    grants.push((worker, grant));
                }
            }
            NextAnswer::Ended => panic!("{read:?}"),
        }
        let cursor = 2 * (0..).find(|split| !read.contains(split)).unwrap();
        let mut beyond: Vec<(u64, u64)> = Vec::new();
        for split in (cursor / 2..8).filter(|split| read.contains(split)) {
            match beyond.last_mut() {
                Some(last) if last.1 == 2 * split => last.1 += 2,
                Some(_) | None => beyond.push((2 * split, 2 * split + 2)),
            }
        }
        if read.len() == 5 && pid == 1 {
            // It dies before it has saved the fifth.
            (pid, _) = (2, read.pop());
            let trainer = rig.trainer(pid);
            generation = rig.open(trainer).generation;
        } else if !read.is_empty() {
            rig.ok(holding(generation, cursor, &beyond));
        }
    }
    let plan = SplitPlan::new(&small(), 64).unwrap();
    let (lines, _) = rig.state.ledger_lines(CHANNEL, 0, usize::MAX).unwrap();
    let summary = check(&plan, lines).unwrap();
    assert_eq!((summary.kept, summary.rolled_back), (16, 2));
}
