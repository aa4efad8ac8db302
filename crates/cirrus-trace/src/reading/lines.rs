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
use crate::formats::{Table, alibaba_2018, generic, google_2011, google_2019};
use crate::problems::{Kind, Spot};

/// How much of a file's text is held at once.
const BUFFER: usize = 128 << 10;

type Bytes = Box<dyn Read + Send>;

/// A CSV file.
pub(crate) struct Csv {
    reader: csv::Reader<Bytes>,
    record: ByteRecord,
    parser: Parser,
}

/// What is made of the rows of a table.
enum Parser {
    /// Columns go by number.
    Numbered(fn(&ByteRecord, &mut Output) -> Result<(), Fault>),
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

fn parser(table: Table, settings: Settings) -> Parser {
    match table {
        Table::Machines2011 => Parser::Numbered(google_2011::machine_event),
        Table::Tasks2011 => Parser::Numbered(google_2011::task_event),
        Table::Usage2011 => Parser::Numbered(google_2011::task_usage),
        Table::MachineMeta => Parser::Numbered(alibaba_2018::machine_meta),
        Table::BatchTask => Parser::Numbered(alibaba_2018::batch_task),
        Table::SparTasks => Parser::Numbered(alibaba_2018::spar_task),
        Table::MachineUsage => Parser::Numbered(alibaba_2018::machine_usage),
        Table::BatchInstance => Parser::Numbered(alibaba_2018::batch_instance),
        Table::SparInstances => Parser::Numbered(alibaba_2018::spar_instance),
        Table::Machines2019 | Table::Instances2019 | Table::Usage2019 | Table::Generic => {
            Parser::Header(table, settings)
        }
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
        let parser = parser(table, settings);
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            // Tables without a header have no quotes, so that a stray one is a character.
            .quoting(matches!(parser, Parser::Header(..)))
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
            Parser::Numbered(parse) => parse(row, out),
            Parser::Named { table, width, positions, cells, allocs } => {
                columns(row, *width)?;
                cells::of_csv(row, positions, cells);
                named(*table, cells, *allocs, out)
            }
            Parser::Generic { width, positions, settings } => {
                columns(row, *width)?;
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
            self.line.clear();
            match self.bytes.read_until(b'\n', &mut self.line) {
                Ok(0) => return More::No,
                Ok(_) => {}
                Err(error) => {
                    stopped(&error, out);
                    return More::No;
                }
            }
            self.lines += 1;
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            out.spot = Spot::Line(self.lines);
            if let Err(fault) = self.parse(out) {
                out.fault(fault);
            }
        }
        More::Yes
    }
}
