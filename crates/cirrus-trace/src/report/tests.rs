//! Golden text and JSON of a small cluster.

use super::{Report, answer, details};
use crate::figures::{Analysis, Options};
use crate::record::{
    Amount, Class, Machine, MachineId, Micros, Placement, Record, Task, TaskId, Use,
};

const SLOT: Micros = 300_000_000;

fn amount(cpu: f64, memory: f64) -> Amount {
    Amount { cpu: Some(cpu), memory: Some(memory) }
}

fn uses(slot: Micros, task: u64, class: Class, mean: Amount) -> Record {
    Record::Use(Use {
        start: slot * SLOT,
        end: (slot + 1) * SLOT,
        machine: Some(MachineId(task % 3)),
        task: Some(TaskId { collection: 1, index: task }),
        class: Some(class),
        mean,
        memory_max: mean.memory.map(|memory| memory + 0.0625),
        request: Amount::default(),
    })
}

/// Three machines of two kinds for `slots` slots; six tasks, of which every other one's use goes up
/// and down.
pub(crate) fn small(slots: Micros) -> Report {
    let local_fractions = vec![0.0, 0.25, 0.5, 1.0];
    let options = Options { local_fractions, ..Options::default() };
    let mut analysis = Analysis::new(options).unwrap();
    let capacities = [amount(1.0, 1.0), amount(0.5, 0.5), amount(0.5, 0.5)];
    for (machine, capacity) in (0..).zip(capacities) {
        let machine = MachineId(machine);
        let capacity = Some(capacity);
        analysis.push(&Record::Machine(Machine { at: 0, until: None, machine, capacity }));
    }
    let class = |task| if task < 3 { Class::Production } else { Class::Free };
    for task in 0..6 {
        let request = amount(0.25, 0.1875);
        let runs =
            Placement { machine: Some(MachineId(task % 3)), request, class: Some(class(task)) };
        let task = TaskId { collection: 1, index: task };
        analysis.push(&Record::Task(Task { at: 0, task, runs: Some(runs) }));
    }
    for slot in 0..slots {
        for task in 0..6 {
            let wave = if (slot / 3) % 2 == 0 && task % 2 == 0 { 0.0625 } else { 0.0 };
            analysis.push(&uses(slot, task, class(task), amount(0.125, 0.125 + wave)));
        }
    }
    analysis.finish()
}

/// As on a terminal.
fn text(report: &Report) -> String {
    answer(report) + &details(report)
}

fn nothing() -> Report {
    Analysis::new(Options::default()).unwrap().finish()
}

#[test]
fn a_small_report_as_text() {
    insta::assert_snapshot!(text(&small(12)));
}

#[test]
fn a_trace_without_anything_as_text() {
    insta::assert_snapshot!(text(&nothing()));
}

#[test]
fn a_small_report_as_json() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&small(2)).unwrap());
}

#[test]
fn no_line_is_wider_than_100_columns() {
    for report in [small(12), nothing(), memory_alone()] {
        for line in text(&report).lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

/// One machine, one task, no word of processors.
fn memory_alone() -> Report {
    let memory = |memory| Amount { cpu: None, memory: Some(memory) };
    let mut analysis = Analysis::new(Options::default()).unwrap();
    let (at, machine) = (0, MachineId(0));
    let capacity = Some(memory(1.0));
    analysis.push(&Record::Machine(Machine { at, until: None, machine, capacity }));
    analysis.push(&uses(0, 0, Class::Free, memory(0.25)));
    analysis.finish()
}

#[test]
fn a_trace_without_processors_says_so_once() {
    let said = text(&memory_alone());
    let row = said.lines().find(|line| line.starts_with(" processors ")).unwrap();
    assert_eq!(row.matches("not in this trace").count(), 1, "{row}");
    assert!(row.matches(" - ").count() + usize::from(row.ends_with(" -")) >= 3, "{row}");
    assert!(!said.contains("pools, L") && said.contains("this is of memory alone."), "{said}");
    let packed = said.lines().find(|line| line.contains("with a margin of")).unwrap();
    assert!(!packed.contains("processors"), "{packed}");
    assert_eq!(memory_alone().achievable[0].demand_cpu, None);
}

#[test]
fn one_machine_is_no_machines() {
    let said = answer(&memory_alone());
    assert!(said.contains("Of the memory of 1 machine, 75.0 % was"), "{said}");
    assert!(said.contains("1 task with 10.0 % more than used need all of 1 machine."), "{said}");
    assert!(!said.contains("1 machines") && !said.contains("1 tasks"), "{said}");
}

#[test]
fn without_machines_the_answer_is_what_of_the_requests_is_used() {
    let mean = amount(0.25, 0.25);
    let Record::Use(used) = uses(0, 0, Class::Free, mean) else { unreachable!() };
    let mut analysis = Analysis::new(Options::default()).unwrap();
    analysis.push(&Record::Use(Use { machine: None, request: amount(1.0, 1.0), ..used }));
    let said = answer(&analysis.finish());
    let first = "Of the memory that tasks ask for, 25.0 % is used, weighted by time.";
    assert!(said.starts_with(first), "{said}");
}

#[test]
fn the_answer_is_half_a_screen() {
    let said = answer(&small(12));
    assert!(said.lines().count() <= 12, "{said}");
    for word in ["was not used", "could be lent", "cap", "99 %", "peak", "pool", "remain"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn numbers_are_written_for_people() {
    use super::sentences::{amount, count, duration, percent};
    assert_eq!(percent(0.12345), "12.3 %");
    assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    let written = [0.0, 0.00001, 0.12345, 12.345, 123.45, 1234.5, -0.5, -12_345.6].map(amount);
    let expected = ["0", "1.000e-5", "0.1235", "12.35", "123.5", "1,235", "-0.5000", "-12,346"];
    assert_eq!(written, expected);
    let written = [1.5, 120.0, 7_200.0, 2_505_600.0].map(duration);
    assert_eq!(written, ["1.500 seconds", "2.0 minutes", "2.0 hours", "29.0 days"]);
}
