use super::{ClassSums, Sample, Slots};
use crate::record::Amount;

const LENGTH: i64 = 100;

fn sample(memory: f64) -> Sample {
    Sample {
        machine: 1,
        is_task: true,
        used: Amount { cpu: None, memory: Some(memory) },
        memory_max: None,
        asked_by_use: Amount::default(),
        asked: Amount::default(),
        class: ClassSums::index(None),
    }
}

/// Closes slots until nothing is left: the number, memory times microseconds and measured span of
/// each that had any.
fn drain(slots: &mut Slots) -> Vec<(i64, f64, i64, i64)> {
    let mut drained = Vec::new();
    while !slots.is_idle() {
        let index = slots.first();
        let slot = slots.take_first();
        let span = slot.span();
        if span.measured() > 0 {
            let sum = slot.uses.get(1).map_or(0.0, |sum| sum.used[1]);
            drained.push((index, sum, span.from, span.to));
        }
        slots.hand_on(slot);
    }
    drained
}

#[test]
fn samples_are_cut_at_the_borders_of_slots() {
    let mut slots = Slots::new(LENGTH, 1);
    slots.jump(-1);
    assert_eq!(slots.add_sample(-50, 120, &sample(2.0)), 0);
    let expected = [(-1, 100.0, -50, 0), (0, 200.0, 0, 100), (1, 40.0, 100, 120)];
    assert_eq!(drain(&mut slots), expected);
}

#[test]
fn what_reaches_past_the_open_slots_is_carried_whole() {
    let mut slots = Slots::new(LENGTH, 1);
    slots.add_sample(50, 1050, &sample(1.0));
    // Begins past all open slots.
    slots.add_sample(2000, 2010, &sample(1.0));
    let drained = drain(&mut slots);
    assert_eq!(drained.iter().map(|slot| slot.1).sum::<f64>(), 1010.0);
    assert_eq!((drained[0], drained[10]), ((0, 50.0, 50, 100), (10, 50.0, 1000, 1050)));
    assert_eq!(drained[11..], [(20, 10.0, 2000, 2010)]);
}

#[test]
fn only_what_falls_into_closed_slots_is_late() {
    let mut slots = Slots::new(LENGTH, 1);
    slots.jump(5);
    assert_eq!(slots.add_sample(450, 550, &sample(1.0)), 50);
    assert_eq!(slots.add_sample(100, 200, &sample(1.0)), 100);
    assert!(!slots.add_gauge(499, 1, Amount::default()));
    assert!(slots.add_gauge(500, 1, Amount::default()));
    assert_eq!(drain(&mut slots), [(5, 50.0, 500, 600)]);
}
