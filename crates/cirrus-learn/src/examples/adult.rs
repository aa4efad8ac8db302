//! What is in the Adult set (Becker and Kohavi, "Census Income", 1996)?
//!
//! Owns its columns: categories one-hot, numbers in five bins of equally many rows. Knows no model.
//! Invariant: a row has one feature for each of its columns, of that column's own indices.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use super::source::{Each, Options, Read, Reading};
use crate::error::{Error, Result};

/// Whether the income is above 50,000 dollars a year.
const LABEL: &str = "income";

const BINS: usize = 5;

/// Hands on every row.
pub(super) fn read(parquet: Vec<u8>, options: &Options, each: &mut Each<'_>) -> Result<Read> {
    let damaged = |error: parquet::errors::ParquetError| {
        Error::corrupt("the parquet file of the Adult set").caused_by(error)
    };
    let file = SerializedFileReader::new(Bytes::from(parquet)).map_err(damaged)?;
    let mut rows: Vec<(f32, Vec<Cell>)> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for row in file.get_row_iter(None).map_err(damaged)? {
        let row = row.map_err(damaged)?;
        let (mut label, mut cells) = (None, Vec::new());
        names.clear();
        for (name, field) in row.get_column_iter() {
            let cell = cell(field);
            if name == LABEL {
                label = Some(matches!(&cell, Cell::Name(name) if name.contains('>')));
            } else {
                names.push(name.clone());
                cells.push(cell);
            }
        }
        let label =
            label.ok_or_else(|| Error::corrupt(format!("the Adult set has no column {LABEL}")))?;
        rows.push((f32::from(u8::from(label)), cells));
    }
    let mut columns = Vec::new();
    let mut first = 0;
    for number in 0..names.len() {
        let column = Column::new(rows.iter().map(|(_, cells)| &cells[number]), first);
        first += column.len();
        columns.push(column);
    }
    let mut reading = Reading::new(options);
    for (number, (label, cells)) in rows.iter().enumerate() {
        let features = columns.iter().zip(cells).filter_map(|(column, cell)| column.index(cell));
        let features: Vec<(u32, f32)> = features.map(|index| (index, 1.0)).collect();
        reading.row(|| format!("row {number} of the Adult set"), Ok(*label), &features, each)?;
    }
    Ok(reading.done(first, 0))
}

/// What stands in a row and column.
#[derive(Debug)]
enum Cell {
    Name(String),
    Number(f64),
    Missing,
}

fn cell(field: &Field) -> Cell {
    match field {
        Field::Str(text) => Cell::Name(text.trim().to_owned()),
        Field::Bytes(bytes) => Cell::Name(String::from_utf8_lossy(bytes.data()).trim().to_owned()),
        Field::Null => Cell::Missing,
        Field::Int(number) => Cell::Number(f64::from(*number)),
        Field::Long(number) => Cell::Number(*number as f64),
        Field::Double(number) => Cell::Number(*number),
        Field::Float(number) => Cell::Number(f64::from(*number)),
        other => Cell::Name(other.to_string()),
    }
}

/// The indices of a column.
#[derive(Debug)]
enum Column {
    /// By name.
    Names(BTreeMap<String, u32>),
    /// From the first index on, by how many of the bounds a number is above.
    Bins(u32, Vec<f64>),
}

impl Column {
    fn new<'c>(cells: impl Iterator<Item = &'c Cell>, first: u32) -> Self {
        let (mut names, mut numbers) = (BTreeSet::new(), Vec::new());
        for cell in cells {
            match cell {
                Cell::Name(name) => drop(names.insert(name.clone())),
                Cell::Number(number) => numbers.push(*number),
                Cell::Missing => {}
            }
        }
        if numbers.is_empty() {
            return Self::Names(names.into_iter().zip(first..).collect());
        }
        numbers.sort_unstable_by(f64::total_cmp);
        let mut bounds: Vec<f64> =
            (1..BINS).map(|bin| numbers[numbers.len() * bin / BINS]).collect();
        bounds.dedup();
        Self::Bins(first, bounds)
    }

    fn len(&self) -> u32 {
        let len = match self {
            Self::Names(names) => names.len(),
            Self::Bins(_, bounds) => bounds.len() + 1,
        };
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    fn index(&self, cell: &Cell) -> Option<u32> {
        match (self, cell) {
            (Self::Names(names), Cell::Name(name)) => names.get(name).copied(),
            (Self::Bins(first, bounds), Cell::Number(number)) => {
                let bin = bounds.partition_point(|bound| bound <= number);
                u32::try_from(bin).ok().map(|bin| first + bin)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_binned_by_quintile_and_names_one_hot() {
        let cells: Vec<Cell> = (0..100).map(|n| Cell::Number(f64::from(n))).collect();
        let column = Column::new(cells.iter(), 10);
        assert_eq!(column.len(), 5);
        let index = |number: f64| column.index(&Cell::Number(number)).unwrap();
        assert_eq!([0.0, 19.0, 20.0, 99.0, 1e9].map(index), [10, 10, 11, 14, 14]);
        assert_eq!(column.index(&Cell::Missing), None);
        // Most are the same: fewer bins.
        let cells: Vec<Cell> = (0..100).map(|n| Cell::Number(f64::from(n / 90))).collect();
        assert_eq!(Column::new(cells.iter(), 0).len(), 2);
        let cells = ["b", "a", "b"].map(|name| Cell::Name(name.to_owned()));
        let column = Column::new(cells.iter(), 3);
        assert_eq!(
            (column.len(), column.index(&cells[0]), column.index(&cells[1])),
            (2, Some(4), Some(3))
        );
    }
}
