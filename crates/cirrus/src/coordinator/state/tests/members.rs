//! Rules of membership, pools, counters and reports.
//!
//! Owns one test a rule. May not know leases beyond that endings revoke them.
//! Invariant: each test fails when its rule is broken.

use std::time::Duration;

use super::*;
use crate::coordinator::status::Ending;

fn ending(rig: &Rig, task: &str, member: MemberId) -> Option<Ending> {
    let status = rig.state.status();
    let members = &status.tasks[task].members;
    members.iter().find(|m| m.member == member).unwrap().ending.clone()
}

#[test]
fn an_id_is_never_reused_and_a_replica_has_one_member() {
    let mut rig = Rig::sealed(1000);
    let first = rig.worker(0);
    let other = rig.worker(1);
    let second = rig.register(Rig::process("decode", 0, 7));
    assert!(first < other && other < second);
    assert_eq!(rig.beat(first), Err(RefusalKind::MemberExpired));
    assert_eq!(ending(&rig, "decode", first), Some(Ending::Replaced));
    assert_eq!(rig.beat(other), Ok(false));
    rig.restart();
    let third = rig.register(Rig::process("decode", 0, 8));
    assert!(third > second);
}

#[test]
fn a_repeated_registration_is_the_same_member() {
    let mut rig = Rig::sealed(1000);
    let call = Rig::process("decode", 0, 7);
    let member = rig.register(call.clone());
    assert_eq!(rig.register(call.clone()), member);
    // A late repeat of a process that was replaced does not replace its successor.
    let successor = rig.register(Rig::process("decode", 0, 8));
    assert_eq!(rig.refused(call), RefusalKind::MemberExpired);
    assert_eq!(rig.beat(successor), Ok(false));
}

#[test]
fn only_declared_tasks_and_pools_register() {
    let mut rig = Rig::sealed(1000);
    assert_eq!(rig.refused(Rig::process("cook", 0, 1)), RefusalKind::NotFound);
    let mut node = Rig::process("memory:cellar", 0, 1);
    node.address = Some("127.0.0.1:1".into());
    assert_eq!(rig.refused(node), RefusalKind::NotFound);
    assert_eq!(rig.refused(Rig::process("memory:data", 0, 1)), RefusalKind::Input);
}

#[test]
fn silence_expires_a_member_and_its_leases() {
    let mut rig = Rig::sealed(1000);
    let (silent, alive) = (rig.worker(0), rig.worker(1));
    let grant = rig.grant(silent);
    for _ in 0..4 {
        rig.pass(1);
        rig.beat(alive).unwrap();
    }
    assert_eq!(rig.lease(alive), LeaseAnswer::Wait);
    rig.pass(1);
    assert_eq!(rig.beat(silent), Err(RefusalKind::MemberExpired));
    assert_eq!(ending(&rig, "decode", silent), Some(Ending::Expired));
    let again = rig.grant(alive);
    assert_eq!(again.split, grant.split);
    assert!(again.attempt > grant.attempt);
}

#[test]
fn an_unknown_member_is_told_to_end() {
    let mut rig = Rig::sealed(1000);
    assert_eq!(rig.beat(MemberId(99)), Err(RefusalKind::MemberExpired));
}

#[test]
fn a_restart_gives_members_a_full_deadline() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let grant = rig.grant(member);
    rig.pass(4);
    rig.restart();
    rig.pass(4);
    assert_eq!(rig.beat(member), Ok(false));
    rig.ok(Rig::commit_of(member, &grant, 10));
    rig.pass(5);
    assert_eq!(rig.beat(member), Err(RefusalKind::MemberExpired));
}

#[test]
fn nobody_expires_because_the_coordinator_stood_still() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    rig.now += Duration::from_secs(60);
    assert!(rig.state.tick(rig.now).is_empty());
    rig.pass(4);
    assert_eq!(rig.beat(member), Ok(false));
}

#[test]
fn the_engine_ends_a_process_by_its_pid() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let gone = |pid| MemberGone { task: "decode".into(), replica: 0, pid };
    rig.ok(gone(99));
    assert_eq!(rig.beat(member), Ok(false));
    rig.ok(gone(100));
    assert_eq!(ending(&rig, "decode", member), Some(Ending::Gone));
    // Repeated after a successor came, it harms nobody.
    let successor = rig.register(Rig::process("decode", 0, 7));
    rig.ok(gone(100));
    assert_eq!(rig.beat(successor), Ok(false));
}

#[test]
fn an_end_is_recorded_once() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    let failed = Outcome::Failed {
        kind: crate::error::Kind::Task,
        message: "no such file".into(),
        retryable: false,
    };
    let end = |outcome| End { member, outcome, counters: Counters::new() };
    rig.ok(end(failed.clone()));
    rig.ok(end(failed));
    assert_eq!(rig.refused(end(Outcome::Done)), RefusalKind::MemberExpired);
    let told = ending(&rig, "decode", member);
    assert!(matches!(told, Some(Ending::Failed { message, .. }) if message == "no such file"));
}

#[test]
fn a_stop_reaches_everybody_and_is_over_when_everybody_ended() {
    let mut rig = Rig::sealed(1000);
    let member = rig.worker(0);
    rig.ok(RequestStop {});
    rig.ok(RequestStop {});
    assert_eq!(rig.beat(member), Ok(true));
    rig.restart();
    assert_eq!(rig.beat(member), Ok(true));
    rig.ok(End { member, outcome: Outcome::Done, counters: Counters::new() });
    rig.restart();
    let successor = rig.register(Rig::process("decode", 0, 7));
    assert_eq!(rig.beat(successor), Ok(false));
}

#[test]
fn a_view_grows_its_epoch_with_every_change() {
    let mut rig = Rig::sealed(1000);
    let node = |pid, replica| Register {
        address: Some(format!("127.0.0.1:{pid}")),
        ..Rig::process("memory:data", replica, pid)
    };
    assert_eq!(rig.state.pool_view("data").unwrap(), PoolView::default());
    let first = rig.register(node(10, 0));
    let view = rig.state.pool_view("data").unwrap();
    assert_eq!((view.epoch, view.nodes[0].address.as_str()), (1, "127.0.0.1:10"));
    assert_eq!(view.slots, [SlotRange { first: 0, last: 16_383, node: NodeId(0) }]);
    rig.register(node(11, 1));
    let view = rig.state.pool_view("data").unwrap();
    assert_eq!((view.epoch, view.nodes.len(), view.slots.len()), (2, 2, 1));
    rig.ok(MemberGone { task: "memory:data".into(), replica: 0, pid: 10 });
    let view = rig.state.pool_view("data").unwrap();
    assert_eq!((view.epoch, view.nodes.len()), (3, 1));
    assert_eq!(view.slots, [], "slots must not move to a node that never had their objects");
    let again = rig.register(node(12, 0));
    let view = rig.state.pool_view("data").unwrap();
    assert_eq!(view.epoch, 4);
    assert_eq!(view.nodes[0].incarnation, again.0);
    assert_ne!(first, again);
    assert_eq!(rig.state.pool_view("cellar").unwrap_err().kind, RefusalKind::NotFound);
}

#[test]
fn counters_are_summed_over_a_task_and_outlive_its_members() {
    let mut rig = Rig::sealed(1000);
    let told = |n: u64| Counters::from([("records".to_owned(), n)]);
    let sum = |rig: &Rig| rig.state.status().tasks["decode"].counters["records"];
    let (a, b) = (rig.worker(0), rig.worker(1));
    rig.ok(Heartbeat { member: a, counters: told(5) });
    rig.ok(Heartbeat { member: b, counters: told(7) });
    rig.ok(Heartbeat { member: b, counters: told(8) });
    assert_eq!(sum(&rig), 13);
    rig.ok(End { member: a, outcome: Outcome::Done, counters: told(6) });
    rig.ok(MemberGone { task: "decode".into(), replica: 1, pid: 101 });
    assert_eq!(sum(&rig), 14);
    rig.restart();
    assert_eq!(sum(&rig), 14);
    let many = (0..65).map(|n| (n.to_string(), n)).collect();
    let c = rig.worker(2);
    assert_eq!(rig.refused(Heartbeat { member: c, counters: many }), RefusalKind::TooLarge);
}

#[test]
fn ended_members_are_forgotten_but_their_counters_count() {
    let mut rig = Rig::sealed(1000);
    for pid in 0..4100 {
        let member = rig.register(Rig::process("decode", 0, pid));
        let counters = Counters::from([("records".to_owned(), 1)]);
        rig.ok(End { member, outcome: Outcome::Done, counters });
    }
    let decode = &rig.state.status().tasks["decode"];
    assert_eq!(decode.members.len(), 4096);
    assert_eq!(decode.counters["records"], 4100);
}

#[test]
fn a_report_keeps_its_last_value_and_its_bounds() {
    let mut rig = Rig::sealed(1000);
    let member = rig.trainer(1);
    let report = |value| Report { member, key: "accuracy".into(), value };
    rig.ok(report(serde_json::json!(0.5)));
    rig.ok(report(serde_json::json!({"top1": 0.9})));
    rig.restart();
    let status = rig.state.status();
    assert_eq!(status.reports.len(), 1);
    assert_eq!(status.reports[0].value["top1"], 0.9);
    let long = serde_json::json!("x".repeat(65 << 10));
    assert_eq!(rig.refused(report(long)), RefusalKind::TooLarge);
    let stranger = Report { member: MemberId(9), key: "a".into(), value: 1.into() };
    assert_eq!(rig.refused(stranger), RefusalKind::MemberExpired);
}
