//! Tables without sockets: what steps do, what is kept, who waits.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::rule::{Adagrad, Adam, Optimizer, Penalty};
use crate::table::{Initial, OBSERVER, from_bf16, to_bf16};

fn name() -> Key {
    Key::new(Bytes::from_static(b"model")).unwrap()
}

fn node(capacity: u64) -> (Tables, Memory) {
    let memory = Memory::new(capacity);
    let extents = Extents::new(memory.clone()).unwrap();
    (Tables::new(extents, memory.clone()), memory)
}

fn purse() -> Memory {
    Memory::new(1 << 30)
}

fn spec(rows: u32, columns: u32) -> TableSpec {
    TableSpec {
        first_row: 100,
        rows,
        columns,
        initial: Initial::Normal { deviation: 0.1, from_column: 1, seed: 3 },
        optimizer: Optimizer::Adagrad(Adagrad::default()),
        penalty: Penalty { l1: 0.0, l2: 0.01 },
        staleness: None,
        seat_ms: 1000,
        generation: 1,
    }
}

/// A step's payload: rows and their gradients, rows that are wanted.
fn payload(pushed: &[(u32, Vec<f32>)], half: bool, wanted: &[u32]) -> Bytes {
    let mut bytes = BytesMut::new();
    pushed.iter().for_each(|(row, _)| bytes.put_u32_le(*row));
    for value in pushed.iter().flat_map(|(_, gradients)| gradients) {
        if half { bytes.put_u16_le(to_bf16(*value)) } else { bytes.put_f32_le(*value) }
    }
    wanted.iter().for_each(|row| bytes.put_u32_le(*row));
    bytes.freeze()
}

fn floats(bytes: &Bytes) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// One step, answered at once.
fn step(
    tables: &Tables,
    step: Step,
    pushed: &[(u32, Vec<f32>)],
    wanted: &[u32],
) -> Result<(Stepped, Vec<f32>), Fault> {
    let counts = (u32::try_from(pushed.len()).unwrap(), u32::try_from(wanted.len()).unwrap());
    let step = Step { pushed: counts.0, wanted: counts.1, ..step };
    let payload = payload(pushed, step.half, wanted);
    match tables.step(&name(), &step, &payload, &purse(), 1 << 30)? {
        Outcome::Answered(stepped, values, _) => Ok((stepped, floats(&values))),
        Outcome::Waits(_) => panic!("waits"),
    }
}

fn read(tables: &Tables, generation: u64, rows: &[u32]) -> Vec<f32> {
    let observer = Step { generation, worker: OBSERVER, ..Step::default() };
    step(tables, observer, &[], rows).unwrap().1
}

const WORKER: u64 = 7;

fn push(split: u64, minibatch: u32) -> Step {
    let step = Step { generation: 1, worker: WORKER, split, minibatch, ..Step::default() };
    Step { pushes: true, rate: 0.5, ..step }
}

fn join(tables: &Tables, worker: u64) -> u32 {
    tables.call(&name(), Call::Join { worker, clock: 0 }).unwrap().clock
}

/// The rows as plain vectors, changed by the rule.
struct Plain {
    spec: TableSpec,
    rows: BTreeMap<u32, Vec<f32>>,
}

impl Plain {
    fn new(spec: TableSpec) -> Self {
        Self { spec, rows: BTreeMap::new() }
    }

    fn row(&mut self, row: u32) -> &mut Vec<f32> {
        let (columns, width) = (self.spec.columns as usize, self.spec.optimizer.rule().width());
        self.rows.entry(row).or_insert_with(|| {
            let mut floats = vec![0.0; columns * width];
            self.spec.initial.fill(row, &mut floats[..columns]);
            floats
        })
    }

    fn push(&mut self, pushed: &[(u32, Vec<f32>)]) {
        let (rule, penalty) = (self.spec.optimizer.rule(), self.spec.penalty);
        for (row, gradients) in pushed {
            rule.update(0.5, penalty, self.row(*row), gradients);
        }
    }

    fn values(&mut self, rows: &[u32]) -> Vec<f32> {
        let columns = self.spec.columns as usize;
        rows.iter().flat_map(|row| self.row(*row)[..columns].to_vec()).collect()
    }
}

/// Rows together, one by one and all, few columns and many, each rule: the same bits as of plain rows, and what is
/// read in the same step is what the rows are after it.
#[test]
fn every_loop_gives_the_same_bits() {
    let named = ["sgd", "nesterov", "adagrad", "adam", "ftrl"].map(Optimizer::named);
    let each = |optimizer| [1, 3, 7, 8, 17].map(|columns| (optimizer, columns));
    for (optimizer, columns) in named.into_iter().flatten().flat_map(each) {
        for (all, half) in [(1500, false), (1500, true), (1 << 28, false)] {
            // What FTRL keeps says what a value is: it begins at zero.
            let initial = match optimizer {
                Optimizer::Ftrl(_) => Initial::Zero,
                _ => spec(all, columns).initial,
            };
            let spec = TableSpec { optimizer, initial, ..spec(all, columns) };
            let (tables, _) = node(1 << 30);
            tables.open(&name(), spec.clone()).unwrap();
            join(&tables, WORKER);
            let mut plain = Plain::new(spec);
            let few: Vec<u32> = (0..1100).map(|at| 100 + at * 7 % 1500).collect();
            let ascending: Vec<u32> = (0..1100).map(|at| 100 + at).collect();
            let twice: Vec<u32> = (0..300).map(|at| 100 + at / 2).collect();
            for (split, rows) in (0..).zip([ascending, few, twice]) {
                let gradient = |at: usize| ((at * 31 % 17) as f32 - 8.0) * 0.125;
                let gradients =
                    |row: usize| (0..columns as usize).map(|c| gradient(row + c)).collect();
                let pushed: Vec<(u32, Vec<f32>)> =
                    rows.iter().zip(0..).map(|(row, at)| (*row, gradients(at))).collect();
                let pushing = Step { half, ..push(split, 0) };
                let (stepped, values) = step(&tables, pushing, &pushed, &rows).unwrap();
                assert!(!stepped.repeated);
                plain.push(&pushed);
                let bits = |floats: &[f32]| floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&values), bits(&plain.values(&rows)), "{optimizer:?} {columns}");
                assert_eq!(bits(&read(&tables, 1, &rows)), bits(&values));
            }
            if all < 10_000 {
                let step = Step {
                    pushes_all: true,
                    pushed: all,
                    wants_all: true,
                    wanted: all,
                    ..push(9, 0)
                };
                let rows: Vec<u32> = (100..100 + all).collect();
                let gradient = vec![0.25; columns as usize];
                let pushed: Vec<_> = rows.iter().map(|row| (*row, gradient.clone())).collect();
                let listless = payload(&pushed, false, &[]).slice(4 * rows.len()..);
                let outcome = tables.step(&name(), &step, &listless, &purse(), 1 << 30).unwrap();
                let Outcome::Answered(_, values, _) = outcome else { panic!("waits") };
                plain.push(&pushed);
                assert_eq!(floats(&values), plain.values(&rows), "{optimizer:?} {columns}");
                assert_eq!(read(&tables, 1, &rows), floats(&values));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Small tables and large ones, whole and half floats, against plain vectors; in the midst the
    /// table is kept and comes back.
    #[test]
    fn steps_are_those_of_plain_rows(
        is_large: bool,
        half: bool,
        columns in 1_u32..5,
        steps in prop::collection::vec(
            (prop::collection::btree_map(100_u32..400, prop::collection::vec(-2.0_f32..2.0, 5), 0..9),
             prop::collection::vec(100_u32..400, 0..9)),
            1..24,
        ),
        kept_at in 0_usize..24,
    ) {
        let spec = spec(if is_large { 1 << 28 } else { 300 }, columns);
        let (tables, _) = node(1 << 30);
        tables.open(&name(), spec.clone()).unwrap();
        join(&tables, WORKER);
        let mut plain = Plain::new(spec);
        let mut generation = 1;
        for (number, (pushed, wanted)) in steps.iter().enumerate() {
            let pushed: Vec<(u32, Vec<f32>)> = pushed
                .iter()
                .map(|(row, floats)| (*row, floats[..columns as usize].to_vec()))
                .collect();
            if number == kept_at {
                let kept = tables.freeze(&name()).unwrap();
                // What happens since is not kept.
                let late = Step { generation, ..push(99, 0) };
                step(&tables, late, &pushed, &[]).unwrap();
                generation += 1;
                let mut restore =
                    TableRestore::new(tables.clone(), name(), &kept.head(), generation).unwrap();
                kept.pieces().for_each(|piece| restore.piece(&piece).unwrap());
                restore.finish();
                join(&tables, WORKER);
                prop_assert_eq!(tables.call(&name(), Call::Mark { split: 99 }).unwrap().mark, 0);
            }
            let minibatch = u32::try_from(number).unwrap();
            let now = Step { generation, half, ..push(4, minibatch) };
            let rounded: Vec<(u32, Vec<f32>)> = pushed
                .iter()
                .map(|(row, floats)| {
                    let round = |value: &f32| if half { from_bf16(to_bf16(*value)) } else { *value };
                    (*row, floats.iter().map(round).collect())
                })
                .collect();
            plain.push(&rounded);
            let (stepped, values) = step(&tables, now, &pushed, wanted).unwrap();
            prop_assert!(!stepped.repeated);
            prop_assert_eq!(values, plain.values(wanted));
            // The same again changes nothing.
            let (stepped, values) = step(&tables, now, &pushed, wanted).unwrap();
            prop_assert!(stepped.repeated);
            prop_assert_eq!(values, plain.values(wanted));
        }
    }

    /// Whatever a peer sends is answered or refused.
    #[test]
    fn any_step_is_answered_or_refused(
        numbers in prop::array::uniform6(prop_oneof![0_u32..5, any::<u32>()]),
        flags in prop::array::uniform5(any::<bool>()),
        rate: f32,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (tables, _) = node(64 << 20);
        tables.open(&name(), spec(5, 2)).unwrap();
        join(&tables, WORKER);
        let [clock, read_for, minibatch, pushed, wanted, split] = numbers;
        let [pushes, half, pushes_all, wants_all, observes] = flags;
        let step = Step {
            generation: 1,
            worker: if observes { OBSERVER } else { WORKER },
            clock, read_for, split: split.into(), minibatch, rate,
            pushes, half, pushed, pushes_all, wanted, wants_all, timeout_ms: 1,
        };
        let _ = tables.step(&name(), &step, &bytes.into(), &purse(), 1 << 20);
    }
}

#[test]
fn what_is_held_goes_on_as_it_was_while_the_table_changes() {
    for rows in [4_000, 1 << 28] {
        let (tables, memory) = node(1 << 30);
        tables.open(&name(), spec(rows, 4)).unwrap();
        join(&tables, WORKER);
        let all: Vec<u32> = (100..4_100).step_by(3).collect();
        let push_all = |minibatch: u32| {
            let pushed: Vec<_> = all.iter().map(|row| (*row, vec![1.0; 4])).collect();
            step(&tables, push(0, minibatch), &pushed, &[]).unwrap();
        };
        push_all(0);
        let before = read(&tables, 1, &all);
        let held = memory.used();
        let kept = tables.freeze(&name()).unwrap();
        push_all(1);
        assert!(memory.used() > held, "changed chunks are copied");
        let mut found = BTreeMap::new();
        for piece in kept.pieces() {
            found.extend(table_rows(&piece, 4).unwrap());
        }
        let found: Vec<f32> = all.iter().flat_map(|row| found[row].clone()).collect();
        assert_eq!(found, before);
        assert_ne!(read(&tables, 1, &all), before);
        drop(kept);
        push_all(2);
    }
}

#[test]
fn memory_is_paid_for_and_given_back_and_a_full_node_changes_nothing() {
    let (tables, memory) = node(8 << 20);
    tables
        .open(
            &name(),
            TableSpec { optimizer: Optimizer::Adam(Adam::default()), ..spec(1 << 28, 64) },
        )
        .unwrap();
    join(&tables, WORKER);
    let (mut minibatch, mut row) = (0, 100);
    let fault = loop {
        let pushed: Vec<_> = (0..500).map(|more| (row + more * 17, vec![1.0; 64])).collect();
        match step(&tables, push(0, minibatch), &pushed, &[]) {
            Ok(_) => (minibatch, row) = (minibatch + 1, row + 500 * 17),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault.kind, Kind::OutOfMemory);
    assert!(minibatch > 5, "{minibatch}");
    assert!(memory.used() <= memory.capacity());
    let stand = tables.call(&name(), Call::Mark { split: 0 }).unwrap();
    assert_eq!((stand.mark, stand.applied), (minibatch, u64::from(minibatch)));
    assert!(stand.bytes <= memory.used() && stand.bytes > 6 << 20, "{stand:?}");
    // None of the refused minibatch's rows has changed, those that were there already either.
    let first = read(&tables, 1, &[100]);
    let refused: Vec<_> = std::iter::once(100)
        .chain((0..9_000).map(|more| row + 9_000 + more))
        .map(|row| (row, vec![1.0; 64]))
        .collect();
    assert_eq!(
        step(&tables, push(0, minibatch), &refused, &[]).unwrap_err().kind,
        Kind::OutOfMemory
    );
    assert_eq!(read(&tables, 1, &[100]), first);
    drop(tables);
    assert_eq!(memory.used(), memory.used() / 4096 * 4096, "only kept pages are left");
}

#[test]
fn gaps_other_generations_and_who_has_no_seat_are_refused() {
    let (tables, _) = node(64 << 20);
    let read_one = |tables: &Tables| read(tables, 1, &[100]);
    assert_eq!(
        step(&tables, push(0, 0), &[], &[]).unwrap_err().kind,
        Kind::NotFound,
        "there is no table yet"
    );
    tables.open(&name(), spec(10, 1)).unwrap();
    tables.open(&name(), spec(10, 1)).unwrap();
    let other = tables.open(&name(), spec(11, 1)).unwrap_err();
    assert_eq!(other.kind, Kind::WrongType);
    let newer = tables.open(&name(), TableSpec { generation: 2, ..spec(10, 1) }).unwrap_err();
    assert_eq!((newer.kind, newer.detail), (Kind::WrongVersion, 1));
    let before = read_one(&tables);
    let gradient = [(100, vec![1.0])];
    let refused = |step_now: Step| {
        let fault = step(&tables, step_now, &gradient, &[]).unwrap_err();
        (fault.kind, fault.detail)
    };
    assert_eq!(refused(push(0, 0)), (Kind::WrongVersion, 1), "no seat");
    join(&tables, WORKER);
    assert_eq!(refused(Step { generation: 2, ..push(0, 0) }), (Kind::WrongVersion, 1));
    assert_eq!(refused(push(0, 1)), (Kind::Invalid, 0), "a gap");
    for row in [99, 110] {
        let fault = step(&tables, push(0, 0), &[(row, vec![1.0])], &[]).unwrap_err();
        assert_eq!((fault.kind, fault.detail), (Kind::Invalid, row.into()));
    }
    assert_eq!(read_one(&tables), before);
    step(&tables, push(0, 0), &gradient, &[]).unwrap();
    let after = read_one(&tables);
    assert_ne!(after, before);
    // Splits that will not come again are known as such without an entry each.
    tables.forget_before(&name(), 5).unwrap();
    assert!(step(&tables, push(4, 3), &gradient, &[]).unwrap().0.repeated);
    assert_eq!(read_one(&tables), after);
    tables.call(&name(), Call::Leave { worker: WORKER }).unwrap();
    assert_eq!(refused(push(9, 0)), (Kind::WrongVersion, 1), "it has left");
    let seatless = tables.call(&name(), Call::Join { worker: OBSERVER, clock: 0 }).unwrap_err();
    assert_eq!(seatless.kind, Kind::Invalid);
}

#[test]
fn all_readers_of_a_step_see_the_same_and_no_later_gradients() {
    let (tables, _) = node(64 << 20);
    tables.open(&name(), TableSpec { staleness: Some(0), ..spec(10, 1) }).unwrap();
    for worker in [1, 2, 3] {
        assert_eq!(join(&tables, worker), 0);
    }
    let send = |worker: u64, minibatch: u32| {
        let step = Step { worker, clock: minibatch + 1, ..push(worker, minibatch) };
        let step = Step { pushed: 1, wanted: 1, read_for: minibatch + 1, ..step };
        let payload = payload(&[(100, vec![1.0])], false, &[100]);
        tables.step(&name(), &step, &payload, &purse(), 1 << 20).unwrap()
    };
    let waits = |outcome: Outcome| match outcome {
        Outcome::Waits(answer) => answer,
        Outcome::Answered(..) => panic!("did not wait"),
    };
    let (mut one, mut two) = (waits(send(1, 0)), waits(send(2, 0)));
    assert!(one.try_recv().is_err() && two.try_recv().is_err());
    let Outcome::Answered(stepped, last, _) = send(3, 0) else { panic!("the slowest waits") };
    assert_eq!(stepped.slowest, 1);
    // The fastest goes on; who was released before has the values of its step already.
    let mut three = waits(send(3, 1));
    let one = one.try_recv().unwrap().unwrap().1;
    let two = two.try_recv().unwrap().unwrap().1;
    assert_eq!((&one, &two), (&last, &last));
    // A worker that is gone is waited for until its seat is taken.
    let _one = waits(send(1, 1));
    assert!(three.try_recv().is_err());
    tables.find(&name()).unwrap().lock().sweep(Instant::now() + Duration::from_secs(2));
    assert!(three.try_recv().unwrap().is_ok(), "worker 2 neither steps nor waits");
}

#[test]
fn nobody_waits_for_himself_where_he_began_further_on_elsewhere() {
    let (tables, _) = node(64 << 20);
    tables.open(&name(), TableSpec { staleness: Some(0), ..spec(10, 1) }).unwrap();
    assert_eq!(join(&tables, WORKER), 0);
    let step_now = Step { generation: 1, worker: WORKER, clock: 7, read_for: 7, ..Step::default() };
    assert_eq!(step(&tables, step_now, &[], &[100]).unwrap().0.slowest, 7);
}

#[test]
fn an_observer_pushes_nothing_and_reads_what_is_there() {
    let (tables, _) = node(64 << 20);
    tables.open(&name(), spec(10, 1)).unwrap();
    join(&tables, WORKER);
    let pushed = step(&tables, push(0, 0), &[(103, vec![1.0])], &[103]).unwrap().1;
    assert_eq!(read(&tables, 1, &[103]), pushed);
    let observes = Step { worker: OBSERVER, ..push(0, 1) };
    let before = read(&tables, 1, &[105]);
    assert_eq!(step(&tables, observes, &[(105, vec![1.0])], &[105]).unwrap().1, before);
    assert_eq!(read(&tables, 1, &[103]), pushed);
}

#[test]
fn who_waits_hears_that_the_table_has_gone_back() {
    let (tables, _) = node(64 << 20);
    tables.open(&name(), TableSpec { staleness: Some(0), ..spec(10, 1) }).unwrap();
    join(&tables, 1);
    join(&tables, 2);
    let kept = tables.freeze(&name()).unwrap();
    let step = Step { generation: 1, worker: 1, read_for: 1, wanted: 1, ..Step::default() };
    let waiting = tables.step(&name(), &step, &payload(&[], false, &[100]), &purse(), 1 << 20);
    let Ok(Outcome::Waits(mut answer)) = waiting else { panic!("did not wait") };
    TableRestore::new(tables.clone(), name(), &kept.head(), 2).unwrap().finish();
    let fault = answer.try_recv().unwrap().unwrap_err();
    assert_eq!((fault.kind, fault.detail), (Kind::WrongVersion, 1));
    assert_eq!(tables.call(&name(), Call::Stand).unwrap().generation, 2);
}

#[test]
fn pieces_that_are_damaged_are_refused() {
    let (tables, _) = node(64 << 20);
    tables.open(&name(), spec(10, 2)).unwrap();
    join(&tables, WORKER);
    step(&tables, push(0, 0), &[(100, vec![1.0, 2.0])], &[]).unwrap();
    let kept = tables.freeze(&name()).unwrap();
    let piece = kept.pieces().next().unwrap();
    let restore = || TableRestore::new(tables.clone(), name(), &kept.head(), 2).unwrap();
    restore().piece(&piece).unwrap();
    for damaged in [&piece[..3], &piece[..11], &piece[1..], &piece[..piece.len() - 4]] {
        assert_eq!(restore().piece(damaged).unwrap_err().kind(), crate::Kind::Corrupt);
        assert!(table_rows(damaged, 2).is_err());
    }
    let head = kept.head();
    assert!(TableRestore::new(tables.clone(), name(), &head[1..], 2).is_err());
}
