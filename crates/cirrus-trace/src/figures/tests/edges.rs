//! What comes late, in pieces, out of order, or says nothing.

use super::*;
use crate::report::Late;

fn amount_of_memory(report: &Report) -> Vec<f64> {
    report.over_time.iter().map(|slot| slot.used.memory.unwrap()).collect()
}

#[test]
fn nothing_gives_nothing() {
    let report = report(&[]);
    assert_eq!(report.mean.unused_share.memory, None);
    assert_eq!((report.requests, report.stranded, report.demand.cpu), (None, None, None));
    assert!(report.recoverable.iter().all(|row| row.share.is_none() && row.pooled.is_none()));
    assert!(report.achievable.is_empty() && report.over_time.is_empty());
    assert_eq!((report.trace.first_s, report.trace.slots), (None, 0));
}

#[test]
fn machines_and_tasks_without_use_give_no_figures() {
    let report = report(&[up(0, 1, amount(1024, 1024)), runs(5, 1, 1, amount(1, 1))]);
    assert_eq!((report.mean.capacity.memory, report.mean.reserved.memory), (None, None));
    assert_eq!((report.trace.machines, report.trace.task_records), (1, 1));
}

#[test]
fn time_in_which_nothing_is_measured_does_not_count() {
    let report = report(&[
        up(-400 * SLOT, 1, amount(1024, 1024)),
        used([-SLOT, 0], 1, 1, amount(0, 512)),
        // A year of slots later, and machines go on after that.
        used([100_000 * SLOT, 100_001 * SLOT], 1, 1, amount(0, 256)),
        up(200_000 * SLOT, 2, amount(1024, 1024)),
    ]);
    assert_eq!(report.trace.slots, 2);
    assert_eq!(report.trace.first_s, Some(-0.001_024));
    assert_eq!(report.mean.unused_share.memory, Some(0.625));
}

#[test]
fn a_sample_over_many_slots_is_carried() {
    // It reaches far past the window before any slot closes.
    let report = report(&[
        up(0, 1, amount(1024, 1024)),
        used([SLOT / 2, 100 * SLOT + SLOT / 4], 1, 1, amount(0, 512)),
        used([50 * SLOT, 51 * SLOT], 1, 2, amount(0, 256)),
    ]);
    assert_eq!(report.trace.slots, 101);
    assert_eq!(report.over_time[0].measured_s, 0.000_512);
    assert_eq!(report.over_time[100].measured_s, 0.000_256);
    let mut expected = vec![0.5; 101];
    expected[50] = 0.75;
    assert_eq!(amount_of_memory(&report), expected);
    assert_eq!(report.demand.memory.unwrap().mean, (0.5 * 99.75 + 0.25) / 99.75);
}

#[test]
fn late_records_are_counted_and_their_time_named() {
    let mut analysis = analysis();
    analysis.push(&up(0, 1, amount(1024, 1024)));
    analysis.push(&used([0, SLOT], 1, 1, amount(0, 512)));
    // The window is 4 slots: this closes slots 0 to 5.
    analysis.push(&used([10 * SLOT, 11 * SLOT], 1, 1, amount(0, 512)));
    assert_eq!(*analysis.late(), Late::default());
    analysis.push(&used([5 * SLOT, 7 * SLOT], 1, 2, amount(0, 512)));
    analysis.push(&used([SLOT, 2 * SLOT], 1, 2, amount(0, 512)));
    analysis.push(&gauge(5 * SLOT, 1, amount(1, 1)));
    analysis.push(&runs(SLOT, 7, 1, amount(256, 256)));
    analysis.push(&up(2 * SLOT, 2, amount(1024, 512)));
    let late = *analysis.late();
    assert_eq!((late.uses, late.use_lost_s), (2, 0.002_048));
    assert_eq!((late.gauges, late.tasks, late.machines), (1, 1, 1));
    assert_eq!((late.task_lost_s, late.machine_lost_s), (0.005_120, 0.004_096));
    let report = analysis.finish();
    assert_eq!(report.trace.late, late);
    let times: Vec<f64> = report.over_time.iter().map(|slot| slot.at_s).collect();
    assert_eq!(times, [0.0, 0.006_144, 0.010_24]);
    // What is late of machines and tasks counts from the first open slot on.
    let row = |slot: usize| {
        (report.over_time[slot].capacity.memory, report.over_time[slot].reserved.memory)
    };
    assert_eq!(row(0), (Some(1.0), Some(0.0)));
    assert_eq!(row(1), (Some(1.5), Some(0.25)));
}

#[test]
fn a_late_record_does_not_undo_a_newer_one() {
    let mut analysis = analysis();
    analysis.push(&up(0, 1, amount(1024, 1024)));
    analysis.push(&up(3 * SLOT, 1, amount(1024, 512)));
    analysis.push(&used([10 * SLOT, 11 * SLOT], 1, 1, amount(0, 256)));
    analysis.push(&gone(2 * SLOT, 1));
    assert_eq!(analysis.late().machines, 1);
    assert_eq!(analysis.finish().mean.capacity.memory, Some(0.5));
}

#[test]
fn a_machine_that_leaves_puts_its_tasks_out() {
    let report = report(&[
        up(0, 1, amount(1024, 1024)),
        runs(0, 1, 1, amount(512, 512)),
        used([0, 4 * SLOT], 1, 9, amount(0, 128)),
        gone(SLOT, 1),
        up(2 * SLOT, 1, amount(1024, 1024)),
        // The end of a task that was put out takes nothing from those that came after.
        runs(2 * SLOT, 2, 1, amount(256, 256)),
        ends(3 * SLOT, 1),
    ]);
    let reserved: Vec<_> =
        report.over_time.iter().map(|slot| slot.reserved.memory.unwrap()).collect();
    assert_eq!(reserved, [0.5, 0.0, 0.25, 0.25]);
    assert_eq!(report.trace.use_left_out_share.memory, Some(0.25));
}

#[test]
fn a_stay_ends_at_its_until() {
    let stay = |at, until, memory| {
        let capacity = Some(amount(1024, memory));
        Record::Machine(Machine { at, until: Some(until), machine: MachineId(1), capacity })
    };
    let report = report(&[
        stay(0, SLOT + SLOT / 2, 1024),
        // The next record ends this one before its own end.
        stay(2 * SLOT, 9 * SLOT, 512),
        stay(3 * SLOT, 4 * SLOT, 256),
        used([0, 5 * SLOT], 1, 1, amount(0, 128)),
    ]);
    let capacity: Vec<_> =
        report.over_time.iter().map(|slot| slot.capacity.memory.unwrap()).collect();
    assert_eq!(capacity, [1.0, 0.5, 0.5, 0.25, 0.0]);
}

#[test]
fn a_task_that_ends_without_having_started_is_counted_and_forgotten() {
    let report = report(&[
        up(0, 1, amount(1024, 1024)),
        ends(5, 1),
        runs(SLOT, 1, 1, amount(512, 512)),
        used([0, 2 * SLOT], 1, 1, amount(0, 128)),
    ]);
    assert_eq!(report.trace.tasks_ended_without_start, 1);
    assert_eq!(report.over_time[1].reserved.memory, Some(0.5));
}

#[test]
fn tasks_that_ended_are_forgotten_when_their_slot_has_closed() {
    let mut analysis = analysis();
    analysis.push(&up(0, 1, amount(1024, 1024)));
    for task in 0..1000u64 {
        let at = i64::try_from(task).unwrap() * SLOT;
        analysis.push(&runs(at, task, 1, amount(1, 1)));
        analysis.push(&used([at, at + SLOT], 1, task, amount(1, 1)));
        analysis.push(&ends(at + SLOT, task));
        assert!(analysis.fleet.tasks_held() <= 8, "{}", analysis.fleet.tasks_held());
    }
    assert_eq!(analysis.finish().requests.unwrap().all.used_share.memory, Some(1.0));
}

#[test]
fn machines_of_unknown_memory_are_named_and_not_counted() {
    let report = report(&[
        up(0, 1, Amount { cpu: Some(1.0), memory: None }),
        up(0, 2, Amount { cpu: None, memory: Some(1.0) }),
        used([0, SLOT], 1, 1, amount(512, 512)),
        used([0, SLOT], 2, 2, Amount { cpu: None, memory: Some(0.5) }),
        used([0, SLOT], 3, 3, amount(0, 512)),
    ]);
    assert_eq!((report.trace.machines, report.trace.machines_without_memory), (1, 2));
    assert_eq!(report.mean.capacity, crate::report::Both { cpu: None, memory: Some(1.0) });
    assert_eq!(report.mean.used.cpu, None);
    assert_eq!(report.stranded, None);
    assert_eq!(report.trace.use_left_out_share.memory, Some(1.0 / 1.5));
    assert_eq!(report.trace.uses_without_cpu, 1);
}

#[test]
fn larger_machines_than_one_have_no_figure_as_published() {
    let report = report(&[up(0, 1, amount(1024, 2048)), used([0, SLOT], 1, 1, amount(0, 512))]);
    assert_eq!(report.recoverable[0].share, Some(0.75));
    assert_eq!(report.recoverable[0].as_published_share, None);
}

#[test]
fn absurd_times_are_counted_and_left_out() {
    let mut analysis = analysis();
    analysis.push(&up(0, 1, amount(1024, 1024)));
    for at in [Micros::MAX, Micros::MIN, Micros::MIN + 1] {
        analysis.push(&up(at, 1, amount(1024, 512)));
        analysis.push(&gauge(at, 1, amount(1, 1)));
    }
    analysis.push(&used([0, Micros::MAX], 1, 1, amount(0, 512)));
    analysis.push(&used([0, 200_001 * SLOT], 1, 1, amount(0, 512)));
    analysis.push(&used([0, SLOT], 1, 1, amount(0, 512)));
    assert_eq!(analysis.late().not_believed, 8);
    assert_eq!(analysis.finish().mean.unused_share.memory, Some(0.5));
}

#[test]
fn options_out_of_range_are_refused() {
    let wrong: [fn(&mut Options); 5] = [
        |options| options.slot = 0,
        |options| options.window = 100_001,
        |options| options.local_fractions = vec![0.5, 1.5],
        |options| options.slack = f64::NAN,
        |options| options.margin = -0.1,
    ];
    for wrong in wrong {
        let mut options = Options::default();
        wrong(&mut options);
        assert!(Analysis::new(options.clone()).is_err(), "{options:?}");
    }
    assert!(Analysis::new(Options::default()).is_ok());
}
