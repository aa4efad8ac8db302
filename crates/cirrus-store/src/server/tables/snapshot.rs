//! What is kept of a table, and how does it come back?
//!
//! Owns the layout: a head in JSON, then pieces of rows. Knows nothing of where they are kept.
//! Invariant: what was written and is read back gives the same table, in a later generation.
//!
//! A piece is 4 bytes of magic, the number of rows and of floats to a row (u32 each), the rows'
//! numbers (u32) and their floats, values before the rule's state; all little-endian.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use zerocopy::FromBytes;
use zerocopy::little_endian::{F32, U32};

use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::server::tables::Tables;
use crate::server::tables::rows::Frozen;
use crate::server::tables::table::{Marks, Table};
use crate::table::TableSpec;
use crate::wire::Fault;

const MAGIC: &[u8; 4] = b"CTR1";
const FRONT_BYTES: usize = 12;

/// A piece is about so long.
const PIECE_BYTES: usize = 4 << 20;

/// A table as it was at a moment, while the table goes on. Where it changes since, chunks of 256 KiB are
/// copied: at the worst it takes as much memory as the table.
#[derive(Debug)]
pub struct TableSnapshot {
    head: Head,
    rows: Frozen,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    spec: TableSpec,
    floor: u64,
    /// Splits of which some minibatches are applied, and how many.
    splits: Vec<(u64, u32)>,
}

impl TableSnapshot {
    pub(super) fn new(spec: TableSpec, marks: Marks, rows: Frozen) -> Self {
        let Marks { floor, splits } = marks;
        let mut splits: Vec<_> = splits.into_iter().collect();
        splits.sort_unstable();
        Self { head: Head { spec, floor, splits }, rows }
    }

    /// What the table is, and which minibatches are in it.
    pub fn head(&self) -> Bytes {
        serde_json::to_vec(&self.head).expect("numbers are always JSON").into()
    }

    /// Its rows, in pieces of about 4 MiB.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> {
        let mut chunks = self.rows.chunks();
        std::iter::from_fn(move || {
            let (mut numbers, mut floats) = (Vec::new(), BytesMut::new());
            while floats.len() < PIECE_BYTES {
                let Some((rows, values)) = chunks.next() else { break };
                numbers.extend(rows);
                values.iter().for_each(|value| floats.put_f32_le(*value));
            }
            if numbers.is_empty() {
                return None;
            }
            let stride = floats.len() / size_of::<f32>() / numbers.len();
            let mut piece = BytesMut::with_capacity(FRONT_BYTES + 4 * numbers.len() + floats.len());
            piece.put_slice(MAGIC);
            piece.put_u32_le(u32::try_from(numbers.len()).expect("a piece is short"));
            piece.put_u32_le(u32::try_from(stride).expect("a row is short"));
            numbers.iter().for_each(|row| piece.put_u32_le(*row));
            piece.put_slice(&floats);
            Some(piece.freeze())
        })
    }
}

/// The rows of a piece: how many floats each has, their numbers, and the floats of all.
fn parse(piece: &[u8]) -> Result<(usize, &[U32], &[F32])> {
    let short =
        || Error::new(Kind::Corrupt, format!("a piece of a table of {} bytes", piece.len()));
    let rest = piece.strip_prefix(MAGIC).ok_or_else(short)?;
    let (front, rest) = <[U32; 2]>::ref_from_prefix(rest).map_err(|_| short())?;
    let (count, stride) = (front[0].get() as usize, front[1].get() as usize);
    let (rows, floats) = <[U32]>::ref_from_prefix_with_elems(rest, count).map_err(|_| short())?;
    let floats = <[F32]>::ref_from_bytes(floats).map_err(|_| short())?;
    match count.checked_mul(stride) == Some(floats.len()) && stride > 0 {
        true => Ok((stride, rows, floats)),
        false => Err(short()),
    }
}

/// What is in a piece of a [`TableSnapshot`] of a table with so many columns: each row's number and values.
pub fn table_rows(piece: &[u8], columns: usize) -> Result<Vec<(u32, Vec<f32>)>> {
    let (stride, rows, floats) = parse(piece)?;
    if stride < columns {
        let text = format!("a piece of rows of {stride} floats, expected {columns}");
        return Err(Error::new(Kind::Corrupt, text));
    }
    let values = |floats: &[F32]| floats[..columns].iter().map(|value| value.get()).collect();
    Ok(rows
        .iter()
        .zip(floats.chunks_exact(stride))
        .map(|(row, f)| (row.get(), values(f)))
        .collect())
}

/// A table that comes back, piece by piece; nobody sees it before [`TableRestore::finish`].
#[derive(Debug)]
pub struct TableRestore {
    tables: Tables,
    name: Key,
    table: Table,
}

impl TableRestore {
    /// A table without rows.
    pub(in crate::server) fn empty(tables: Tables, name: Key, spec: TableSpec) -> Self {
        let table = tables.beside(spec);
        Self { tables, name, table }
    }

    /// Begins with the head of a snapshot; the table will be of this generation.
    pub(in crate::server) fn new(
        tables: Tables,
        name: Key,
        head: &[u8],
        generation: u64,
    ) -> Result<Self> {
        let head: Head = serde_json::from_slice(head).map_err(|error| {
            Error::new(Kind::Corrupt, "the head of a table's snapshot").with_source(error)
        })?;
        let spec = TableSpec { generation, ..head.spec }.validated()?;
        let mut table = tables.beside(spec);
        table.resume(Marks { floor: head.floor, splits: head.splits.into_iter().collect() });
        Ok(Self { tables, name, table })
    }

    /// What the table is.
    pub fn spec(&self) -> &TableSpec {
        &self.table.spec
    }

    /// Puts the rows of a piece back.
    pub fn piece(&mut self, piece: &[u8]) -> Result<()> {
        let (stride, rows, floats) = parse(piece)?;
        let expected = self.table.rows.stride();
        if stride != expected {
            let text = format!("a piece of rows of {stride} floats, expected {expected}");
            return Err(Error::new(Kind::Corrupt, text));
        }
        let mut places = Vec::new();
        self.table.rows.place(rows, &mut places).map_err(|fault: Fault| {
            let text = format!("rows of table {:?}", self.name);
            Error::new(fault.kind, text).with_detail(fault.detail)
        })?;
        for (place, floats) in places.iter().zip(floats.chunks_exact(stride)) {
            for (value, float) in self.table.rows.row_mut(*place).iter_mut().zip(floats) {
                *value = float.get();
            }
        }
        Ok(())
    }

    /// Takes the place of the table of this name, if there is one.
    pub fn finish(self) {
        self.tables.replace(&self.name, self.table);
    }
}
