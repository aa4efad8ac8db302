//! A run whose processes were all killed, gone on with.
//!
//! Owns what stays and what is made again. May not know commands or folders.
//! Invariant: what a checkpoint covers is never made or delivered again.

use super::*;

/// Splits 0 to 3 are committed, 4 is leased; the checkpoint lies in split 1.
fn killed() -> (Rig, Generation) {
    let mut rig = Rig::sealed(1000);
    let (worker, trainer) = (rig.worker(0), rig.trainer(1));
    let generation = rig.open(trainer).generation;
    for split in 0..4 {
        rig.produce(worker, 10);
        rig.delivered(generation, split);
    }
    rig.ok(Rig::checkpoint_of(generation, 3));
    assert_eq!(rig.grant(worker).split, 4);
    rig.resume();
    (rig, generation)
}

fn set_status(rig: &Rig) -> (u64, u64, u64, u64) {
    let status = rig.state.status();
    let set = &status.sets[SET];
    (set.done, set.committed, set.leased, set.pending)
}

#[test]
fn what_no_checkpoint_covers_is_made_again() {
    let (mut rig, generation) = killed();
    assert_eq!(set_status(&rig), (1, 0, 0, 7));
    assert_eq!(rig.state.status().channels[CHANNEL].retained_bytes, 0);
    let (worker, trainer) = (rig.worker(0), rig.trainer(2));
    let opened = rig.open(trainer);
    assert!(opened.generation > generation);
    assert_eq!(opened.checkpoint.unwrap().cursor, 3);
    assert_eq!(rig.next(opened.generation, 1), NextAnswer::Wait);
    for split in 1..5 {
        assert_eq!(rig.produce(worker, 10).split, split);
        rig.delivered(opened.generation, split);
    }
}

#[test]
fn a_split_that_was_committed_must_come_out_the_same() {
    let (mut rig, _) = killed();
    let worker = rig.worker(0);
    let grant = rig.grant(worker);
    assert_eq!(rig.refused(Rig::commit_of(worker, &grant, 11)), RefusalKind::Corrupt);
    rig.ok(Rig::commit_of(worker, &grant, 10));
}

#[test]
fn a_set_is_there_when_it_is_written_again_and_is_as_long_as_it_was() {
    let (mut rig, _) = killed();
    assert_eq!(rig.state.set_view(SET).unwrap().count, None);
    assert_eq!(rig.refused(SealSet { set: SET.into(), count: 63 }), RefusalKind::Input);
    rig.ok(SealSet { set: SET.into(), count: 64 });
    assert_eq!(rig.state.set_view(SET).unwrap().count, Some(64));
    rig.restart();
    assert_eq!(rig.state.set_view(SET).unwrap().count, Some(64));
}

#[test]
fn nobody_of_the_former_life_is_a_member_or_known_as_done() {
    let mut rig = Rig::sealed(1000);
    let (worker, other) = (rig.worker(0), rig.worker(1));
    let (outcome, counters) = (Outcome::Done, Counters::from([("n".to_owned(), 3)]));
    rig.ok(End { member: other, outcome, counters });
    rig.ok(RequestStop {});
    rig.resume();
    assert_eq!(rig.beat(worker), Err(RefusalKind::MemberExpired));
    let status = rig.state.status();
    assert!(status.tasks["decode"].members.is_empty());
    assert_eq!(status.tasks["decode"].counters["n"], 3);
    let successor = rig.worker(1);
    assert!(successor > other);
    assert_eq!(rig.beat(successor), Ok(false), "a stop is over with those whom it stopped");
}

#[test]
fn a_reader_that_was_done_goes_on_from_its_last_checkpoint() {
    let mut rig = Rig::sealed(1000);
    let (worker, trainer) = (rig.worker(0), rig.trainer(1));
    let generation = rig.open(trainer).generation;
    for split in 0..3 {
        rig.produce(worker, 10);
        rig.delivered(generation, split);
    }
    rig.ok(Rig::checkpoint_of(generation, 2));
    // It is done without a checkpoint of the rest, which is freed.
    rig.ok(End { member: trainer, outcome: Outcome::Done, counters: Counters::new() });
    assert_eq!(rig.lease(worker), LeaseAnswer::Ended);
    rig.resume();
    let (worker, trainer) = (rig.worker(0), rig.trainer(2));
    assert_eq!(rig.open(trainer).checkpoint.unwrap().cursor, 2);
    assert_eq!(rig.produce(worker, 10).split, 1);
}
