//! Rules of generations, deliveries, checkpoints and the ledger.
//!
//! Owns one test a rule. May not know workers beyond that they commit splits.
//! Invariant: each test fails when its rule is broken.

use super::*;
use crate::coordinator::keys::{attempt_prefix, checkpoint_key, checkpoint_prefix};
use crate::coordinator::ledger::{LedgerLine, LineState, check};
use crate::split::SplitPlan;

fn ledger(rig: &Rig) -> Vec<LedgerLine> {
    rig.state.ledger_lines(CHANNEL, 0, usize::MAX).unwrap().0
}

/// A rig with the first four splits committed and the channel open.
fn four() -> (Rig, MemberId, Generation) {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let trainer = rig.trainer(1);
    let generation = rig.open(trainer).generation;
    for _ in 0..4 {
        rig.produce(member, 10);
    }
    (rig, member, generation)
}

#[test]
fn every_opening_is_a_generation_and_older_ones_are_refused() {
    let (mut rig, _, old) = four();
    rig.delivered(old, 0);
    let trainer = rig.trainer(2);
    let new = rig.open(trainer).generation;
    assert_eq!(new, Generation(old.0 + 1));
    let next = Next { channel: CHANNEL.into(), generation: old, split: 0, taken: vec![] };
    assert_eq!(rig.refused(next), RefusalKind::StaleGeneration);
    assert_eq!(rig.refused(Rig::checkpoint_of(old, 1)), RefusalKind::StaleGeneration);
    let lost = Lost { channel: CHANNEL.into(), generation: old, split: 0, attempt: Attempt(1) };
    assert_eq!(rig.refused(lost), RefusalKind::StaleGeneration);
    rig.restart();
    assert_eq!(rig.open(trainer).generation, Generation(new.0 + 1));
}

#[test]
fn a_repeated_opening_is_the_same_generation() {
    let mut rig = Rig::sealed(1000);
    let member = rig.trainer(1);
    let open = |request| OpenConsumer { member, channel: CHANNEL.into(), request, afresh: false };
    let first = rig.ok(open(1));
    assert_eq!(rig.ok(open(1)), first);
    assert_ne!(rig.ok(open(2)), first);
    assert_eq!(rig.refused(open(1)), RefusalKind::StaleRequest);
}

#[test]
fn a_channel_that_is_opened_afresh_has_all_made_again_that_no_checkpoint_holds() {
    let mut rig = Rig::sealed(1000);
    let (worker, trainer) = (rig.worker(0), rig.trainer(1));
    let generation = rig.open(trainer).generation;
    let held = rig.produce(worker, 10);
    rig.delivered(generation, held.split);
    let end = held.range.first_batch + u64::from(held.range.batches);
    rig.ok(Rig::checkpoint_of(generation, end));
    let committed = rig.produce(worker, 10);
    let leased = rig.grant(worker);
    let afresh =
        OpenConsumer { member: trainer, channel: CHANNEL.into(), request: 99, afresh: true };
    let opened = rig.ok(afresh.clone());
    assert_eq!(rig.ok(afresh), opened, "a repeat takes nothing back");
    // What was done of the split that was leased is lost too: its commit comes late.
    assert_eq!(rig.refused(Rig::commit_of(worker, &leased, 10)), RefusalKind::StaleAttempt);
    let again: Vec<u64> = (0..2).map(|_| rig.produce(worker, 10).split).collect();
    assert_eq!(again, [committed.split, leased.split]);
}

#[test]
fn only_the_reader_opens_a_channel_and_not_after_it_is_done() {
    let mut rig = Rig::sealed(1000);
    let worker = rig.worker(0);
    let open = |member| OpenConsumer { member, channel: CHANNEL.into(), request: 1, afresh: false };
    assert_eq!(rig.refused(open(worker)), RefusalKind::Input);
    let trainer = rig.trainer(1);
    rig.open(trainer);
    rig.ok(End { member: trainer, outcome: Outcome::Done, counters: Counters::new() });
    let again = rig.trainer(2);
    assert_eq!(rig.refused(open(again)), RefusalKind::StaleGeneration);
}

#[test]
fn next_tells_where_a_split_is_or_why_not() {
    let mut rig = Rig::new(1000, small());
    let trainer = rig.trainer(1);
    let generation = rig.open(trainer).generation;
    assert_eq!(rig.next(generation, 0), NextAnswer::Wait);
    rig.ok(SealSet { set: SET.into(), count: 62 });
    assert_eq!(rig.next(generation, 0), NextAnswer::Wait);
    let member = rig.worker(0);
    let grant = rig.produce(member, 10);
    let committed = rig.delivered(generation, 0);
    assert_eq!((committed.attempt, committed.range), (grant.attempt, grant.range));
    assert_eq!(rig.next(generation, 3), NextAnswer::Wait);
    assert_eq!(rig.next(generation, 4), NextAnswer::WindowFull);
    assert_eq!(rig.next(generation, 8), NextAnswer::Ended);
    rig.ok(Rig::checkpoint_of(generation, 2));
    assert_eq!(rig.next(generation, 4), NextAnswer::Wait);
    let freed = Next { channel: CHANNEL.into(), generation, split: 0, taken: vec![] };
    assert_eq!(rig.refused(freed), RefusalKind::Input);
}

#[test]
fn a_checkpoint_is_due_at_half_the_bytes() {
    for (bytes, expected) in [(49, false), (50, true)] {
        let mut rig = Rig::sealed(100);
        let (member, trainer) = (rig.worker(0), rig.trainer(1));
        let generation = rig.open(trainer).generation;
        rig.produce(member, bytes);
        assert_eq!(rig.delivered(generation, 0).checkpoint_due, expected, "{bytes}");
    }
}

#[test]
fn workers_that_wait_for_bytes_make_the_consumer_checkpoint() {
    // 40 is under half of 100, yet no second 61 fits beside it.
    let mut rig = Rig::sealed(100);
    let (member, trainer) = (rig.worker(0), rig.trainer(1));
    let generation = rig.open(trainer).generation;
    rig.produce(member, 61);
    rig.delivered(generation, 0);
    rig.ok(Rig::checkpoint_of(generation, 2));
    rig.produce(member, 40);
    assert!(rig.delivered(generation, 1).checkpoint_due);
    assert_eq!(rig.lease(member), LeaseAnswer::Wait);
    rig.ok(Rig::checkpoint_of(generation, 4));
    assert_eq!(rig.produce(member, 61).split, 2);
}

#[test]
fn the_split_that_the_consumer_asks_for_exceeds_the_bytes_once() {
    let mut rig = Rig::sealed(100);
    let (member, trainer) = (rig.worker(0), rig.trainer(1));
    let generation = rig.open(trainer).generation;
    rig.produce(member, 61);
    rig.delivered(generation, 0);
    assert_eq!(rig.lease(member), LeaseAnswer::Wait);
    assert_eq!(rig.next(generation, 1), NextAnswer::Wait);
    assert_eq!(rig.produce(member, 61).split, 1);
    assert_eq!(rig.lease(member), LeaseAnswer::Wait, "nobody asks for split 2");
    assert!(rig.delivered(generation, 1).checkpoint_due);
    assert_eq!(rig.next(generation, 2), NextAnswer::WindowFull, "122 of 100 bytes are held");
    assert_eq!(rig.lease(member), LeaseAnswer::Wait);
    rig.ok(Rig::checkpoint_of(generation, 4));
    assert_eq!(rig.next(generation, 2), NextAnswer::Wait);
    assert_eq!(rig.produce(member, 61).split, 2);
}

#[test]
fn the_split_that_the_consumer_stands_at_is_leased_whatever_the_bytes() {
    let mut rig = Rig::sealed(100);
    let (member, trainer) = (rig.worker(0), rig.trainer(1));
    let generation = rig.open(trainer).generation;
    let (zero, one) = (rig.produce(member, 20), rig.grant(member));
    let two = rig.grant(member);
    rig.ok(Rig::commit_of(member, &one, 20));
    rig.ok(Rig::commit_of(member, &two, 70));
    let (split, attempt) = (zero.split, zero.attempt);
    rig.ok(Lost { channel: CHANNEL.into(), generation, split, attempt });
    assert_eq!(rig.next(generation, 0), NextAnswer::Wait);
    assert_eq!(rig.grant(member).split, 0);
    assert_eq!(rig.lease(member), LeaseAnswer::Wait);
}

#[test]
fn a_cursor_moves_forward_and_over_delivered_batches_only() {
    let (mut rig, _, generation) = four();
    rig.delivered(generation, 0);
    rig.delivered(generation, 1);
    rig.delivered(generation, 3);
    assert_eq!(rig.refused(Rig::checkpoint_of(generation, 5)), RefusalKind::Input);
    assert_eq!(rig.refused(Rig::checkpoint_of(generation, 8)), RefusalKind::Input);
    assert_eq!(rig.refused(Rig::checkpoint_of(generation, 99)), RefusalKind::Input);
    rig.ok(Rig::checkpoint_of(generation, 3));
    assert_eq!(rig.refused(Rig::checkpoint_of(generation, 1)), RefusalKind::StaleGeneration);
    rig.ok(Rig::checkpoint_of(generation, 3));
    rig.ok(Rig::checkpoint_of(generation, 4));
}

#[test]
fn what_an_older_generation_was_given_is_no_ground_for_a_checkpoint() {
    let (mut rig, _, old) = four();
    rig.delivered(old, 0);
    let trainer = rig.trainer(2);
    let generation = rig.open(trainer).generation;
    assert_eq!(rig.refused(Rig::checkpoint_of(generation, 1)), RefusalKind::Input);
    rig.delivered(generation, 0);
    rig.ok(Rig::checkpoint_of(generation, 1));
}

#[test]
fn a_new_consumer_gets_the_last_checkpoint() {
    let (mut rig, _, generation) = four();
    rig.delivered(generation, 0);
    let checkpoint = Rig::checkpoint_of(generation, 1);
    rig.ok(checkpoint.clone());
    rig.restart();
    let trainer = rig.trainer(2);
    assert_eq!(rig.open(trainer).checkpoint, Some(checkpoint.record));
}

#[test]
fn a_checkpoint_frees_splits_wholly_below_it_and_the_former_checkpoint() {
    let (mut rig, _, generation) = four();
    let committed: Vec<Committed> = (0..3).map(|split| rig.delivered(generation, split)).collect();
    rig.ok(Rig::checkpoint_of(generation, 1));
    assert_eq!(rig.garbage(), []);
    assert_eq!(rig.state.status().channels[CHANNEL].retained_bytes, 40);
    rig.ok(Rig::checkpoint_of(generation, 5));
    let prefix = |n: usize| {
        let Committed { split, attempt, .. } = committed[n];
        Garbage::Prefix(attempt_prefix(CHANNEL, split, attempt))
    };
    assert_eq!(rig.garbage(), [Garbage::Key("model.1.1".into()), prefix(0), prefix(1)]);
    assert_eq!(rig.state.status().channels[CHANNEL].retained_bytes, 20);
    assert_eq!(rig.state.status().sets[SET].done, 2);
}

#[test]
fn a_checkpoint_never_lies_under_a_key_that_is_swept() {
    let (mut rig, _, generation) = four();
    rig.delivered(generation, 0);
    let first = Rig::checkpoint_of(generation, 1);
    rig.ok(first.clone());
    // The same object, put again: the new version is the checkpoint and nothing is swept.
    let mut renewed = first.clone();
    renewed.record.version = 2;
    rig.ok(renewed);
    assert_eq!(rig.garbage(), []);
    rig.ok(Rig::checkpoint_of(generation, 2));
    assert_eq!(rig.garbage()[0], Garbage::Key(first.record.key.clone()));
    rig.delivered(generation, 1);
    let mut reused = Rig::checkpoint_of(generation, 3);
    reused.record.key = first.record.key;
    assert_eq!(rig.refused(reused), RefusalKind::Input);
    let mut unnamed = Rig::checkpoint_of(generation, 3);
    unnamed.record.key = String::new();
    assert_eq!(rig.refused(unnamed), RefusalKind::Input);
}

#[test]
fn a_late_checkpoint_at_the_same_cursor_does_not_return() {
    let (mut rig, _, generation) = four();
    rig.delivered(generation, 0);
    rig.ok(Rig::checkpoint_of(generation, 1));
    let mut late = Rig::checkpoint_of(generation, 1);
    late.record.key = "another".into();
    assert_eq!(rig.refused(late), RefusalKind::StaleGeneration);
}

#[test]
fn lost_output_is_made_again() {
    let (mut rig, member, generation) = four();
    let first = rig.delivered(generation, 1);
    let (split, attempt) = (1, first.attempt);
    let lost = Lost { channel: CHANNEL.into(), generation, split, attempt };
    rig.ok(lost.clone());
    assert_eq!(rig.next(generation, 1), NextAnswer::Wait);
    assert_eq!(rig.state.status().channels[CHANNEL].retained_bytes, 30);
    assert_eq!(rig.garbage(), [Garbage::Prefix(attempt_prefix(CHANNEL, 1, attempt))]);
    let again = rig.produce(member, 10);
    assert_eq!(again.split, 1);
    // Told late, the loss of the first attempt does not harm the second.
    rig.ok(lost);
    assert_eq!(rig.delivered(generation, 1).attempt, again.attempt);
}

#[test]
fn a_consumer_may_checkpoint_within_a_split_that_was_lost_under_it() {
    let (mut rig, member, generation) = four();
    let first = rig.delivered(generation, 0);
    let (split, attempt) = (0, first.attempt);
    rig.ok(Lost { channel: CHANNEL.into(), generation, split, attempt });
    rig.ok(Rig::checkpoint_of(generation, 1));
    rig.produce(member, 10);
    let second = rig.delivered(generation, 0);
    rig.ok(Rig::checkpoint_of(generation, 2));
    let attempts: Vec<Attempt> = ledger(&rig).iter().map(|line| line.attempt).collect();
    assert_eq!(attempts, [first.attempt, second.attempt]);
}

#[test]
fn the_ledger_tells_kept_from_rolled_back() {
    let (mut rig, _, first) = four();
    rig.delivered(first, 0);
    rig.delivered(first, 1);
    rig.ok(Rig::checkpoint_of(first, 1));
    let trainer = rig.trainer(2);
    let second = rig.open(trainer).generation;
    rig.delivered(second, 0);
    rig.delivered(second, 1);
    rig.ok(Rig::checkpoint_of(second, 4));
    let told: Vec<(u64, u64, LineState)> =
        ledger(&rig).iter().map(|line| (line.batch, line.generation.0, line.state)).collect();
    let (kept, back) = (LineState::Kept, LineState::RolledBack);
    assert_eq!(
        told,
        [
            (0, 1, kept),
            (1, 1, back),
            (2, 1, back),
            (3, 1, back),
            (1, 2, kept),
            (2, 2, kept),
            (3, 2, kept)
        ]
    );
    let (page, next) = rig.state.ledger_lines(CHANNEL, 0, 1).unwrap();
    assert_eq!((page.len(), next), (1, Some(1)));
}

#[test]
fn a_whole_run_passes_the_check() {
    let mut rig = Rig::sealed(1000);
    let (member, trainer) = (rig.worker(0), rig.trainer(1));
    let generation = rig.open(trainer).generation;
    for split in 0..8 {
        rig.produce(member, 10);
        rig.delivered(generation, split);
        rig.ok(Rig::checkpoint_of(generation, split * 2 + 1));
    }
    let plan = SplitPlan::new(&small(), 64).unwrap();
    assert!(check(&plan, ledger(&rig)).is_err());
    assert_eq!(rig.lease(member), LeaseAnswer::Wait);
    rig.ok(Rig::checkpoint_of(generation, 16));
    assert_eq!(check(&plan, ledger(&rig)).unwrap().kept, 16);
    assert_eq!(rig.lease(member), LeaseAnswer::Ended);
    assert_eq!(rig.next(generation, 8), NextAnswer::Ended);
}

#[test]
fn what_a_consumer_did_not_live_to_record_is_swept() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    rig.produce(member, 10);
    rig.produce(member, 10);
    let checkpoint = |generation: Generation, cursor| {
        let key = checkpoint_key(CHANNEL, generation, cursor);
        let beyond = Vec::new();
        let record = CheckpointRecord { cursor, beyond, key, version: 1, bytes: 10, checksum: 1 };
        Checkpoint { channel: CHANNEL.into(), generation, record }
    };
    let over = |generation| Garbage::Prefix(checkpoint_prefix(CHANNEL, generation));
    let open = |rig: &mut Rig, pid| {
        let trainer = rig.trainer(pid);
        rig.open(trainer).generation
    };
    let first = open(&mut rig, 1);
    rig.delivered(first, 0);
    rig.ok(checkpoint(first, 1));
    // Its record is the one to go on from; what else it stored goes with that.
    let second = open(&mut rig, 2);
    assert_eq!(rig.garbage(), []);
    // It recorded nothing.
    let third = open(&mut rig, 3);
    assert_eq!(rig.garbage(), [over(second)]);
    rig.delivered(third, 0);
    rig.ok(checkpoint(third, 2));
    assert!(rig.garbage().contains(&over(first)), "{:?}", rig.garbage());
    assert!(!rig.garbage().contains(&over(third)), "{:?}", rig.garbage());
    let before = rig.garbage().len();
    rig.delivered(third, 1);
    rig.ok(checkpoint(third, 3));
    assert_eq!(rig.garbage().len(), before + 1, "its own former one");
}
