//! Text, row by row: CSV and JSON lines.
//!
//! Owns: one open file of text, and what its table makes of its rows.
//! Knows nothing of: which file comes next, threads.
//! Invariant: a line that is cut off by the end of its gzip file is no row.

use std::io::{BufRead, BufReader, Read};

use super::ROWS;
use super::decode::{Decode, More, Settings, stopped};
use crate::formats::cells::{self, Cells, Column, NO_CELLS};
use crate::formats::fields::{Line, columns};
use crate::formats::output::{Fault, Output};
use crate::formats::{Table, generic, google_2019};
use crate::problems::{Kind, Spot};

/// How much of a file's text is held at once.
pub(super) const BUFFER: usize = 128 << 10;
/// The longest line that is a row; rows have some hundreds of bytes.
const LINE_MAX: u64 = 1 << 20;

type Bytes = Box<dyn Read + Send>;

/// A CSV file with a header. A row is one line: what a stray quote could swallow ends with it.
pub(crate) struct Csv {
    bytes: BufReader<Bytes>,
    line: Vec<u8>,
    unquoted: Vec<u8>,
    ends: Vec<usize>,
    lines: u64,
    parser: Parser,
}

/// What is made of the rows of a table.
enum Parser {
    /// A table of Google's second trace, whose columns go by name.
    Named {
        table: Table,
        width: usize,
        positions: Vec<Option<usize>>,
        cells: Box<Cells>,
        allocs: bool,
    },
    /// The generic format.
    Generic { width: usize, positions: Vec<Option<usize>>, settings: Settings },
    /// The header has yet to be read.
    Header(Table, Settings),
}

/// The columns of a table whose columns go by name.
pub(crate) fn schema(table: Table) -> Option<&'static [Column]> {
    match table {
        Table::Machines2019 => Some(google_2019::MACHINE_EVENTS),
        Table::Instances2019 => Some(google_2019::INSTANCE_EVENTS),
        Table::Usage2019 => Some(google_2019::INSTANCE_USAGE),
        Table::Generic => Some(generic::COLUMNS),
        Table::Machines2011
        | Table::Tasks2011
        | Table::Usage2011
        | Table::MachineMeta
        | Table::BatchTask
        | Table::SparTasks
        | Table::MachineUsage
        | Table::BatchInstance
        | Table::SparInstances => None,
    }
}

/// What a row of Google's second trace is, by its cells.
pub(crate) fn named(
    table: Table,
    cells: &Cells,
    allocs: bool,
    out: &mut Output,
) -> Result<(), Fault> {
    match table {
        Table::Machines2019 => google_2019::machine_event(cells, out),
        Table::Instances2019 => google_2019::instance_event(cells, allocs, out),
        _ => google_2019::instance_usage(cells, allocs, out),
    }
}

impl Csv {
    pub(crate) fn new(table: Table, bytes: Bytes, settings: Settings) -> Csv {
        Csv {
            bytes: BufReader::with_capacity(BUFFER, bytes),
            line: Vec::new(),
            unquoted: Vec::new(),
            ends: Vec::new(),
            lines: 0,
            parser: Parser::Header(table, settings),
        }
    }

    fn parse(&mut self, out: &mut Output) -> Result<(), Fault> {
        let line = match self.lines {
            // The mark that some programs put before UTF-8.
            1 => self.line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.line),
            _ => &self.line,
        };
        if memchr::memchr(b'"', line).is_none() {
            return self.parser.parse(&Line::split(line, &mut self.ends), out);
        }
        let row = Line::split_quoted(line, &mut self.unquoted, &mut self.ends)
            .ok_or_else(|| Fault::text(Kind::QuoteOpen, "line", line))?;
        self.parser.parse(&row, out)
    }
}

impl Decode for Csv {
    fn fill(&mut self, out: &mut Output) -> More {
        for _ in 0..ROWS {
            self.lines += 1;
            out.spot = Spot::Line(self.lines);
            match next_line(&mut self.bytes, &mut self.line, out) {
                Next::Line if self.line.is_empty() => continue,
                Next::Line => {}
                Next::TooLong => continue,
                Next::End => return More::No,
            }
            match self.parse(out) {
                Ok(()) => {}
                Err(fault) if fault.kind == Kind::ColumnMissing => {
                    out.fault(fault);
                    return More::No;
                }
                Err(fault) => out.fault(fault),
            }
        }
        More::Yes
    }
}

impl Parser {
    #[inline]
    fn parse(&mut self, row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
        match self {
            Parser::Named { table, width, positions, cells, allocs } => {
                columns(row.len(), *width)?;
                cells::of_csv(row, positions, cells);
                named(*table, cells, *allocs, out)
            }
            Parser::Generic { width, positions, settings } => {
                columns(row.len(), *width)?;
                generic::row(row, positions, settings.slot, out)
            }
            Parser::Header(table, settings) => {
                let (table, settings) = (*table, *settings);
                let width = row.len();
                let positions = cells::positions(schema(table).unwrap_or_default(), row.iter())
                    .map_err(|name| Fault::text(Kind::ColumnMissing, "column", name.as_bytes()))?;
                *self = if table == Table::Generic {
                    Parser::Generic { width, positions, settings }
                } else {
                    let (cells, allocs) = (Box::new(NO_CELLS), settings.allocs);
                    Parser::Named { table, width, positions, cells, allocs }
                };
                Ok(())
            }
        }
    }
}

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line was read.
    Line,
    /// A line was passed over, and counted.
    TooLong,
    /// Nothing, or reading stops here.
    End,
}

/// Reads a line, without its end.
#[inline]
pub(super) fn next_line(
    bytes: &mut BufReader<Bytes>,
    line: &mut Vec<u8>,
    out: &mut Output,
) -> Next {
    line.clear();
    match bytes.by_ref().take(LINE_MAX).read_until(b'\n', line) {
        Ok(0) => return Next::End,
        Ok(read) if read as u64 == LINE_MAX && line.last() != Some(&b'\n') => {
            return pass_over(bytes, line, out);
        }
        Ok(_) => {}
        Err(error) => {
            stopped(&error, out);
            return Next::End;
        }
    }
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    Next::Line
}

/// Goes to the end of a line that is too long, and keeps nothing of it.
#[cold]
fn pass_over(bytes: &mut BufReader<Bytes>, line: &mut Vec<u8>, out: &mut Output) -> Next {
    out.fault(Fault::text(Kind::LineTooLong, "more than 1 MiB:", line));
    *line = Vec::new();
    match bytes.skip_until(b'\n') {
        Ok(_) => Next::TooLong,
        Err(error) => {
            stopped(&error, out);
            Next::End
        }
    }
}

/// A file of JSON objects, one a line.
pub(crate) struct JsonLines {
    bytes: BufReader<Bytes>,
    line: Vec<u8>,
    lines: u64,
    table: Table,
    allocs: bool,
    path: Vec<u8>,
    cells: Box<Cells>,
}

impl JsonLines {
    pub(crate) fn new(table: Table, bytes: Bytes, settings: Settings) -> JsonLines {
        JsonLines {
            bytes: BufReader::with_capacity(BUFFER, bytes),
            line: Vec::new(),
            lines: 0,
            table,
            allocs: settings.allocs,
            path: Vec::new(),
            cells: Box::new(NO_CELLS),
        }
    }

    fn parse(&mut self, out: &mut Output) -> Result<(), Fault> {
        let columns = schema(self.table).unwrap_or_default();
        cells::of_json(&self.line, columns, &mut self.path, &mut self.cells)
            .map_err(|_| Fault::text(Kind::NotJson, "line", &self.line))?;
        named(self.table, &self.cells, self.allocs, out)
    }
}

impl Decode for JsonLines {
    fn fill(&mut self, out: &mut Output) -> More {
        for _ in 0..ROWS {
            self.lines += 1;
            out.spot = Spot::Line(self.lines);
            match next_line(&mut self.bytes, &mut self.line, out) {
                Next::Line if self.line.trim_ascii().is_empty() => continue,
                Next::Line => {}
                Next::TooLong => continue,
                Next::End => return More::No,
            }
            if let Err(fault) = self.parse(out) {
                out.fault(fault);
            }
        }
        More::Yes
    }
}
