//! Text, row by row: CSV and JSON lines.
//!
//! Owns: one open file of text, and what its table makes of its rows.
//! Knows nothing of: which file comes next, threads.
//! Invariant: a line that is cut off by the end of its gzip file is no row.

use std::io::{BufRead, BufReader, Read};

use csv::{ByteRecord, ReaderBuilder};

use super::ROWS;
use super::decode::{Decode, More, Settings, stopped};
use crate::formats::cells::{self, Cells, Column, NO_CELLS};
use crate::formats::fields::columns;
use crate::formats::output::{Fault, Output};
use crate::formats::{Table, generic, google_2019};
use crate::problems::{Kind, Spot};

/// How much of a file's text is held at once.
pub(super) const BUFFER: usize = 128 << 10;
/// The longest line that is read; rows have some hundreds of bytes.
const LINE_MAX: u64 = 1 << 20;

type Bytes = Box<dyn Read + Send>;

/// A CSV file with a header.
pub(crate) struct Csv {
    reader: csv::Reader<Bytes>,
    record: ByteRecord,
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
        let parser = Parser::Header(table, settings);
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(BUFFER)
            .from_reader(bytes);
        Csv { reader, record: ByteRecord::new(), parser }
    }
}

impl Decode for Csv {
    fn fill(&mut self, out: &mut Output) -> More {
        for _ in 0..ROWS {
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => return More::No,
                Err(error) => {
                    match error.into_kind() {
                        csv::ErrorKind::Io(error) => stopped(&error, out),
                        other => out.file_fault(Kind::FileUnreadable, &format!("{other:?}")),
                    }
                    return More::No;
                }
            }
            out.spot = Spot::Line(self.record.position().map_or(0, csv::Position::line));
            match self.parser.parse(&self.record, out) {
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
    fn parse(&mut self, row: &ByteRecord, out: &mut Output) -> Result<(), Fault> {
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

/// Reads a line, without its end; `false` at the end of the file and where reading stops.
#[inline]
pub(super) fn next_line(
    bytes: &mut BufReader<Bytes>,
    line: &mut Vec<u8>,
    out: &mut Output,
) -> bool {
    line.clear();
    match bytes.by_ref().take(LINE_MAX).read_until(b'\n', line) {
        Ok(0) => return false,
        Ok(read) if read as u64 == LINE_MAX && line.last() != Some(&b'\n') => {
            let text = format!("{} is longer than {LINE_MAX} bytes", out.spot);
            out.file_fault(Kind::FileUnreadable, &text);
            return false;
        }
        Ok(_) => {}
        Err(error) => {
            stopped(&error, out);
            return false;
        }
    }
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    true
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
            if !next_line(&mut self.bytes, &mut self.line, out) {
                return More::No;
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            if let Err(fault) = self.parse(out) {
                out.fault(fault);
            }
        }
        More::Yes
    }
}
