//! Rules of sealing, leases and commits.
//!
//! Owns one test a rule. May not know checkpoints beyond that they move the cursor.
//! Invariant: each test fails when its rule is broken.

use super::*;
use crate::coordinator::keys::attempt_prefix;
use crate::counters::{CPU_US, RESIDENT_MAX};

/// The consumer has everything up to `cursor` in a checkpoint.
fn advance(rig: &mut Rig, generation: Generation, splits: std::ops::Range<u64>) {
    for split in splits.clone() {
        rig.delivered(generation, split);
    }
    rig.ok(Rig::checkpoint_of(generation, splits.end * 2));
}

#[test]
fn a_set_is_sealed_once() {
    let mut rig = Rig::new(1000, small());
    let member = rig.worker(0);
    assert_eq!(rig.lease(member), LeaseAnswer::Wait);
    let seal = |count| SealSet { set: SET.into(), count };
    rig.ok(seal(64));
    rig.ok(seal(64));
    assert_eq!(rig.refused(seal(65)), RefusalKind::Input);
    assert_eq!(rig.refused(SealSet { set: "attic".into(), count: 1 }), RefusalKind::NotFound);
    assert_eq!(rig.state.set_view(SET).unwrap().count, Some(64));
    assert_eq!(rig.grant(member).split, 0);
}

#[test]
fn a_set_too_large_to_count_is_refused_and_an_empty_one_has_ended() {
    let mut rig = Rig::new(1000, small());
    let member = rig.worker(0);
    let huge = SealSet { set: SET.into(), count: u64::MAX };
    assert_eq!(rig.refused(huge), RefusalKind::Input);
    rig.ok(SealSet { set: SET.into(), count: 0 });
    assert_eq!(rig.lease(member), LeaseAnswer::Ended);
}

#[test]
fn only_the_reader_of_a_set_leases_its_splits() {
    let mut rig = Rig::sealed(1000);
    let trainer = rig.trainer(1);
    let lease = |set: &str| Lease { member: trainer, set: set.into(), request: 1 };
    assert_eq!(rig.refused(lease(SET)), RefusalKind::Input);
    assert_eq!(rig.refused(lease("attic")), RefusalKind::NotFound);
}

#[test]
fn splits_ascend_and_their_ranges_are_the_plans() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    for split in 0..4 {
        let grant = rig.produce(member, 10);
        assert_eq!((grant.split, grant.range.first_position), (split, split * 8));
    }
}

#[test]
fn at_most_a_window_lies_beyond_the_cursor() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let trainer = rig.trainer(1);
    let generation = rig.open(trainer).generation;
    for _ in 0..4 {
        rig.produce(member, 10);
    }
    assert_eq!(rig.lease(member), LeaseAnswer::Wait);
    advance(&mut rig, generation, 0..1);
    assert_eq!(rig.grant(member).split, 4);
    assert_eq!(rig.lease(member), LeaseAnswer::Wait);
}

#[test]
fn one_lease_at_a_time_until_sizes_are_known() {
    let mut rig = Rig::sealed(1000);
    let (a, b) = (rig.worker(0), rig.worker(1));
    let grant = rig.grant(a);
    assert_eq!(rig.lease(b), LeaseAnswer::Wait);
    rig.ok(Rig::commit_of(a, &grant, 10));
    assert_eq!(rig.grant(a).split, 1);
    assert_eq!(rig.grant(b).split, 2);
}

#[test]
fn outstanding_leases_count_as_the_largest_split_yet() {
    // 30 + `more` retained, 30 outstanding, and 30 for one more: 100 fit exactly.
    for (more, fits) in [(10, true), (11, false)] {
        let mut rig = Rig::sealed(100);
        let (a, b) = (rig.worker(0), rig.worker(1));
        rig.produce(a, 30);
        rig.produce(a, more);
        assert_eq!(rig.grant(a).split, 2);
        assert_eq!(matches!(rig.lease(b), LeaseAnswer::Granted(_)), fits, "{more}");
    }
}

#[test]
fn an_idle_channel_always_grants() {
    let mut rig = Rig::sealed(100);
    let member = rig.worker(0);
    let trainer = rig.trainer(1);
    let generation = rig.open(trainer).generation;
    for split in 0..8 {
        assert_eq!(rig.produce(member, 100).split, split);
        assert_eq!(rig.lease(member), LeaseAnswer::Wait);
        advance(&mut rig, generation, split..split + 1);
    }
    assert_eq!(rig.lease(member), LeaseAnswer::Ended);
}

#[test]
fn a_repeated_request_gets_the_same_grant() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    rig.produce(member, 10);
    let lease = Lease { member, set: SET.into(), request: 500 };
    let first = rig.ok(lease.clone());
    assert_eq!(rig.ok(lease.clone()), first);
    rig.restart();
    assert_eq!(rig.ok(lease.clone()), first);
    let Reply::Lease(LeaseAnswer::Granted(grant)) = first else { panic!("{first:?}") };
    rig.ok(Rig::commit_of(member, &grant, 10));
    // A late repeat must not take a split that nobody would work on.
    assert_eq!(rig.refused(lease), RefusalKind::StaleRequest);
    assert_eq!(rig.grant(member).split, 2);
}

#[test]
fn a_request_older_than_memory_takes_nothing() {
    let mut rig = Rig::new(1000, SplitSpec { batch: 1, batches_per_split: 1, ..small() });
    rig.ok(SealSet { set: "words".into(), count: 100 });
    let member = rig.register(Rig::process("index", 0, 1));
    let lease = |request| Lease { member, set: "words".into(), request };
    for request in 1..=65 {
        let Reply::Lease(LeaseAnswer::Granted(grant)) = rig.ok(lease(request)) else { panic!() };
        let (split, attempt) = (grant.split, grant.attempt);
        let set = "words".to_owned();
        rig.ok(Commit { member, set, split, attempt, outputs: vec![] });
    }
    assert_eq!(rig.refused(lease(1)), RefusalKind::StaleRequest);
}

#[test]
fn a_member_holds_a_bounded_number_of_leases() {
    let mut rig = Rig::new(1000, SplitSpec { batch: 1, batches_per_split: 1, ..small() });
    rig.ok(SealSet { set: "words".into(), count: 100 });
    let member = rig.register(Rig::process("index", 0, 1));
    let lease = |request| Lease { member, set: "words".into(), request };
    for request in 1..=64 {
        assert!(matches!(rig.ok(lease(request)), Reply::Lease(LeaseAnswer::Granted(_))));
    }
    assert_eq!(rig.ok(lease(65)), Reply::Lease(LeaseAnswer::Wait));
}

#[test]
fn one_attempt_counts() {
    let mut rig = Rig::sealed(1000);
    let (a, b) = (rig.worker(0), rig.worker(1));
    rig.produce(a, 10);
    let late = rig.grant(a);
    assert_eq!(rig.refused(Rig::commit_of(b, &late, 10)), RefusalKind::StaleAttempt);
    rig.ok(MemberGone { task: "decode".into(), replica: 0, pid: 100 });
    assert_eq!(rig.refused(Rig::commit_of(a, &late, 10)), RefusalKind::MemberExpired);
    let second = rig.grant(b);
    assert_eq!(second.split, late.split);
    let mut stale = Rig::commit_of(b, &second, 10);
    stale.attempt = late.attempt;
    assert_eq!(rig.refused(stale), RefusalKind::StaleAttempt);
    rig.ok(Rig::commit_of(b, &second, 10));
}

#[test]
fn a_repeated_commit_is_answered_alike_even_when_its_output_is_freed() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let trainer = rig.trainer(1);
    let generation = rig.open(trainer).generation;
    let grant = rig.produce(member, 10);
    let commit = Rig::commit_of(member, &grant, 10);
    rig.ok(commit.clone());
    assert_eq!(rig.state.status().channels[CHANNEL].retained_bytes, 10);
    let mut other = commit.clone();
    other.outputs[0].checksum += 1;
    assert_eq!(rig.refused(other), RefusalKind::Corrupt);
    advance(&mut rig, generation, 0..1);
    rig.restart();
    rig.ok(commit);
    assert_eq!(rig.state.status().channels[CHANNEL].retained_bytes, 0);
}

#[test]
fn revoked_splits_go_first_and_in_order() {
    let mut rig = Rig::sealed(1000);
    let (a, b) = (rig.worker(0), rig.worker(1));
    rig.produce(a, 10);
    let (one, two, three) = (rig.grant(a), rig.grant(b), rig.grant(a));
    assert_eq!([one.split, two.split, three.split], [1, 2, 3]);
    rig.ok(MemberGone { task: "decode".into(), replica: 0, pid: 100 });
    let c = rig.worker(2);
    let (first, second) = (rig.grant(c), rig.grant(c));
    assert_eq!([first.split, second.split], [1, 3]);
    assert!(first.attempt > three.attempt);
}

#[test]
fn a_returned_split_is_leased_again() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    rig.produce(member, 10);
    let grant = rig.grant(member);
    let (split, attempt) = (grant.split, grant.attempt);
    let back = Return { member, set: SET.into(), split, attempt };
    rig.ok(back.clone());
    let again = rig.grant(member);
    assert_eq!(again.split, split);
    // A late repeat does not give the new lease back.
    rig.ok(back);
    rig.ok(Rig::commit_of(member, &again, 10));
}

#[test]
fn a_commit_is_whole_and_fits_its_channel() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let grant = rig.grant(member);
    let commit = Rig::commit_of(member, &grant, 10);
    let mut short = commit.clone();
    short.outputs[0].batches = 1;
    assert_eq!(rig.refused(short), RefusalKind::Input);
    let none = Commit { outputs: vec![], ..commit.clone() };
    assert_eq!(rig.refused(none), RefusalKind::Input);
    let mut elsewhere = commit.clone();
    elsewhere.outputs[0].channel = "attic".into();
    assert_eq!(rig.refused(elsewhere), RefusalKind::Input);
    let refusal = rig.handle(Rig::commit_of(member, &grant, 1001)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::TooLarge);
    assert!(refusal.message.contains("`batches`") && refusal.message.contains("1000 B"));
    rig.ok(Rig::commit_of(member, &grant, 1000));
}

#[test]
fn a_task_must_be_deterministic() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let trainer = rig.trainer(1);
    let generation = rig.open(trainer).generation;
    let first = rig.produce(member, 10);
    let (split, attempt) = (first.split, first.attempt);
    rig.ok(Lost { channel: CHANNEL.into(), generation, split, attempt });
    let second = rig.grant(member);
    assert_eq!(second.split, first.split);
    let mut other = Rig::commit_of(member, &second, 10);
    other.outputs[0].checksum += 1;
    let refusal = rig.handle(other).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Corrupt);
    assert!(refusal.message.contains("not deterministic"), "{}", refusal.message);
    rig.ok(Rig::commit_of(member, &second, 10));
}

#[test]
fn an_abandoned_attempt_is_swept_at_once_and_when_its_split_is_done() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let trainer = rig.trainer(1);
    let generation = rig.open(trainer).generation;
    let dead = rig.grant(member);
    rig.ok(MemberGone { task: "decode".into(), replica: 0, pid: 100 });
    let abandoned = Garbage::Prefix(attempt_prefix(CHANNEL, 0, dead.attempt));
    assert_eq!(rig.garbage(), std::slice::from_ref(&abandoned));
    let sweeps = rig.state.pending_sweeps(9).iter().map(|sweep| sweep.sweep).collect();
    let swept = Swept { sweeps };
    rig.ok(swept.clone());
    rig.ok(swept);
    assert_eq!(rig.garbage(), []);
    let heir = rig.worker(1);
    let grant = rig.produce(heir, 10);
    advance(&mut rig, generation, 0..1);
    let done = Garbage::Prefix(attempt_prefix(CHANNEL, 0, grant.attempt));
    assert_eq!(rig.garbage(), [done, abandoned]);
}

#[test]
fn splits_without_a_channel_end_when_they_are_committed() {
    let mut rig = Rig::new(1000, small());
    rig.ok(SealSet { set: "words".into(), count: 16 });
    let (a, b) =
        (rig.register(Rig::process("index", 0, 1)), rig.register(Rig::process("index", 1, 2)));
    let lease = |member, request| Lease { member, set: "words".into(), request };
    let Reply::Lease(LeaseAnswer::Granted(one)) = rig.ok(lease(a, 1)) else { panic!() };
    let Reply::Lease(LeaseAnswer::Granted(two)) = rig.ok(lease(b, 1)) else { panic!() };
    assert_eq!(rig.ok(lease(a, 2)), Reply::Lease(LeaseAnswer::Wait));
    let commit = |member, grant: &Grant| Commit {
        member,
        set: "words".into(),
        split: grant.split,
        attempt: grant.attempt,
        outputs: vec![],
    };
    rig.ok(commit(a, &one));
    rig.ok(commit(a, &one));
    rig.ok(MemberGone { task: "index".into(), replica: 1, pid: 2 });
    let Reply::Lease(LeaseAnswer::Granted(again)) = rig.ok(lease(a, 2)) else { panic!() };
    assert_eq!(again.split, two.split);
    rig.ok(commit(a, &again));
    assert_eq!(rig.ok(lease(a, 3)), Reply::Lease(LeaseAnswer::Ended));
    assert_eq!(rig.state.status().sets["words"].done, 2);
}

#[test]
fn a_set_ends_when_its_consumer_is_done() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let trainer = rig.trainer(1);
    rig.open(trainer);
    rig.produce(member, 10);
    let grant = rig.grant(member);
    let end = |outcome| End { member: trainer, outcome, counters: Counters::new() };
    rig.ok(end(Outcome::Done));
    assert_eq!(rig.lease(member), LeaseAnswer::Ended);
    assert_eq!(rig.garbage().len(), 1);
    // What was still worked on is accepted and freed.
    rig.ok(Rig::commit_of(member, &grant, 10));
    assert_eq!(rig.garbage().len(), 2);
    assert_eq!(rig.state.status().channels[CHANNEL].retained_bytes, 0);
}

#[test]
fn a_failed_consumer_ends_nothing() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let trainer = rig.trainer(1);
    rig.open(trainer);
    rig.produce(member, 10);
    let kind = crate::error::Kind::Task;
    let outcome = Outcome::Failed { kind, message: "out of luck".into(), retryable: true };
    rig.ok(End { member: trainer, outcome, counters: Counters::new() });
    assert_eq!(rig.grant(member).split, 1);
}

#[test]
fn a_lease_that_stands_still_is_overtaken_though_its_member_lives() {
    let mut rig = Rig::sealed(1000);
    let (slow, quick) = (rig.worker(0), rig.worker(1));
    rig.produce(slow, 10);
    let late = rig.grant(slow);
    for _ in 0..59 {
        rig.count(slow, 5);
        rig.count(quick, 0);
        rig.pass(1);
    }
    assert_eq!(rig.grant(quick).split, late.split + 1);
    rig.count(slow, 5);
    rig.count(quick, 1);
    rig.pass(1);
    assert_eq!(rig.garbage(), [Garbage::Prefix(attempt_prefix(CHANNEL, 1, late.attempt))]);
    let overtaking = rig.grant(quick);
    assert_eq!(overtaking.split, late.split);
    // The member lives, but its attempt does not count any more; not by a return either.
    rig.count(slow, 6);
    assert_eq!(rig.refused(Rig::commit_of(slow, &late, 10)), RefusalKind::StaleAttempt);
    let (split, attempt) = (late.split, late.attempt);
    rig.ok(Return { member: slow, set: SET.into(), split, attempt });
    rig.ok(Rig::commit_of(quick, &overtaking, 10));
    assert_eq!(rig.refused(Rig::commit_of(slow, &late, 10)), RefusalKind::StaleAttempt);
    assert_eq!(rig.grant(slow).split, 3);
}

#[test]
fn a_member_that_counts_keeps_its_leases() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let grant = rig.grant(member);
    for records in 1..10 {
        rig.pass_idle(50, member, records);
    }
    // Told late, and less than is known.
    rig.count(member, 3);
    rig.pass_idle(9, member, 9);
    rig.ok(Rig::commit_of(member, &grant, 10));
}

#[test]
fn a_pause_after_which_a_worker_went_on_is_tolerated_from_then_on() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let first = rig.grant(member);
    rig.pass_idle(100, member, 0);
    assert_eq!(rig.refused(Rig::commit_of(member, &first, 10)), RefusalKind::StaleAttempt);
    rig.count(member, 1);
    for _ in 0..2 {
        let grant = rig.grant(member);
        rig.pass_idle(199, member, 1);
        rig.ok(Rig::commit_of(member, &grant, 10));
    }
    let last = rig.grant(member);
    rig.pass_idle(200, member, 1);
    assert_eq!(rig.refused(Rig::commit_of(member, &last, 10)), RefusalKind::StaleAttempt);
}

#[test]
fn processor_time_and_memory_are_not_progress() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let grant = rig.grant(member);
    for second in 0..61 {
        let taken = [(CPU_US, second * 1_000_000), (RESIDENT_MAX, second << 20)];
        let counters = taken.map(|(name, amount)| (name.to_owned(), amount)).into();
        rig.ok(Heartbeat { member, counters });
        rig.pass(1);
    }
    assert_eq!(rig.refused(Rig::commit_of(member, &grant, 10)), RefusalKind::StaleAttempt);
}

#[test]
fn a_split_that_ran_out_gets_twice_the_time() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    for time in [60, 120, 240] {
        let grant = rig.grant(member);
        rig.pass_idle(time - 1, member, 0);
        assert_eq!(rig.state.status().sets[SET].leased, 1);
        rig.pass_idle(1, member, 0);
        assert_eq!(rig.state.status().sets[SET].leased, 0, "{time}");
        assert_eq!(rig.refused(Rig::commit_of(member, &grant, 10)), RefusalKind::StaleAttempt);
    }
    rig.produce(member, 10);
    rig.grant(member);
    rig.pass_idle(60, member, 0);
    assert_eq!(rig.state.status().sets[SET].leased, 0, "another split has its own time");
}

#[test]
fn a_restart_and_a_standstill_give_leases_their_whole_time() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let grant = rig.grant(member);
    rig.pass_idle(59, member, 0);
    rig.restart();
    rig.pass_idle(59, member, 0);
    rig.now += Duration::from_secs(3600);
    rig.pass_idle(59, member, 0);
    rig.ok(Rig::commit_of(member, &grant, 10));
}
