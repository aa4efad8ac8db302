//! Replay rebuilds the state, whatever was asked and refused before.
//!
//! Owns the random streams of commands. May not know what any of them should answer.
//! Invariant: durable state is a function of the events, and survives the snapshot's encoding.

use proptest::prelude::*;

use super::*;

fn tasks() -> impl Strategy<Value = Register> {
    let task = prop::sample::select(vec!["decode", "train", "index", "memory:data"]);
    (task, 0u32..2, 0u32..6).prop_map(|(task, replica, pid)| Register {
        address: Some("127.0.0.1:1".into()),
        ..Rig::process(task, replica, pid)
    })
}

fn sets() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["train".to_owned(), "words".to_owned()])
}

fn outputs() -> impl Strategy<Value = Vec<Output>> {
    let output =
        |(bytes, checksum)| Output { channel: CHANNEL.into(), batches: 2, bytes, checksum };
    prop_oneof![
        4 => (prop::sample::select(vec![10u64, 40, 60]), Just(1u32)).prop_map(move |o| vec![output(o)]),
        1 => (Just(101u64), 0u32..2).prop_map(move |o| vec![output(o)]),
        2 => Just(vec![]),
    ]
}

/// Small domains, so that commands meet: members up to 8, splits up to 8, attempts up to 30.
fn commands() -> impl Strategy<Value = Command> {
    let member = || (1u64..9).prop_map(MemberId);
    let attempt = || (1u64..30).prop_map(Attempt);
    let generation = || (1u64..4).prop_map(Generation);
    let outcome = prop_oneof![
        Just(Outcome::Done),
        Just(Outcome::Failed {
            kind: crate::error::Kind::Task,
            message: "m".into(),
            retryable: true
        }),
    ];
    let channel = || CHANNEL.to_owned();
    let counters = || Counters::from([("n".to_owned(), 3)]);
    prop_oneof![
        4 => tasks().prop_map(Command::from),
        2 => member().prop_map(move |member| Heartbeat { member, counters: counters() }.into()),
        1 => tasks().prop_map(|Register { task, replica, pid, .. }| {
            MemberGone { task, replica, pid }.into()
        }),
        1 => (member(), outcome).prop_map(move |(member, outcome)| {
            End { member, outcome, counters: Counters::new() }.into()
        }),
        2 => (sets(), prop::sample::select(vec![64u64, 63]))
            .prop_map(|(set, count)| SealSet { set, count }.into()),
        12 => (member(), sets(), 0u64..40)
            .prop_map(|(member, set, request)| Lease { member, set, request }.into()),
        12 => (member(), sets(), 0u64..8, attempt(), outputs()).prop_map(
            |(member, set, split, attempt, outputs)| {
                Commit { member, set, split, attempt, outputs }.into()
            }
        ),
        2 => (member(), sets(), 0u64..8, attempt())
            .prop_map(|(member, set, split, attempt)| Return { member, set, split, attempt }.into()),
        3 => (member(), 0u64..9, any::<bool>()).prop_map(move |(member, request, afresh)| {
            OpenConsumer { member, channel: channel(), request, afresh }.into()
        }),
        8 => (generation(), 0u64..9, prop::collection::vec(0u64..9, 0..3)).prop_map(
            move |(generation, split, taken)| {
                Next { channel: channel(), generation, split, taken }.into()
            }
        ),
        6 => (generation(), 0u64..17, 0u64..4, 0u64..3).prop_map(|(g, cursor, gap, len)| {
            let mut call = Rig::checkpoint_of(g, cursor);
            let start = cursor + gap;
            call.record.beyond = (len > 0).then(|| start..start + len).into_iter().collect();
            call.into()
        }),
        2 => (generation(), 0u64..8, attempt()).prop_map(move |(generation, split, attempt)| {
            Lost { channel: channel(), generation, split, attempt }.into()
        }),
        1 => (member(), 0u64..3).prop_map(|(member, value)| {
            Report { member, key: "k".into(), value: value.into() }.into()
        }),
        1 => Just(RequestStop {}.into()),
        1 => prop::collection::vec(1u64..9, 0..3).prop_map(|sweeps| Swept { sweeps }.into()),
    ]
}

/// What must hold in any state.
fn check_invariants(state: &State) {
    let status = state.status();
    for set in status.sets.values() {
        assert_eq!(set.pending + set.leased + set.committed + set.done, set.splits);
    }
    for channel in status.channels.values() {
        assert!(channel.cursor <= channel.batches);
    }
}

/// The lease that the state holds for `split`, worked on: random attempts rarely hit it.
fn truthful(state: &State, command: Command) -> Command {
    match command {
        Command::Commit(mut call) => {
            let set = state.durable().sets.get(&call.set);
            if let Some(lease) = set.and_then(|set| set.leases.get(&call.split)) {
                (call.member, call.attempt) = (lease.member, lease.attempt);
            }
            call.into()
        }
        command => command,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn replay_after_any_commands_gives_the_live_state(
        commands in prop::collection::vec((commands(), 0u64..400, prop::bool::ANY), 1..250),
        cut in 0usize..250,
        unordered: bool,
    ) {
        let mut rig = if unordered { Rig::unordered(100) } else { Rig::new(100, small()) };
        let mut snapshot = None;
        for (n, (command, pause, honest)) in commands.into_iter().enumerate() {
            if n == cut {
                let bytes = postcard::to_stdvec(rig.state.durable()).unwrap();
                snapshot = Some((postcard::from_bytes(&bytes).unwrap(), rig.events.len()));
                if pause % 2 == 0 { rig.restart() } else { rig.resume() }
            }
            rig.now += Duration::from_millis(pause);
            let now = rig.now;
            rig.events.extend(rig.state.tick(now));
            let command = if honest { truthful(&rig.state, command) } else { command };
            let before = rig.state.durable().clone();
            match rig.state.handle(now, &command) {
                Ok(decision) if decision.events.is_empty() => {
                    prop_assert_eq!(rig.state.durable(), &before);
                }
                Ok(decision) => {
                    rig.events.extend(decision.events);
                    // A repeat right away has no second effect.
                    if let Ok(again) = rig.state.handle(now, &command) {
                        prop_assert_eq!(&again.events, &[], "{:?}", command);
                    }
                }
                Err(_) => prop_assert_eq!(rig.state.durable(), &before),
            }
            check_invariants(&rig.state);
        }
        for event in &rig.events {
            let bytes = postcard::to_stdvec(event).unwrap();
            prop_assert_eq!(&postcard::from_bytes::<Event>(&bytes).unwrap(), event);
        }
        if let Some((snapshot, from)) = snapshot {
            let graph = rig.graph.clone();
            let state =
                State::recover(graph, Timeouts::default(), Some(snapshot), &rig.events[from..]);
            prop_assert_eq!(state.durable(), rig.state.durable());
        }
    }
}

#[test]
fn events_keep_their_numbers() {
    let number = |event: &Event| postcard::to_stdvec(event).unwrap()[0];
    let (set, channel) = (SET.to_owned(), CHANNEL.to_owned());
    assert_eq!(number(&Event::Booted), 0);
    assert_eq!(number(&Event::SetSealed { set: set.clone(), count: 1 }), 3);
    assert_eq!(number(&Event::Returned { set: set.clone(), split: 1 }), 5);
    assert_eq!(number(&Event::Delivered { channel, split: 1, attempt: Attempt(1) }), 8);
    assert_eq!(number(&Event::Lost { set: set.clone(), split: 1 }), 10);
    assert_eq!(number(&Event::StopRequested), 12);
    assert_eq!(number(&Event::Swept { sweeps: vec![] }), 13);
    assert_eq!(number(&Event::Revoked { set, split: 1 }), 14);
    assert_eq!(number(&Event::Discarded { prefix: String::new() }), 15);
    assert_eq!(number(&Event::Resumed), 16);
}
