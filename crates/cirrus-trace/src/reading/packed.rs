//! Rows as bytes, for the time that they wait on disk to be put in order.
//!
//! Owns: the layout, which no other program reads.
//! Knows nothing of: files.
//! Invariant: what is unpacked is what was packed, to the bit.
//!
//! A tag, a mark with a bit for every value that may be missing, then eight bytes for every value
//! that is there, little-endian.

use crate::formats::output::Origin;
use crate::formats::{Plan, Row};
use crate::record::{
    Amount, Class, Gauge, Machine, MachineId, Placement, Record, Task, TaskId, Use,
};

const CLASSES: [Class; 5] =
    [Class::Free, Class::BestEffort, Class::Middle, Class::Production, Class::Monitoring];

/// No row is longer: a tag, two bytes of mark, fifteen values.
pub(crate) const PACKED_MAX: usize = 3 + 15 * 8;

/// Collects values and the mark of which are there.
struct Packing<'a> {
    bytes: &'a mut Vec<u8>,
    mark: u16,
    bit: u32,
}

impl Packing<'_> {
    fn value(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn optional(&mut self, value: Option<u64>) {
        self.mark |= u16::from(value.is_some()) << self.bit;
        self.bit += 1;
        if let Some(value) = value {
            self.value(value);
        }
    }

    fn amount(&mut self, amount: Amount) {
        self.optional(amount.cpu.map(f64::to_bits));
        self.optional(amount.memory.map(f64::to_bits));
    }

    fn is(&mut self, is: bool) {
        self.optional(is.then_some(0));
    }

    fn placement(&mut self, runs: Option<&Placement>) {
        self.is(runs.is_some());
        if let Some(placement) = runs {
            self.optional(placement.machine.map(|machine| machine.0));
            self.amount(placement.request);
            self.optional(placement.class.map(|class| class as u64));
        }
    }

    fn used(&mut self, used: &Use) {
        self.value(used.end.cast_unsigned());
        self.optional(used.machine.map(|machine| machine.0));
        self.optional(used.task.map(|task| task.collection));
        self.optional(used.task.map(|task| task.index));
        self.optional(used.class.map(|class| class as u64));
        self.amount(used.mean);
        self.optional(used.memory_max.map(f64::to_bits));
        self.amount(used.request);
    }
}

/// Adds a row to `bytes`.
pub(crate) fn pack(row: &Row, bytes: &mut Vec<u8>) {
    let at = bytes.len();
    bytes.extend_from_slice(&[0; 3]);
    let mut packing = Packing { bytes, mark: 0, bit: 0 };
    packing.value(row.time().cast_unsigned());
    let tag = match row {
        Row::Record(Record::Machine(machine)) => {
            packing.value(machine.machine.0);
            packing.optional(machine.until.map(i64::cast_unsigned));
            packing.is(machine.capacity.is_some());
            packing.amount(machine.capacity.unwrap_or_default());
            0
        }
        Row::Record(Record::Task(task)) => {
            packing.value(task.task.collection);
            packing.value(task.task.index);
            packing.placement(task.runs.as_ref());
            1
        }
        Row::Record(Record::Use(used)) => {
            packing.used(used);
            2
        }
        Row::Planned(used, origin) => {
            packing.value(origin.0);
            packing.used(used);
            3
        }
        Row::Record(Record::Gauge(gauge)) => {
            packing.value(gauge.machine.0);
            packing.amount(gauge.used);
            4
        }
        Row::Share(gauge, origin) => {
            packing.value(origin.0);
            packing.value(gauge.machine.0);
            packing.amount(gauge.used);
            5
        }
        Row::Plan(plan) => {
            packing.value(plan.collection);
            packing.optional(plan.until.map(i64::cast_unsigned));
            packing.amount(plan.request);
            6
        }
    };
    let [low, high] = packing.mark.to_le_bytes();
    bytes[at..at + 3].copy_from_slice(&[tag, low, high]);
}

/// The values of a row, in turn.
struct Unpacking<'a> {
    bytes: &'a [u8],
    mark: u16,
}

impl Unpacking<'_> {
    fn value(&mut self) -> Option<u64> {
        let (value, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u64::from_le_bytes(*value))
    }

    fn optional(&mut self) -> Option<Option<u64>> {
        let is = self.mark & 1 == 1;
        self.mark >>= 1;
        if is { self.value().map(Some) } else { Some(None) }
    }

    fn amount(&mut self) -> Option<Amount> {
        let cpu = self.optional()?.map(f64::from_bits);
        Some(Amount { cpu, memory: self.optional()?.map(f64::from_bits) })
    }

    fn machine(&mut self) -> Option<MachineId> {
        self.value().map(MachineId)
    }

    fn class(&mut self) -> Option<Option<Class>> {
        let class = self.optional()?;
        Some(class.and_then(|class| CLASSES.get(usize::try_from(class).ok()?).copied()))
    }

    fn used(&mut self, start: i64) -> Option<Use> {
        let end = self.value()?.cast_signed();
        let machine = self.optional()?.map(MachineId);
        let (collection, index) = (self.optional()?, self.optional()?);
        let task = collection.zip(index).map(|(collection, index)| TaskId { collection, index });
        let (class, mean) = (self.class()?, self.amount()?);
        let memory_max = self.optional()?.map(f64::from_bits);
        let request = self.amount()?;
        Some(Use { start, end, machine, task, class, mean, memory_max, request })
    }

    fn gauge(&mut self, at: i64) -> Option<Gauge> {
        Some(Gauge { at, machine: self.machine()?, used: self.amount()? })
    }

    fn placement(&mut self) -> Option<Option<Placement>> {
        if self.optional()?.is_none() {
            return Some(None);
        }
        let machine = self.optional()?.map(MachineId);
        Some(Some(Placement { machine, request: self.amount()?, class: self.class()? }))
    }
}

/// The row that `bytes` begin with, and what follows it; `None`: they end within it.
pub(crate) fn unpack(bytes: &[u8]) -> Option<(Row, &[u8])> {
    let (&[tag, low, high], rest) = bytes.split_first_chunk()?;
    let mut values = Unpacking { bytes: rest, mark: u16::from_le_bytes([low, high]) };
    let at = values.value()?.cast_signed();
    let row = match tag {
        0 => {
            let machine = values.machine()?;
            let until = values.optional()?.map(u64::cast_signed);
            let is = values.optional()?.is_some();
            let amount = values.amount()?;
            let capacity = is.then_some(amount);
            Row::Record(Record::Machine(Machine { at, until, machine, capacity }))
        }
        1 => {
            let task = TaskId { collection: values.value()?, index: values.value()? };
            Row::Record(Record::Task(Task { at, task, runs: values.placement()? }))
        }
        2 => Row::Record(Record::Use(values.used(at)?)),
        3 => {
            let origin = Origin(values.value()?);
            Row::Planned(values.used(at)?, origin)
        }
        4 => Row::Record(Record::Gauge(values.gauge(at)?)),
        5 => {
            let origin = Origin(values.value()?);
            Row::Share(values.gauge(at)?, origin)
        }
        6 => {
            let collection = values.value()?;
            let until = values.optional()?.map(u64::cast_signed);
            Row::Plan(Plan { at, until, collection, request: values.amount()? })
        }
        _ => return None,
    };
    Some((row, values.bytes))
}

#[cfg(test)]
mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    fn amounts() -> impl Strategy<Value = Amount> {
        (of(0.0..1e300), of(0.0..1.0)).prop_map(|(cpu, memory)| Amount { cpu, memory })
    }

    fn uses() -> impl Strategy<Value = Use> {
        let task = of((any::<u64>(), any::<u64>()))
            .prop_map(|task| task.map(|(collection, index)| TaskId { collection, index }));
        let class = of(0usize..5).prop_map(|class| class.map(|class| CLASSES[class]));
        let machine = of(any::<u64>()).prop_map(|machine| machine.map(MachineId));
        let times = (any::<i64>(), any::<i64>());
        (times, machine, task, class, amounts(), of(0.0..1.0), amounts()).prop_map(
            |((start, end), machine, task, class, mean, memory_max, request)| Use {
                start,
                end,
                machine,
                task,
                class,
                mean,
                memory_max,
                request,
            },
        )
    }

    fn rows() -> impl Strategy<Value = Row> {
        let machines = (any::<(i64, u64)>(), of(any::<i64>()), of(amounts())).prop_map(
            |((at, machine), until, capacity)| {
                let machine = MachineId(machine);
                Row::Record(Record::Machine(Machine { at, until, machine, capacity }))
            },
        );
        let tasks = (any::<i64>(), any::<(u64, u64)>(), of(uses())).prop_map(|(at, task, used)| {
            let runs = used.map(|used| Placement {
                machine: used.machine,
                request: used.request,
                class: used.class,
            });
            let task = TaskId { collection: task.0, index: task.1 };
            Row::Record(Record::Task(Task { at, task, runs }))
        });
        let gauges =
            (any::<(i64, u64, bool)>(), amounts()).prop_map(|((at, machine, is), used)| {
                let gauge = Gauge { at, machine: MachineId(machine), used };
                let origin = Origin(machine.rotate_left(7));
                if is { Row::Record(Record::Gauge(gauge)) } else { Row::Share(gauge, origin) }
            });
        let plans = (any::<(i64, u64)>(), of(any::<i64>()), amounts()).prop_map(
            |((at, collection), until, request)| Row::Plan(Plan { at, until, collection, request }),
        );
        let used = uses().prop_map(|used| Row::Record(Record::Use(used)));
        let planned =
            (uses(), any::<u64>()).prop_map(|(used, origin)| Row::Planned(used, Origin(origin)));
        prop_oneof![machines, tasks, used, planned, gauges, plans]
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(rows in prop::collection::vec(rows(), 0..20)) {
            let mut bytes = Vec::new();
            for row in &rows {
                let before = bytes.len();
                pack(row, &mut bytes);
                prop_assert!(bytes.len() - before <= PACKED_MAX);
            }
            let mut rest = bytes.as_slice();
            for row in &rows {
                let (unpacked, next) = unpack(rest).unwrap();
                prop_assert_eq!(&unpacked, row);
                rest = next;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn bytes_that_end_within_a_row_are_none(row in rows(), cut in 1usize..PACKED_MAX) {
            let mut bytes = Vec::new();
            pack(&row, &mut bytes);
            prop_assert!(unpack(&bytes[..bytes.len() - cut.min(bytes.len())]).is_none());
        }
    }
}
