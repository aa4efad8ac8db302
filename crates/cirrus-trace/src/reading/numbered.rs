//! Tables without a header, row by row.
//!
//! Owns: one open file of lines, split at its commas.
//! Knows nothing of: which file comes next, threads.
//! Invariant: a line that is cut off by the end of its gzip file is no row.
//!
//! These tables have no quotes, so that a stray one is a character and a comma always ends a field:
//! finding them takes a third of the time that a reader of all CSV takes.

use std::io::{BufRead, BufReader, Read};

use super::ROWS;
use super::decode::{Decode, More};
use super::lines::{BUFFER, Next, next_line};
use crate::formats::fields::Line;
use crate::formats::output::{Fault, Output};
use crate::formats::{Table, alibaba_2018, google_2011};
use crate::problems::Spot;

type Parse = fn(&Line<'_>, &mut Output) -> Result<(), Fault>;

/// A file of such a table.
pub(crate) struct Numbered {
    bytes: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    ends: Vec<usize>,
    lines: u64,
    parse: Parse,
}

/// What makes records of the table's rows; `None` where columns go by name.
pub(crate) fn parse_of(table: Table) -> Option<Parse> {
    Some(match table {
        Table::Machines2011 => google_2011::machine_event,
        Table::Tasks2011 => google_2011::task_event,
        Table::Usage2011 => google_2011::task_usage,
        Table::MachineMeta => alibaba_2018::machine_meta,
        Table::BatchTask => alibaba_2018::batch_task,
        Table::SparTasks => alibaba_2018::spar_task,
        Table::MachineUsage => alibaba_2018::machine_usage,
        Table::BatchInstance => alibaba_2018::batch_instance,
        Table::SparInstances => alibaba_2018::spar_instance,
        Table::Machines2019 | Table::Instances2019 | Table::Usage2019 | Table::Generic => {
            return None;
        }
    })
}

impl Numbered {
    pub(crate) fn new(parse: Parse, bytes: Box<dyn Read + Send>) -> Numbered {
        let bytes = BufReader::with_capacity(BUFFER, bytes);
        Numbered { bytes, line: Vec::new(), ends: Vec::new(), lines: 0, parse }
    }
}

impl Decode for Numbered {
    fn fill(&mut self, out: &mut Output) -> More {
        for _ in 0..ROWS {
            self.lines += 1;
            out.spot = Spot::Line(self.lines);
            // Where it lies, if all of it is there.
            let held = self.bytes.buffer();
            if let Some(end) = memchr::memchr(b'\n', held) {
                let line = held[..end].strip_suffix(b"\r").unwrap_or(&held[..end]);
                if !line.is_empty()
                    && let Err(fault) = (self.parse)(&Line::split(line, &mut self.ends), out)
                {
                    out.fault(fault);
                }
                self.bytes.consume(end + 1);
                continue;
            }
            match next_line(&mut self.bytes, &mut self.line, out) {
                Next::Line if self.line.is_empty() => continue,
                Next::Line => {}
                Next::TooLong => continue,
                Next::End => return More::No,
            }
            if let Err(fault) = (self.parse)(&Line::split(&self.line, &mut self.ends), out) {
                out.fault(fault);
            }
        }
        More::Yes
    }
}
