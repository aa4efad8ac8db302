//! Machines by what they have.

use std::collections::BTreeMap;

use super::{Cell, Reference};

/// Time up, and memory and unused memory times microseconds.
pub(in crate::figures) type ClassFigures = (f64, f64, f64);

impl Reference<'_> {
    /// By the bits of processors, where they are known, and memory: in the slots at whose end, or
    /// before, a machine last had that capacity.
    pub(in crate::figures) fn classes(&self) -> BTreeMap<(Option<u64>, u64), ClassFigures> {
        let mut classes: BTreeMap<_, ClassFigures> = BTreeMap::new();
        for Cell { up, capacity, used, last, .. } in self.cells.values() {
            let last = last.unwrap();
            let key = (last.cpu.map(f64::to_bits), last.memory.unwrap().to_bits());
            let class = classes.entry(key).or_default();
            class.0 += up;
            class.1 += capacity[1];
            class.2 += (capacity[1] - used[1]).max(0.0);
        }
        classes
    }
}
