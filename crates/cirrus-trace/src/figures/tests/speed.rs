//! How long a sample takes.

use std::hint::black_box;
use std::time::Instant;

use super::super::{Analysis, Options};
use super::{amount, runs, sample, up};
use crate::record::Record;

const MACHINES: u64 = 12_500;
const TASKS: u64 = 100_000;
const SLOTS: i64 = 60;

fn nanoseconds_of_a_use(with_tasks: bool) -> f64 {
    let mut analysis = Analysis::new(Options::default()).unwrap();
    for machine in 0..MACHINES {
        analysis.push(&up(0, machine * 7919, amount(512, 512)));
    }
    // A task's machine is anywhere: no two neighbours in the trace are neighbours in memory.
    let machine = |task: u64| task.wrapping_mul(0x9e37_79b9_7f4a_7c15) % MACHINES * 7919;
    if with_tasks {
        for task in 0..TASKS {
            analysis.push(&runs(1, task, machine(task), amount(20, 30)));
        }
    }
    let length = 300_000_000;
    let uses = |slot: i64| -> Vec<Record> {
        let span = [slot * length, (slot + 1) * length];
        (0..TASKS)
            .map(|task| Record::Use(sample(span, machine(task), task, amount(9, 11))))
            .collect()
    };
    let mut spent = 0;
    for slot in 0..SLOTS {
        let uses = uses(slot);
        let start = Instant::now();
        for used in &uses {
            analysis.push(black_box(used));
        }
        spent += start.elapsed().as_nanos();
    }
    let start = Instant::now();
    let report = analysis.finish();
    println!("finish took {:?} for {} slots", start.elapsed(), report.trace.slots);
    assert_eq!(report.trace.use_records, TASKS * SLOTS.unsigned_abs());
    spent as f64 / (TASKS as f64 * SLOTS as f64)
}

/// `cargo test --release -p cirrus-trace -- --ignored --nocapture a_use_takes`
#[test]
#[ignore = "a measurement"]
fn a_use_takes_less_than_200_ns() {
    for with_tasks in [false, true] {
        let time = nanoseconds_of_a_use(with_tasks);
        println!("a use takes {time:.1} ns, records of tasks: {with_tasks}");
        assert!(time < 200.0, "{time} ns");
    }
}
