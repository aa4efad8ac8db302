//! Tables whose rows are in no order of time, put in order on disk.
//!
//! Owns: sorted runs in one file that vanishes, and their merge.
//! Knows nothing of: what rows mean.
//! Invariant: rows of the same time stay in the order in which they came.
//!
//! Memory: [`RUN`] rows (below 100 MB) while they come; then a buffer of [`BUFFER`] for each run, so
//! that a thousand million rows need some 150 MB. Disk: at most 123 bytes a row, unless all rows fit
//! in one run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::packed::{PACKED_MAX, pack, unpack};
use crate::formats::Row;
use crate::record::Micros;

/// How many rows are sorted at once.
pub(crate) const RUN: usize = 1 << 19;
/// How much of a run is read at once.
const BUFFER: usize = 64 << 10;

/// Takes rows in any order.
pub(crate) struct Sorter {
    rows: Vec<Row>,
    run_rows: usize,
    directory: PathBuf,
    spilled: Option<Spilled>,
}

/// Runs on disk.
struct Spilled {
    file: File,
    /// Where each ends.
    ends: Vec<u64>,
}

impl Sorter {
    pub(crate) fn new(directory: &Path, run_rows: usize) -> Sorter {
        Sorter { rows: Vec::new(), run_rows, directory: directory.to_owned(), spilled: None }
    }

    /// Takes a row; the one that fills a run waits for the disk.
    pub(crate) fn push(&mut self, row: Row) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() < self.run_rows { Ok(()) } else { self.spill() }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.rows.sort_by_key(Row::time);
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            None => {
                let file = tempfile::tempfile_in(&self.directory)?;
                self.spilled.insert(Spilled { file, ends: Vec::new() })
            }
        };
        let mut at = spilled.ends.last().copied().unwrap_or(0);
        let mut bytes = Vec::with_capacity(BUFFER + PACKED_MAX);
        for row in self.rows.drain(..) {
            pack(&row, &mut bytes);
            if bytes.len() >= BUFFER {
                spilled.file.write_all(&bytes)?;
                at += bytes.len() as u64;
                bytes.clear();
            }
        }
        spilled.file.write_all(&bytes)?;
        spilled.ends.push(at + bytes.len() as u64);
        Ok(())
    }

    /// The rows in the order of time.
    pub(crate) fn finish(mut self) -> io::Result<Sorted> {
        if self.spilled.is_none() {
            self.rows.sort_by_key(Row::time);
            return Ok(Sorted::Memory(self.rows.into()));
        }
        if !self.rows.is_empty() {
            self.spill()?;
        }
        let Some(Spilled { file, ends }) = self.spilled else {
            return Ok(Sorted::Memory(VecDeque::new()));
        };
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let run = |(at, &end)| Run { at, end, buffer: Vec::new(), used: 0, head: None };
        let mut merge = Merge {
            runs: starts.zip(&ends).map(run).collect(),
            file,
            heads: BinaryHeap::with_capacity(ends.len()),
        };
        for index in 0..merge.runs.len() {
            merge.advance(index)?;
        }
        Ok(Sorted::Disk(merge))
    }
}

/// Rows in the order of time.
pub(crate) enum Sorted {
    Memory(VecDeque<Row>),
    Disk(Merge),
}

pub(crate) struct Merge {
    file: File,
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Micros, usize)>>,
}

/// What is left of a run.
struct Run {
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    used: usize,
    head: Option<Row>,
}

impl Sorted {
    /// The time of the next row, `None` at the end.
    pub(crate) fn time(&self) -> Option<Micros> {
        match self {
            Sorted::Memory(rows) => rows.front().map(Row::time),
            Sorted::Disk(merge) => merge.heads.peek().map(|Reverse((time, _))| *time),
        }
    }

    /// Takes the next row, `None` at the end.
    pub(crate) fn pop(&mut self) -> io::Result<Option<Row>> {
        match self {
            Sorted::Memory(rows) => Ok(rows.pop_front()),
            Sorted::Disk(merge) => {
                let Some(Reverse((_, index))) = merge.heads.pop() else { return Ok(None) };
                let row = merge.runs[index].head.take();
                merge.advance(index)?;
                Ok(row)
            }
        }
    }
}

impl Merge {
    fn advance(&mut self, index: usize) -> io::Result<()> {
        let run = &mut self.runs[index];
        run.head = run.read(&self.file)?;
        if let Some(row) = &run.head {
            self.heads.push(Reverse((row.time(), index)));
        }
        Ok(())
    }
}

impl Run {
    fn read(&mut self, file: &File) -> io::Result<Option<Row>> {
        loop {
            let left = &self.buffer[self.used..];
            if let Some((row, rest)) = unpack(left) {
                self.used = self.buffer.len() - rest.len();
                return Ok(Some(row));
            }
            if self.at == self.end {
                return if left.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::InvalidData.into())
                };
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            let kept = self.buffer.len();
            let more = usize::try_from(self.end - self.at).unwrap_or(BUFFER).min(BUFFER);
            self.buffer.resize(kept + more, 0);
            file.read_exact_at(&mut self.buffer[kept..], self.at)?;
            self.at += more as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::output::Origin;
    use crate::record::{Amount, Gauge, MachineId};

    proptest! {
        #[test]
        fn rows_are_put_in_order_and_equal_ones_stay(
            times in prop::collection::vec(0i64..50, 0..300),
            run in 1usize..100,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(directory.path(), run);
            let mut expected = Vec::new();
            for (index, &at) in times.iter().enumerate() {
                let machine = MachineId(index as u64);
                let row = Row::Share(Gauge { at, machine, used: Amount::default() }, Origin(7));
                expected.push(row.clone());
                sorter.push(row).unwrap();
            }
            expected.sort_by_key(Row::time);
            let mut sorted = sorter.finish().unwrap();
            prop_assert_eq!(matches!(sorted, Sorted::Disk(_)), times.len() >= run);
            let mut rows = Vec::new();
            while let Some(row) = sorted.pop().unwrap() {
                rows.push(row);
            }
            prop_assert_eq!(rows, expected);
        }
    }
}
