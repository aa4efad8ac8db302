//! Parquet, batch by batch, and only the columns that are needed.
//!
//! Owns: one open Parquet file, and the buffers of its columns.
//! Knows nothing of: what a column means.
//! Invariant: memory is a page and a batch of each needed column, whatever the size of the file.

use std::fs::File;
use std::io;
use std::path::Path;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::ROWS;
use super::bytes::Counter;
use super::decode::{Decode, More, Settings};
use super::lines::{named, schema};
use crate::formats::Table;
use crate::formats::cells::{Cell, Cells, NO_CELLS, positions};
use crate::formats::output::{Fault, Output};
use crate::problems::{Kind, Spot};

/// A Parquet file.
pub(crate) struct Parquet {
    file: SerializedFileReader<File>,
    table: Table,
    settings: Settings,
    counter: Counter,
    /// The needed columns, `None` until they are looked for.
    leaves: Option<Vec<Option<usize>>>,
    /// The row group at hand.
    group: usize,
    /// How many rows of it were read.
    row: usize,
    /// Its columns, as those of the schema; empty: it is not open.
    columns: Vec<Option<Leaf>>,
    /// A batch of rows.
    cells: Vec<Cells>,
}

impl Parquet {
    pub(crate) fn open(
        path: &Path,
        table: Table,
        settings: Settings,
        counter: Counter,
    ) -> io::Result<Parquet> {
        let file = SerializedFileReader::new(File::open(path)?).map_err(io::Error::other)?;
        let (leaves, columns, cells) = (None, Vec::new(), Vec::new());
        Ok(Parquet { file, table, settings, counter, leaves, group: 0, row: 0, columns, cells })
    }

    fn open_group(&mut self) -> ParquetResult<()> {
        let group = self.file.get_row_group(self.group)?;
        let leaves = self.leaves.as_deref().unwrap_or_default();
        let columns = leaves.iter().map(|leaf| {
            let Some(leaf) = *leaf else { return Ok(None) };
            Leaf::new(group.get_column_reader(leaf)?, group.metadata().column(leaf).column_descr())
        });
        self.columns = columns.collect::<ParquetResult<_>>()?;
        Ok(())
    }

    /// The next rows of the group, none at its end.
    fn read_rows(&mut self) -> ParquetResult<usize> {
        let total = self.file.metadata().row_group(self.group).num_rows();
        let rows = usize::try_from(total).unwrap_or(0).saturating_sub(self.row).min(ROWS);
        self.cells.clear();
        self.cells.resize(rows, NO_CELLS);
        for (column, leaf) in self.columns.iter_mut().enumerate() {
            if let Some(leaf) = leaf {
                leaf.read(column, &mut self.cells)?;
            }
        }
        Ok(rows)
    }

    fn end_group(&mut self) {
        let bytes = self.file.metadata().row_group(self.group).compressed_size();
        self.counter
            .0
            .fetch_add(u64::try_from(bytes).unwrap_or(0), std::sync::atomic::Ordering::Relaxed);
        self.columns.clear();
        self.row = 0;
        self.group += 1;
    }
}

/// Where the needed columns are among the leaves of a file; one within a list is not one of them.
pub(crate) fn leaves(
    file: &SerializedFileReader<File>,
    table: Table,
) -> Result<Vec<Option<usize>>, &'static str> {
    let names = leaf_names(file);
    positions(schema(table).unwrap_or_default(), names.iter().map(String::as_bytes))
}

/// The paths of the leaves, empty for one within a list.
pub(crate) fn leaf_names(file: &SerializedFileReader<File>) -> Vec<String> {
    let schema = file.metadata().file_metadata().schema_descr();
    schema
        .columns()
        .iter()
        .map(|leaf| if leaf.max_rep_level() > 0 { String::new() } else { leaf.path().string() })
        .collect()
}

impl Decode for Parquet {
    fn fill(&mut self, out: &mut Output) -> More {
        if self.leaves.is_none() {
            match leaves(&self.file, self.table) {
                Ok(leaves) => self.leaves = Some(leaves),
                Err(name) => {
                    out.file_fault(Kind::ColumnMissing, name);
                    return More::No;
                }
            }
        }
        if self.group >= self.file.metadata().num_row_groups() {
            return More::No;
        }
        let opened = if self.columns.is_empty() { self.open_group() } else { Ok(()) };
        match opened.and_then(|()| self.read_rows()) {
            Ok(0) => self.end_group(),
            Ok(rows) => {
                for cells in &self.cells {
                    let (group, row) = (self.group as u64 + 1, self.row as u64 + 1);
                    out.spot = Spot::Row { group, row };
                    self.row += 1;
                    if let Err(fault) = named(self.table, cells, self.settings.allocs, out) {
                        out.fault(fault);
                    }
                }
                debug_assert_eq!(rows, self.cells.len());
            }
            Err(error) => {
                // The other row groups may be whole.
                let (group, row) = (self.group as u64 + 1, self.row as u64 + 1);
                out.spot = Spot::Row { group, row };
                let text = error.to_string();
                out.fault(Fault::text(Kind::FileUnreadable, "Parquet:", text.as_bytes()));
                self.end_group();
            }
        }
        More::Yes
    }
}

/// A column of numbers, or of texts that are.
struct Leaf {
    present: i16,
    levels: Vec<i16>,
    values: Values,
}

enum Values {
    Int32(ColumnReaderImpl<Int32Type>, Vec<i32>),
    Int64(ColumnReaderImpl<Int64Type>, Vec<i64>),
    Float(ColumnReaderImpl<FloatType>, Vec<f32>),
    Double(ColumnReaderImpl<DoubleType>, Vec<f64>),
    Text(ColumnReaderImpl<ByteArrayType>, Vec<parquet::data_type::ByteArray>),
}

impl Leaf {
    /// `None`: the column is of a type that no number is written in; its cells are empty.
    fn new(
        reader: ColumnReader,
        column: &parquet::schema::types::ColumnDescriptor,
    ) -> ParquetResult<Option<Leaf>> {
        let values = match reader {
            ColumnReader::Int32ColumnReader(reader) => Values::Int32(reader, Vec::new()),
            ColumnReader::Int64ColumnReader(reader) => Values::Int64(reader, Vec::new()),
            ColumnReader::FloatColumnReader(reader) => Values::Float(reader, Vec::new()),
            ColumnReader::DoubleColumnReader(reader) => Values::Double(reader, Vec::new()),
            ColumnReader::ByteArrayColumnReader(reader) => Values::Text(reader, Vec::new()),
            ColumnReader::BoolColumnReader(_)
            | ColumnReader::Int96ColumnReader(_)
            | ColumnReader::FixedLenByteArrayColumnReader(_) => return Ok(None),
        };
        Ok(Some(Leaf { present: column.max_def_level(), levels: Vec::new(), values }))
    }

    /// Sets the cells of a column in the next rows.
    fn read(&mut self, column: usize, rows: &mut [Cells]) -> ParquetResult<()> {
        let (levels, present) = (&mut self.levels, self.present);
        match &mut self.values {
            Values::Int32(reader, values) => {
                read(reader, values, levels, present, column, rows, |&v| Cell::Int(i64::from(v)))
            }
            Values::Int64(reader, values) => {
                read(reader, values, levels, present, column, rows, |&v| Cell::Int(v))
            }
            Values::Float(reader, values) => {
                read(reader, values, levels, present, column, rows, |&v| Cell::Float(f64::from(v)))
            }
            Values::Double(reader, values) => {
                read(reader, values, levels, present, column, rows, |&v| Cell::Float(v))
            }
            Values::Text(reader, values) => {
                read(reader, values, levels, present, column, rows, |v| Cell::of_text(v.data()))
            }
        }
    }
}

fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    values: &mut Vec<T::T>,
    levels: &mut Vec<i16>,
    present: i16,
    column: usize,
    rows: &mut [Cells],
    cell: impl Fn(&T::T) -> Cell,
) -> ParquetResult<()> {
    values.clear();
    levels.clear();
    let mut missing = rows.len();
    while missing > 0 {
        let (read, _, _) = reader.read_records(missing, Some(levels), None, values)?;
        if read == 0 {
            return Err(parquet::errors::ParquetError::EOF(
                "a column is shorter than its group".into(),
            ));
        }
        missing -= read;
    }
    let mut values = values.iter();
    for (index, row) in rows.iter_mut().enumerate() {
        // A column that cannot be null has no levels.
        if present == 0 || levels.get(index) == Some(&present) {
            row[column] = values.next().map_or(Cell::Empty, &cell);
        }
    }
    Ok(())
}
