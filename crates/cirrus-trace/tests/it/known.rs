//! The known figures of generated traces, against sums over their records.

use std::collections::HashMap;

use cirrus_trace::record::{Record, Use};
use cirrus_trace::synthetic::{Layout, Scenario, known, records};

use crate::support::uses;

fn slots(time: i64, scenario: &Scenario) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few slots")]
    let share = time as f64 / scenario.slot as f64;
    share
}

/// How much of an interval is in a slot, in slots.
fn overlap(start: i64, end: i64, slot: usize, scenario: &Scenario) -> f64 {
    let slot = i64::try_from(slot).unwrap() * scenario.slot;
    let time = end.min(slot + scenario.slot) - start.max(slot);
    slots(time.max(0), scenario)
}

/// Sums over records are those over the cluster, bit by bit: all amounts are exact.
#[test]
fn capacity_and_use_are_those_of_the_records() {
    let scenario = Scenario::new(23, 5, 40, 11);
    let end = scenario.slot * i64::from(scenario.slots);
    for layout in [Layout::Google2011, Layout::Generic] {
        let known = known(&scenario, layout, &[0.25], 0.05).unwrap();
        let records: Vec<Record> = records(&scenario, layout).unwrap().collect();
        let mut there = HashMap::new();
        let mut spans = Vec::new();
        for record in &records {
            let Record::Machine(machine) = record else { continue };
            if let Some((since, capacity)) = there.remove(&machine.machine) {
                spans.push((machine.machine, since, machine.at, capacity));
            }
            if let (Some(capacity), Some(until)) = (machine.capacity, machine.until) {
                spans.push((machine.machine, machine.at, until, capacity));
            } else if let Some(capacity) = machine.capacity {
                there.insert(machine.machine, (machine.at, capacity));
            }
        }
        spans.extend(there.into_iter().map(|(machine, (since, c))| (machine, since, end, c)));
        for (slot, known) in known.slots.iter().enumerate() {
            let mut capacity = HashMap::<_, f64>::new();
            for &(machine, start, end, amount) in &spans {
                let part = overlap(start, end, slot, &scenario);
                *capacity.entry(machine).or_default() += part * amount.memory.unwrap();
            }
            let mut used = HashMap::<_, f64>::new();
            for record in uses(&records) {
                let part = overlap(record.start, record.end, slot, &scenario);
                *used.entry(record.machine.unwrap()).or_default() +=
                    part * record.mean.memory.unwrap();
            }
            let unused = |(machine, all): (_, &f64)| {
                (all - used.get(machine).copied().unwrap_or(0.0)).max(0.0)
            };
            let recoverable = |(machine, all): (_, &f64)| {
                (all - used.get(machine).copied().unwrap_or(0.0).max(0.25 * all)).max(0.0)
            };
            let at = format!("{layout:?} {slot}");
            assert_eq!(known.memory_capacity, capacity.values().sum::<f64>(), "{at}");
            assert_eq!(known.memory_used, used.values().sum::<f64>(), "{at}");
            assert_eq!(known.memory_unused, capacity.iter().map(unused).sum::<f64>(), "{at}");
            let sum = capacity.iter().map(recoverable).sum::<f64>();
            assert_eq!(known.recoverable[0], sum, "{at}");
        }
        assert!(known.unused_share() > 0.1 && known.unused_share() < 0.9);
        assert!(known.recoverable_share(0) <= known.unused_share());
        assert!(known.published_share(0) <= 0.75);
        assert!(known.total.memory_stranded > 0.0 && known.total.cpu_stranded > 0.0);
    }
}

#[test]
fn what_was_reserved_is_that_of_the_records() {
    let scenario = Scenario::new(9, 6, 40, 5);
    for layout in [Layout::Google2011, Layout::Alibaba2018, Layout::Spar, Layout::Generic] {
        let known = known(&scenario, layout, &[], 0.05).unwrap();
        let mut running = HashMap::new();
        let (mut request, mut unused, mut classes) = (0.0, 0.0, HashMap::<_, f64>::new());
        for record in records(&scenario, layout).unwrap() {
            match record {
                Record::Task(task) => {
                    running.insert(task.task, task.runs);
                }
                Record::Use(Use { start, end, task, class, mean, request: asked, .. }) => {
                    let placed = running.get(&task.unwrap()).and_then(Option::as_ref);
                    let asked = placed.map_or(asked, |placed| placed.request).memory.unwrap();
                    let class = placed.map_or(class, |placed| placed.class);
                    let time = slots(end - start, &scenario);
                    request += asked * time;
                    let rest = (asked - mean.memory.unwrap()).max(0.0) * time;
                    unused += rest;
                    if let Some(class) = class {
                        *classes.entry(class).or_default() += rest;
                    }
                }
                Record::Machine(_) | Record::Gauge(_) => {}
            }
        }
        assert_eq!(known.reserved.request, request, "{layout:?}");
        assert_eq!(known.reserved.unused, unused, "{layout:?}");
        let by_class: HashMap<_, f64> =
            known.by_class.iter().map(|(c, r)| (*c, r.unused)).collect();
        assert_eq!(by_class, classes, "{layout:?}");
    }
}
