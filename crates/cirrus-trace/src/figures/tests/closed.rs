//! Traces whose figures are known in closed form, exactly.

use super::*;
use crate::report::{Both, Left, Source};

fn both(cpu: f64, memory: f64) -> Both {
    Both { cpu: Some(cpu), memory: Some(memory) }
}

/// The slots of a trace that begins at 0, as a span of time.
fn slots(first: Micros, last: Micros) -> [Micros; 2] {
    [first * SLOT, last * SLOT]
}

#[test]
fn a_constant_load() {
    // Half the memory of one machine and a quarter of its processors, all the time.
    let report = report(&[up(0, 1, amount(1024, 512)), used(slots(0, 10), 1, 1, amount(256, 256))]);
    assert_eq!(report.trace.slots, 10);
    assert_eq!(report.trace.measured_s, 0.010_24);
    assert_eq!(report.mean.capacity, both(1.0, 0.5));
    assert_eq!(report.mean.used, both(0.25, 0.25));
    assert_eq!(report.mean.unused_share, both(0.75, 0.5));
    assert_eq!(report.mean.reserved, Both::default());
    assert_eq!(report.mean.reserved_by, None);
    assert_eq!(report.requests, None);
    let recoverable: Vec<_> = report.recoverable.iter().map(|row| row.share.unwrap()).collect();
    assert_eq!(recoverable, [0.5, 0.5, 0.5, 0.0]);
    // A quarter of a machine of size 1 is used: three quarters, where half of the memory is there.
    let published: Vec<_> =
        report.recoverable.iter().map(|row| row.as_published_share.unwrap()).collect();
    assert_eq!(published, [0.75, 0.75, 0.5, 0.0]);
    let caps: Vec<_> = report.recoverable.iter().map(|row| row.cap_share).collect();
    assert_eq!(caps, [1.0, 0.75, 0.5, 0.0]);
    let left = Some(Left { at_peak_share: 0.5, at_p99_share: 0.5, mean_share: 0.5 });
    assert_eq!(report.recoverable[0].pooled, left);
    assert_eq!(report.recoverable[1].each_machine, left);
    let demand = report.demand.memory.unwrap();
    assert_eq!([demand.peak, demand.p99, demand.mean], [0.25; 3]);
    assert_eq!(report.over_time.len(), 10);
    assert_eq!(report.over_time[3].used, both(0.25, 0.25));
    let stranded = report.stranded.unwrap();
    assert_eq!((stranded.allocated_by, stranded.share), (Source::Used, both(0.0, 0.0)));
}

#[test]
fn two_machines_peak_at_different_times() {
    // Each uses all of its memory in one slot of four, and none in the others: together they never
    // use more than half, and one by one nothing is left at their peaks.
    let report = report(&[
        up(0, 1, amount(1024, 1024)),
        up(0, 2, amount(1024, 1024)),
        used(slots(0, 1), 1, 1, amount(0, 1024)),
        used(slots(1, 2), 2, 2, amount(0, 1024)),
        used(slots(2, 4), 1, 1, amount(0, 0)),
    ]);
    let left =
        |at_peak_share, mean_share| Left { at_peak_share, at_p99_share: at_peak_share, mean_share };
    assert_eq!(report.recoverable[0].share, Some(0.75));
    assert_eq!(report.recoverable[0].pooled, Some(left(0.5, 0.75)));
    assert_eq!(report.recoverable[0].each_machine, Some(left(0.0, 0.75)));
    // With half kept: in two slots of four 1.5 of 2 is kept, in the others 1.
    assert_eq!(report.recoverable[2].share, Some(0.375));
    assert_eq!(report.recoverable[2].pooled, Some(left(0.25, 0.375)));
}

#[test]
fn machines_come_go_and_change_in_the_middle_of_slots() {
    let report = report(&[
        up(0, 1, amount(1024, 512)),
        // From the middle of slot 0 on it has twice the memory; from the middle of slot 2 it is gone.
        up(SLOT / 2, 1, amount(1024, 1024)),
        gone(2 * SLOT + SLOT / 2, 1),
        up(3 * SLOT + SLOT / 4, 2, amount(512, 256)),
        used(slots(0, 2), 1, 1, amount(0, 256)),
        used([2 * SLOT, 2 * SLOT + SLOT / 2], 1, 1, amount(0, 256)),
        used([3 * SLOT, 4 * SLOT], 2, 2, amount(0, 128)),
    ]);
    let capacity: Vec<_> =
        report.over_time.iter().map(|slot| slot.capacity.memory.unwrap()).collect();
    // The measured part of slot 2 ends in its middle.
    assert_eq!(capacity, [0.75, 1.0, 1.0, 0.1875]);
    assert_eq!(report.over_time[2].measured_s, 0.000_512);
    let used: Vec<_> = report.over_time.iter().map(|slot| slot.used.memory.unwrap()).collect();
    // Machine 2 was used before it was up: all of it counts against what it has in the slot.
    assert_eq!(used, [0.25, 0.25, 0.25, 0.125]);
    // 0.5 + 0.75 + 0.375 + 0.0625 slots of memory unused, of 0.75 + 1 + 0.5 + 0.1875.
    assert_eq!(report.mean.unused_share.memory, Some(1.6875 / 2.4375));
    // The slot of a change counts to the capacity that came last.
    assert_eq!(report.machine_classes.len(), 2);
    assert_eq!(report.machine_classes[0].capacity, both(1.0, 1.0));
    assert_eq!(report.machine_classes[0].memory_share, Some(2.25 / 2.4375));
    assert_eq!(report.machine_classes[0].machines_up, 2.5 / 3.5);
    assert_eq!(report.machine_classes[1].unused_share.memory, Some(0.0625 / 0.1875));
    assert_eq!(report.trace.machines, 2);
    assert_eq!(report.trace.machines_up, 3.25 / 3.5);
}

#[test]
fn samples_that_overlap_and_gauges_beside_them() {
    let report = report(&[
        up(0, 1, amount(1024, 1024)),
        up(0, 2, amount(1024, 1024)),
        used(slots(0, 2), 1, 1, amount(64, 128)),
        used([SLOT / 2, SLOT + SLOT / 2], 1, 1, amount(64, 128)),
        // Where a machine has gauges, they count and its samples do not.
        used(slots(0, 2), 2, 2, amount(1024, 1024)),
        gauge(1, 2, Amount { cpu: None, memory: Some(0.25) }),
        gauge(SLOT - 1, 2, Amount { cpu: None, memory: Some(0.5) }),
    ]);
    let used: Vec<_> = report.over_time.iter().map(|slot| slot.used).collect();
    let one = 128.0 / 1024.0 * 1.5;
    assert_eq!(used[0], both(64.0 / 1024.0 * 1.5 + 1.0, one + 0.375));
    assert_eq!(used[1], both(64.0 / 1024.0 * 1.5 + 1.0, one + 1.0));
    assert_eq!(report.trace.gauge_records, 2);
}

#[test]
fn tasks_reserve_where_they_run_and_move() {
    let records = [
        up(0, 1, amount(1024, 1024)),
        up(0, 2, amount(1024, 1024)),
        runs(0, 1, 1, amount(512, 256)),
        runs(0, 2, 1, amount(256, 256)),
        // Task 1 moves in the middle of slot 1 and asks for more; task 2 ends in the middle of 2.
        runs(SLOT + SLOT / 2, 1, 2, amount(512, 512)),
        ends(2 * SLOT + SLOT / 2, 2),
        used(slots(0, 4), 1, 3, amount(0, 0)),
    ];
    let report = report(&records);
    assert_eq!(report.mean.reserved_by, Some(Source::Tasks));
    let reserved: Vec<_> = report.over_time.iter().map(|slot| slot.reserved).collect();
    let expected = [both(0.75, 0.5), both(0.75, 0.625), both(0.625, 0.625), both(0.5, 0.5)];
    assert_eq!(reserved, expected);
    assert_eq!(report.mean.reserved_share, both(2.625 / 8.0, 2.25 / 8.0));
    // Three quarters of machine 1's processors are taken in slot 0 alone: half its memory is left.
    assert_eq!(report.stranded.unwrap().allocated_by, Source::Tasks);
    assert_eq!(report.stranded.unwrap().share, both(0.0, 0.5 / 8.0));
}

#[test]
fn requests_against_use() {
    let ask = |used: Use, request, class| Record::Use(Use { request, class, ..used });
    let records = [
        up(0, 1, amount(1024, 1024)),
        runs(0, 1, 1, amount(256, 512)),
        // The placement's request wins, and says the class.
        ask(sample(slots(0, 2), 1, 1, amount(128, 768)), amount(1, 1), None),
        // Of one memory is asked for here, of which a quarter is used.
        ask(
            sample(slots(0, 1), 1, 9, amount(512, 256)),
            Amount { cpu: None, memory: Some(1.0) },
            Some(Class::Free),
        ),
        // No request.
        used(slots(0, 4), 1, 10, amount(512, 256)),
    ];
    let requests = report(&records).requests.unwrap();
    // Of 2 slots of a quarter of cpu half is used; of memory 1 of 1 + 1 asked is too much and
    // three quarters of 1 are spare.
    assert_eq!(requests.all.unused_share, both(0.5, 0.375));
    assert_eq!(requests.all.used_share, both(0.5, 1.75 / 2.0));
    let classes: Vec<_> = requests.by_class.iter().map(|class| class.class).collect();
    assert_eq!(classes, ["free", "production"]);
    assert_eq!(requests.by_class[0].asked.unused_share, Both { cpu: None, memory: Some(0.75) });
    assert_eq!(requests.by_class[1].asked.used_share, both(0.5, 1.5));
    assert_eq!(requests.by_class[1].share_of_requests, both(1.0, 0.5));
}

#[test]
fn stranded_by_requests_of_samples() {
    let asks = |machine, task, request| {
        let used = sample(slots(0, 1), machine, task, amount(0, 0));
        Record::Use(Use { request, ..used })
    };
    let report = report(&[
        up(0, 1, amount(1024, 1024)),
        up(0, 2, amount(1024, 512)),
        up(0, 3, Amount { cpu: None, memory: Some(1.0) }),
        // With a slack of a quarter: 3/4 of the processors is all of them.
        asks(1, 1, amount(768, 256)),
        asks(2, 2, amount(767, 384)),
        // What is not known of machine 3 is not spoken for.
        asks(3, 3, amount(0, 1024)),
    ]);
    let stranded = report.stranded.unwrap();
    assert_eq!(stranded.allocated_by, Source::Uses);
    assert_eq!(stranded.share, both(257.0 / 1024.0 / 2.0, 0.75 / 2.5));
}

#[test]
fn what_is_achievable_at_the_fullest_moments() {
    let mut records: Vec<Record> = (1..=4).map(|id| up(0, id, amount(1024, 1024))).collect();
    for machine in 1..=4 {
        // In slot 1 memory is used the most, in slot 2 processors.
        let half = Use {
            memory_max: Some(0.5),
            ..sample(slots(1, 2), machine, machine, amount(256, 384))
        };
        records.push(Record::Use(half));
        records.push(used(slots(2, 3), machine, machine, amount(512, 128)));
    }
    let report = report(&records);
    let [memory, cpu] = &report.achievable[..] else { panic!("{:?}", report.achievable) };
    assert_eq!((memory.moment, memory.at_s), ("most_memory_used", 0.001_536));
    assert_eq!((memory.tasks, memory.machine_loads, memory.tasks_left_out), (4, 0, 0));
    assert_eq!((memory.demand_cpu, memory.demand_memory), (Some(1.0), 2.0));
    // Two tasks of half the memory on a machine; by processors alone, four of a quarter.
    assert_eq!(memory.whole_machines.needed.machines, 2);
    assert_eq!(memory.whole_machines.machines_at_least, 2);
    assert_eq!(memory.whole_machines.remain.memory, 2.0);
    let quarter = &memory.pools[1];
    assert_eq!((quarter.machines, quarter.machines_at_least), (1, 1));
    assert_eq!((quarter.memory_local, quarter.memory_remote), (0.25, 1.75));
    assert_eq!((quarter.remain.machines, quarter.remain.cpu, quarter.remain.memory), (3, 3.0, 2.0));
    assert_eq!((cpu.moment, cpu.at_s), ("most_cpu_used", 0.002_56));
    assert_eq!(cpu.whole_machines.needed.machines, 2);
    // Half of two machines is kept, and a quarter of each is needed: nothing is remote.
    assert_eq!((cpu.pools[2].memory_local, cpu.pools[2].memory_remote), (1.0, 0.0));
}

#[test]
fn machines_without_tasks_are_packed_whole() {
    let mut taskless = sample(slots(0, 1), 2, 0, amount(512, 512));
    taskless.task = None;
    let report = report(&[
        up(0, 1, amount(1024, 1024)),
        up(0, 2, amount(1024, 1024)),
        // Machine 1 has a gauge: its task is part of that load. Machine 9 does not count.
        used(slots(0, 1), 1, 1, amount(512, 512)),
        gauge(3, 1, amount(512, 512)),
        Record::Use(taskless),
        used(slots(0, 1), 2, 2, amount(256, 256)),
        used(slots(0, 1), 9, 3, amount(256, 256)),
    ]);
    let moment = &report.achievable[0];
    assert_eq!((moment.tasks, moment.machine_loads, moment.tasks_left_out), (2, 2, 1));
    assert_eq!(moment.demand_memory, 1.25);
    assert_eq!(report.trace.use_left_out_share.memory, Some(0.25 / 1.5));
}

#[test]
fn in_a_long_trace_points_over_time_are_means_and_all_other_figures_are_of_slots() {
    // A quarter is used, but for every hundredth slot of 6,000: all, and for one: a half.
    let mut records = vec![up(0, 1, amount(1024, 1024))];
    for slot in 0..6_000 {
        let memory = match slot {
            77 => 512,
            slot if slot % 100 == 0 => 1024,
            _ => 256,
        };
        records.push(used(slots(slot, slot + 1), 1, 1, amount(0, memory)));
    }
    let report = report(&records);
    assert_eq!((report.trace.slots, report.over_time.len()), (6_000, 3_000));
    assert_eq!(report.over_time_step_s, 2.0 * SLOT as f64 / 1e6);
    let memory = |point: usize| report.over_time[point].used.memory.unwrap();
    assert_eq!([memory(0), memory(1), memory(38)], [0.625, 0.25, 0.375]);
    let demand = report.demand.memory.unwrap();
    assert_eq!((demand.peak, demand.p99), (1.0, 0.5));
    let mean = (60.0 + 0.5 + 5_939.0 * 0.25) / 6_000.0;
    assert_eq!((demand.mean, report.mean.used.memory), (mean, Some(mean)));
    let pooled = report.recoverable[0].pooled.unwrap();
    assert_eq!((pooled.at_peak_share, pooled.at_p99_share), (0.0, 0.5));
}
