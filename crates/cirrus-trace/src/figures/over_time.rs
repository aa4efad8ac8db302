//! The cluster over time, in so few points that they are drawn and printed.
//!
//! Owns [`OverTime`]: which slots are one point. Knows nothing of records, of percentiles.
//! Invariant: there are at most [`POINTS_MAX`] points, and what they add up to is what was pushed.
//!
//! Every point covers the same number of slots, a power of two, whether all were measured or not;
//! when there are too many points, that number is doubled.

use crate::record::Micros;

/// The most points: 16 days of slots of 300 s are told slot by slot.
pub(crate) const POINTS_MAX: usize = 5_000;

/// Slots that are one point. Amounts times microseconds, processors and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    /// The number of its first slot.
    pub(crate) slot: i64,
    /// When the first measured part of it begins.
    pub(crate) from: Micros,
    pub(crate) measured: Micros,
    pub(crate) capacity: [f64; 2],
    pub(crate) used: [f64; 2],
    pub(crate) by_tasks: [f64; 2],
    pub(crate) by_uses: [f64; 2],
}

impl Point {
    fn add(&mut self, later: &Self) {
        self.measured += later.measured;
        for resource in 0..2 {
            self.capacity[resource] += later.capacity[resource];
            self.used[resource] += later.used[resource];
            self.by_tasks[resource] += later.by_tasks[resource];
            self.by_uses[resource] += later.by_uses[resource];
        }
    }
}

/// Points in the order of time.
#[derive(Clone)]
pub(crate) struct OverTime {
    points: Vec<Point>,
    /// How many slots each covers.
    pub(crate) slots_each: i64,
}

impl Default for OverTime {
    fn default() -> Self {
        Self { points: Vec::new(), slots_each: 1 }
    }
}

impl OverTime {
    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Adds a slot that is later than those before.
    pub(crate) fn push(&mut self, slot: &Point) {
        self.add(slot);
        while self.points.len() > POINTS_MAX {
            self.slots_each *= 2;
            for point in std::mem::take(&mut self.points) {
                self.add(&point);
            }
        }
    }

    fn add(&mut self, part: &Point) {
        let slot = part.slot - part.slot.rem_euclid(self.slots_each);
        match self.points.last_mut() {
            Some(last) if last.slot == slot => last.add(part),
            _ => self.points.push(Point { slot, ..*part }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(slot: i64) -> Point {
        let amounts = [1.0, 2.0];
        Point {
            slot,
            from: slot * 8 + 1,
            measured: 7,
            capacity: amounts,
            used: amounts,
            by_tasks: amounts,
            by_uses: amounts,
        }
    }

    fn pushed(slots: impl Iterator<Item = i64>) -> OverTime {
        let mut over_time = OverTime::default();
        slots.for_each(|number| over_time.push(&slot(number)));
        over_time
    }

    #[test]
    fn points_stay_few_and_add_up_to_all_slots() {
        for (slots, each, points) in [(5_000, 1, 5_000), (5_001, 2, 2_501), (100_000, 32, 3_125)] {
            let over_time = pushed(0..slots);
            assert_eq!((over_time.slots_each, over_time.points().len()), (each, points));
            let used: f64 = over_time.points().iter().map(|point| point.used[1]).sum();
            let measured: Micros = over_time.points().iter().map(|point| point.measured).sum();
            assert_eq!((used, measured), (2.0 * slots as f64, 7 * slots));
        }
    }

    #[test]
    fn a_point_begins_where_its_first_slot_was_measured() {
        let over_time = pushed((-3..0).chain(7..5_005));
        let first: Vec<_> = over_time.points()[..4].iter().map(|it| (it.slot, it.from)).collect();
        // Slots are paired from the zero of the trace on, not from the first that is there.
        assert_eq!(first, [(-4, -23), (-2, -15), (6, 57), (8, 65)]);
        assert_eq!((over_time.points()[0].used, over_time.points()[1].used[1]), ([1.0, 2.0], 4.0));
    }

    #[test]
    fn slots_far_apart_are_paired_until_they_are_few() {
        let over_time = pushed((0..6_000).map(|number| number * 1_000));
        assert!(over_time.points().len() <= POINTS_MAX, "{}", over_time.points().len());
        assert_eq!(over_time.points().iter().map(|point| point.measured).sum::<Micros>(), 42_000);
    }
}
