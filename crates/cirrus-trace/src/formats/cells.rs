//! Rows whose columns have names: from a CSV header, the keys of JSON objects, or Parquet's schema.
//!
//! Owns: how a column is found by its name; cells, which are numbers.
//! Knows nothing of: what a column means.
//! Invariant: a schema has at most [`COLUMNS_MAX`] columns.
//!
//! Exports write the parts of a nested column with `.` or `_` between them; both are taken.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{Line, field};
use super::number::{float, int, whole};
use super::output::{Fault, Text, Value};
use crate::problems::Kind;

/// The widest schema.
pub(crate) const COLUMNS_MAX: usize = 16;

/// A column, by its names.
#[derive(Debug)]
pub(crate) struct Column {
    /// Each with `_` between its parts; the first is the one that is shown.
    pub(crate) names: &'static [&'static str],
    /// Whether a file without it is of no use.
    pub(crate) needed: bool,
}

impl Column {
    pub(crate) const fn needed(names: &'static [&'static str]) -> Column {
        Column { names, needed: true }
    }

    pub(crate) const fn optional(names: &'static [&'static str]) -> Column {
        Column { names, needed: false }
    }

    /// Whether a header calls it so.
    pub(crate) fn is_called(&self, name: &[u8]) -> bool {
        self.names.iter().any(|mine| {
            mine.len() == name.len()
                && mine
                    .bytes()
                    .zip(name)
                    .all(|(a, &b)| a == b.to_ascii_lowercase() || (a == b'_' && b == b'.'))
        })
    }
}

/// Where the columns of a schema are among `names`, or the first one that is needed and not there.
pub(crate) fn positions<'a>(
    columns: &[Column],
    names: impl Iterator<Item = &'a [u8]> + Clone,
) -> Result<Vec<Option<usize>>, &'static str> {
    columns
        .iter()
        .map(|column| {
            let at = names.clone().position(|name| column.is_called(trimmed(name)));
            if at.is_none() && column.needed { Err(column.names[0]) } else { Ok(at) }
        })
        .collect()
}

/// Without the mark that some programs put before UTF-8, and spaces.
pub(crate) fn trimmed(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name).trim_ascii()
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell {
    Empty,
    Int(i64),
    Float(f64),
    /// Neither empty nor a number.
    Bad(Text),
}

/// A row, in the order of its schema's columns.
pub(crate) type Cells = [Cell; COLUMNS_MAX];

pub(crate) const NO_CELLS: Cells = [Cell::Empty; COLUMNS_MAX];

impl Cell {
    pub(crate) fn of_text(text: &[u8]) -> Cell {
        if text.is_empty() {
            return Cell::Empty;
        }
        if text.len() < 20
            && !text.iter().any(|b| matches!(b, b'.' | b'e' | b'E'))
            && let Some(value) = int(text)
        {
            return Cell::Int(value);
        }
        float(text).map_or_else(|| Cell::Bad(Text::new(text)), Cell::Float)
    }

    /// An integer, if it is not empty.
    pub(crate) fn int(self, column: &'static str) -> Result<Option<i64>, Fault> {
        match self {
            Cell::Empty => Ok(None),
            Cell::Int(value) => Ok(Some(value)),
            Cell::Float(value) => whole(value)
                .map(Some)
                .ok_or_else(|| Fault::new(Kind::NumberUnreadable, column, Value::Float(value))),
            Cell::Bad(text) => Err(Fault::new(Kind::NumberUnreadable, column, Value::Text(text))),
        }
    }

    /// An integer that must be there.
    pub(crate) fn needed_int(self, column: &'static str) -> Result<i64, Fault> {
        self.int(column)?.ok_or_else(|| Fault::missing(column))
    }

    /// A number, if it is not empty.
    pub(crate) fn float(self, column: &'static str) -> Result<Option<f64>, Fault> {
        match self {
            Cell::Empty => Ok(None),
            #[expect(clippy::cast_precision_loss, reason = "an amount: the nearest f64 is meant")]
            Cell::Int(value) => Ok(Some(value as f64)),
            Cell::Float(value) => Ok(Some(value)),
            Cell::Bad(text) => Err(Fault::new(Kind::NumberUnreadable, column, Value::Text(text))),
        }
    }
}

/// The cells of a CSV row, by the positions of its columns.
pub(crate) fn of_csv(row: &Line<'_>, positions: &[Option<usize>], cells: &mut Cells) {
    for (cell, position) in cells.iter_mut().zip(positions) {
        *cell = position.map_or(Cell::Empty, |at| Cell::of_text(field(row, at)));
    }
}

/// The cells of a JSON object, by the paths of its values. Numbers in quotes are numbers.
pub(crate) fn of_json(
    line: &[u8],
    columns: &[Column],
    path: &mut Vec<u8>,
    cells: &mut Cells,
) -> Result<(), serde_json::Error> {
    *cells = NO_CELLS;
    path.clear();
    let mut json = serde_json::Deserializer::from_slice(line);
    Walk { columns, path, cells }.deserialize(&mut json)?;
    json.end()
}

struct Walk<'a> {
    columns: &'a [Column],
    /// The keys down to this value, each after a `_`.
    path: &'a mut Vec<u8>,
    cells: &'a mut Cells,
}

impl Walk<'_> {
    fn set(self, cell: Cell) {
        let Some((_, name)) = self.path.split_first() else { return };
        if let Some(at) = self.columns.iter().position(|column| column.is_called(name)) {
            self.cells[at] = cell;
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a row as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let len = self.path.len();
        while map.next_key_seed(Key(self.path))?.is_some() {
            map.next_value_seed(Walk {
                columns: self.columns,
                path: &mut *self.path,
                cells: &mut *self.cells,
            })?;
            self.path.truncate(len);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(Cell::Int(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        // Only ids are so large; they are 64 bits, of whichever sign.
        self.set(Cell::Int(value.cast_signed()));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.set(Cell::Float(value));
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(Cell::Int(i64::from(value)));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.set(Cell::of_text(text.as_bytes()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Adds a key to the path.
struct Key<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        self.0.push(b'_');
        self.0.extend_from_slice(key.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column::needed(&["time"]),
        Column::optional(&["average_usage_memory", "avg_mem"]),
        Column::optional(&["type"]),
    ];

    fn json(line: &str) -> Result<[Cell; 3], serde_json::Error> {
        let mut cells = NO_CELLS;
        of_json(line.as_bytes(), &COLUMNS, &mut Vec::new(), &mut cells)?;
        Ok([cells[0], cells[1], cells[2]])
    }

    #[test]
    fn names_with_dots_and_underscores_are_the_same() {
        let found = |names: &[&str]| positions(&COLUMNS, names.iter().map(|n| n.as_bytes()));
        assert_eq!(
            found(&["\u{feff}Time ", "x", "average_usage.memory"]),
            Ok(vec![Some(0), Some(2), None])
        );
        assert_eq!(found(&["avg_mem", "time"]), Ok(vec![Some(1), Some(0), None]));
        assert_eq!(found(&["type", "times"]), Err("time"));
    }

    #[test]
    fn json_is_read_by_paths() {
        let row = r#"{"time": "300", "x": [1, {"time": 7}], "average_usage": {"cpus": 1, "memory": 0.25},
            "y": {"z": {"type": 3}}, "type": null}"#;
        assert_eq!(json(row).unwrap(), [Cell::Int(300), Cell::Float(0.25), Cell::Empty]);
        assert_eq!(
            json(r#"{"average_usage.memory": 1, "time": "x"}"#).unwrap(),
            [Cell::Bad(Text::new(b"x")), Cell::Int(1), Cell::Empty]
        );
        assert!(json(r#"{"time": 1"#).is_err());
        assert!(json(r#"{"time": 1} 2"#).is_err());
    }
}
