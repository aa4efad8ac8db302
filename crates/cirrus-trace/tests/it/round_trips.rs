//! What the generator means is what is read from its files, in every format.

use cirrus_trace::reading::detect;
use cirrus_trace::record::Record;
use cirrus_trace::synthetic::{Encoding, Layout, Parts, Scenario, records, write};
use proptest::prelude::*;

use crate::support::{options, read_with};

/// In the order of time; ties as the tables and their parts happen to be read.
fn in_order(mut records: Vec<Record>) -> Vec<(i64, String)> {
    assert!(records.is_sorted_by_key(Record::time), "records come in the order of time");
    let mut keyed: Vec<_> = records.drain(..).map(|r| (r.time(), format!("{r:?}"))).collect();
    keyed.sort();
    keyed
}

fn round_trip(scenario: &Scenario, layout: Layout, parts: Parts, threads: usize) {
    let directory = tempfile::tempdir().unwrap();
    let rows = write(directory.path(), scenario, layout, parts).unwrap();
    assert_eq!(detect(directory.path()).map(|table| table.format()), Some(layout.format()));
    let mut options = options();
    options.threads = threads;
    let paths = [directory.path().to_owned()];
    let (read, problems) = read_with(layout.format(), &paths, options);
    assert!(problems.is_empty(), "{layout:?}: {problems}");
    let meant: Vec<Record> = records(scenario, layout).unwrap().collect();
    assert!(rows > 0 && meant.len() >= 10, "{layout:?} {}", meant.len());
    if layout.format() == cirrus_trace::formats::Format::Alibaba2018 {
        // Its parts are side by side.
        assert_eq!(in_order(read), in_order(meant), "{layout:?}");
    } else {
        assert_eq!(read, meant, "{layout:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn files_are_read_as_they_are_meant(
        (machines, tasks, slots) in (1u32..12, 1u32..8, 10u32..30),
        seed: u64,
        (count, gzip) in (1u32..5, any::<bool>()),
        threads in 1usize..4,
        layout in 0..Layout::ALL.len(),
    ) {
        let scenario = Scenario::new(machines, tasks, slots, seed);
        round_trip(&scenario, Layout::ALL[layout], Parts { count, gzip }, threads);
    }
}

#[test]
fn many_batches_and_parts_of_every_layout() {
    // Some fifty thousand rows: more than a batch in every part, more than a row group.
    let scenario = Scenario::new(40, 20, 60, 7);
    for layout in Layout::ALL {
        round_trip(&scenario, layout, Parts { count: 3, gzip: true }, 2);
    }
    // More files than are read ahead.
    let layout = Layout::Google2019(Encoding::Csv);
    round_trip(&scenario, layout, Parts { count: 50, gzip: false }, 3);
}

#[test]
fn a_generated_trace_has_all_that_is_promised() {
    let scenario = Scenario::new(20, 8, 40, 3);
    let half = scenario.slot / 4;
    let records: Vec<Record> = records(&scenario, Layout::Google2011).unwrap().collect();
    let (mut changes, mut gone, mut within, mut moved) = (0, 0, 0, 0);
    let (mut crossing, mut cut) = (0, 0);
    let end = scenario.slot * i64::from(scenario.slots);
    let mut there = std::collections::HashMap::new();
    let mut places = std::collections::HashMap::new();
    let mut classes = std::collections::BTreeSet::new();
    for record in &records {
        match record {
            Record::Machine(machine) => {
                let before = there.insert(machine.machine, machine.capacity);
                changes += u32::from(before.flatten().is_some() && machine.capacity.is_some());
                gone += u32::from(machine.capacity.is_none());
                within += u32::from(machine.at % scenario.slot == half);
            }
            Record::Task(task) => {
                if let Some(placement) = &task.runs {
                    classes.extend(placement.class);
                    let before = places.insert(task.task, placement.machine);
                    moved += u32::from(before.is_some_and(|before| before != placement.machine));
                }
            }
            Record::Use(used) => {
                let last = (used.end - 1) / scenario.slot;
                crossing += u32::from(used.start / scenario.slot != last);
                // What is left of a slot after a task has moved in the middle of it.
                let rest = used.start % scenario.slot == 2 * half && used.end % scenario.slot == 0;
                cut += u32::from(rest && used.end < end);
            }
            Record::Gauge(_) => unreachable!("Google's traces have none"),
        }
    }
    assert!(changes > 0 && gone > 0 && within > 0, "{changes} {gone} {within}");
    assert!(moved > 0 && crossing > 0 && cut > 0, "{moved} {crossing} {cut}");
    assert_eq!(classes.len(), 4);
}
