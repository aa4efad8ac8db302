//! Where do the rows of a table lie?
//!
//! Owns the memory of rows, in chunks that are extents of the node's arena, and which row lies where.
//! Small tables have a place for every row, and chunks for those parts that were touched; of large ones only
//! touched rows lie here, found through an [`Index`]. Knows neither gradients nor workers.
//! Invariant: a row that was never touched reads as its first values, and takes no memory in a large
//! table. Who holds a [`Frozen`] sees all rows as they were: a chunk that he shares is copied before
//! it changes.

use std::sync::Arc;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use crate::error::Kind;
use crate::server::arena::{Extent, Extents};
use crate::server::memory::Memory;
use crate::server::tables::index::{Index, NOWHERE};
use crate::table::{Initial, TableSpec};
use crate::wire::Fault;

/// Bytes of a chunk, unless a row is longer.
const CHUNK_BYTES: usize = 256 << 10;

/// Tables of at most so many bytes have a place for every row.
const DIRECT_BYTES_MAX: u64 = 64 << 20;

/// So many rows ahead the processor is told what will be looked at: enough for several fetches at once.
const AHEAD: usize = 48;

/// The rows of one table.
#[derive(Debug)]
pub(super) struct Rows {
    extents: Extents,
    shape: Shape,
    chunks: Vec<Chunk>,
    places: Places,
}

/// Which rows of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offsets<'p> {
    places: &'p [u32],
    mask: u32,
}

impl Offsets<'_> {
    /// Where in the chunk each begins, if a row has `stride` floats.
    #[inline(always)]
    pub(super) fn of(self, stride: usize) -> impl Iterator<Item = usize> {
        let mask = self.mask;
        self.places.iter().map(move |place| (place & mask) as usize * stride)
    }
}

/// How rows lie in chunks.
#[derive(Debug, Clone, Copy)]
struct Shape {
    first: u32,
    rows: u32,
    columns: usize,
    /// Floats of a row: the values and what the rule keeps.
    stride: usize,
    /// A chunk has 2 to the power of this rows.
    shift: u32,
    initial: Initial,
}

#[derive(Debug)]
enum Chunk {
    Missing,
    Own(Extent),
    /// A [`Frozen`] may have it too.
    Shared(Arc<Extent>),
}

#[derive(Debug)]
enum Places {
    /// That of a row is its number.
    Direct,
    Indexed(Index),
}

/// All rows as they were at a moment.
#[derive(Debug)]
pub(super) struct Frozen {
    shape: Shape,
    chunks: Vec<Option<Arc<Extent>>>,
    /// The rows by their places; `None` where a row's number is its place.
    rows: Option<Vec<u32>>,
}

impl Rows {
    pub(super) fn new(spec: &TableSpec, extents: Extents, memory: Memory) -> Self {
        let columns = spec.columns as usize;
        let stride = columns * spec.optimizer.rule().width();
        let row_bytes = stride * size_of::<f32>();
        let shift = (CHUNK_BYTES / row_bytes).max(1).ilog2();
        let is_small = u64::from(spec.rows) * row_bytes as u64 <= DIRECT_BYTES_MAX;
        let shape = Shape {
            first: spec.first_row,
            rows: spec.rows,
            columns,
            stride,
            shift,
            initial: spec.initial,
        };
        let mut chunks = Vec::new();
        let places = if is_small {
            chunks.resize_with(shape.chunk(spec.rows - 1) + 1, || Chunk::Missing);
            Places::Direct
        } else {
            Places::Indexed(Index::new(memory))
        };
        Self { extents, shape, chunks, places }
    }

    /// Floats of a row.
    pub(super) fn stride(&self) -> usize {
        self.shape.stride
    }

    /// Where rows lie, appended to `places`; those that there are not yet are made. They will be asked for with
    /// [`Rows::row_mut`] or [`Rows::for_runs`]. A row that is no part of the table is [`Kind::Invalid`].
    pub(super) fn place(&mut self, rows: &[U32], places: &mut Vec<u32>) -> Result<(), Fault> {
        places.reserve(rows.len());
        let mut owned = None;
        for (at, row) in rows.iter().enumerate() {
            let within = self.shape.within(row.get())?;
            let place = match &self.places {
                Places::Direct => within,
                Places::Indexed(index) => {
                    if let Some(row) = rows.get(at + AHEAD) {
                        index.prefetch(row.get());
                    }
                    index.find(row.get())
                }
            };
            if place == NOWHERE {
                places.push(self.insert(row.get())?);
                continue;
            }
            let chunk = self.shape.chunk(place);
            if owned != Some(chunk) {
                self.own(chunk)?;
                owned = Some(chunk);
            }
            places.push(place);
        }
        Ok(())
    }

    /// The same for all rows of the table.
    pub(super) fn place_all(&mut self, places: &mut Vec<u32>) -> Result<(), Fault> {
        let Shape { first, rows, .. } = self.shape;
        match self.places {
            Places::Direct => {
                (0..self.chunks.len()).try_for_each(|number| self.own(number))?;
                places.extend(0..rows);
                Ok(())
            }
            Places::Indexed(_) => {
                (first..first + rows).try_for_each(|row| self.place(&[row.into()], places))
            }
        }
    }

    /// Has a chunk ready to be changed.
    fn own(&mut self, number: usize) -> Result<(), Fault> {
        match &mut self.chunks[number] {
            Chunk::Own(_) => Ok(()),
            shared @ Chunk::Shared(_) => make_own(shared, &self.extents),
            missing @ Chunk::Missing => {
                *missing = Chunk::Own(self.extents.take(self.shape.chunk_bytes())?);
                let shape = self.shape;
                for place in shape.places_of(number) {
                    shape.begin(self.row_mut(place), shape.first + place);
                }
                Ok(())
            }
        }
    }

    /// Gives a row of a large table the next place.
    fn insert(&mut self, row: u32) -> Result<u32, Fault> {
        let Places::Indexed(index) = &mut self.places else { return Err(Kind::Invalid.into()) };
        let place = index.next()?;
        let chunk = self.shape.chunk(place);
        if chunk == self.chunks.len() {
            self.chunks.push(Chunk::Own(self.extents.take(self.shape.chunk_bytes())?));
        }
        make_own(&mut self.chunks[chunk], &self.extents)?;
        index.insert(row)?;
        let shape = self.shape;
        shape.begin(self.row_mut(place), row);
        Ok(place)
    }

    /// The row of a place that [`Rows::place`] gave: its values, and what the rule keeps.
    pub(super) fn row_mut(&mut self, place: u32) -> &mut [f32] {
        let (from, stride) = (self.shape.offset(place), self.shape.stride);
        &mut self.chunk_mut(self.shape.chunk(place))[from..from + stride]
    }

    /// The rows of places that [`Rows::place`] gave, as they lie: for as many places as lie in one chunk one behind
    /// the other, the chunk and where each begins.
    #[inline(always)]
    pub(super) fn for_runs(
        &mut self,
        places: &[u32],
        mut take: impl FnMut(&mut [f32], Offsets<'_>),
    ) {
        let shape = self.shape;
        let mut rest = places;
        while let Some(first) = rest.first() {
            let number = shape.chunk(*first);
            let len = rest.iter().take_while(|place| shape.chunk(**place) == number).count();
            let (run, after) = rest.split_at(len);
            take(self.chunk_mut(number), Offsets { places: run, mask: (1 << shape.shift) - 1 });
            rest = after;
        }
    }

    fn chunk_mut(&mut self, number: usize) -> &mut [f32] {
        let Chunk::Own(extent) = &mut self.chunks[number] else {
            unreachable!("`place` has made it ours")
        };
        <[f32]>::mut_from_bytes(extent.as_mut()).expect("extents are whole pages")
    }

    /// Gives the values of `rows` to `take`, one row after the other.
    pub(super) fn read(&self, rows: &[U32], mut take: impl FnMut(&[f32])) -> Result<(), Fault> {
        let mut drawn = vec![0.0; self.shape.columns];
        for (at, row) in rows.iter().enumerate() {
            let within = self.shape.within(row.get())?;
            if let (Places::Indexed(index), Some(row)) = (&self.places, rows.get(at + AHEAD)) {
                index.prefetch(row.get());
            }
            take(self.values(row.get(), self.find(row.get(), within), &mut drawn));
        }
        Ok(())
    }

    /// The same for all rows of the table.
    pub(super) fn read_all(&self, mut take: impl FnMut(&[f32])) {
        let Shape { first, rows, columns, .. } = self.shape;
        let mut drawn = vec![0.0; columns];
        for within in 0..rows {
            take(self.values(first + within, self.find(first + within, within), &mut drawn));
        }
    }

    /// Where a row lies that is `within` the table, or [`NOWHERE`].
    fn find(&self, row: u32, within: u32) -> u32 {
        match &self.places {
            Places::Direct => within,
            Places::Indexed(index) => index.find(row),
        }
    }

    /// The values of a row; those of one that was never touched are put into `drawn`.
    fn values<'r>(&'r self, row: u32, place: u32, drawn: &'r mut [f32]) -> &'r [f32] {
        let found = (place != NOWHERE).then(|| {
            let bytes: &[u8] = match &self.chunks[self.shape.chunk(place)] {
                Chunk::Missing => return None,
                Chunk::Own(extent) => extent.as_ref(),
                Chunk::Shared(extent) => (**extent).as_ref(),
            };
            let floats = <[f32]>::ref_from_bytes(bytes).ok()?;
            let from = self.shape.offset(place);
            floats.get(from..from + self.shape.columns)
        });
        found.flatten().unwrap_or_else(|| {
            self.shape.initial.fill(row, drawn);
            drawn
        })
    }

    /// Holds on to all rows as they are. Takes time for each chunk, not for each row, but copies the
    /// list of rows of a large table.
    pub(super) fn freeze(&mut self) -> Frozen {
        let share = |chunk: &mut Chunk| {
            let shared = match std::mem::replace(chunk, Chunk::Missing) {
                Chunk::Missing => return None,
                Chunk::Own(extent) => Arc::new(extent),
                Chunk::Shared(extent) => extent,
            };
            *chunk = Chunk::Shared(shared.clone());
            Some(shared)
        };
        let chunks = self.chunks.iter_mut().map(share).collect();
        let rows = match &self.places {
            Places::Direct => None,
            Places::Indexed(index) => Some(index.rows().to_vec()),
        };
        Frozen { shape: self.shape, chunks, rows }
    }

    /// How many rows are kept, and the bytes that they take.
    pub(super) fn held(&self) -> (u64, u64) {
        let is_there = |chunk: &&Chunk| !matches!(chunk, Chunk::Missing);
        let chunks = self.chunks.iter().filter(is_there).count() as u64;
        let bytes = chunks * self.extents.cost(self.shape.chunk_bytes());
        match &self.places {
            Places::Direct => (chunks << self.shape.shift, bytes),
            Places::Indexed(index) => (index.rows().len() as u64, bytes + index.bytes()),
        }
    }
}

/// Copies a chunk that somebody else has too.
fn make_own(chunk: &mut Chunk, extents: &Extents) -> Result<(), Fault> {
    let Chunk::Shared(shared) = chunk else { return Ok(()) };
    let copied = match Arc::get_mut(shared) {
        Some(_) => None,
        None => {
            let bytes: &[u8] = (**shared).as_ref();
            let mut extent = extents.take(bytes.len())?;
            extent.as_mut().copy_from_slice(bytes);
            Some(extent)
        }
    };
    let Chunk::Shared(shared) = std::mem::replace(chunk, Chunk::Missing) else { return Ok(()) };
    let own = match copied {
        Some(copied) => Ok(copied),
        None => Arc::try_unwrap(shared),
    };
    // `Err`: nobody else had it, so nobody can have cloned it.
    *chunk = own.map_or_else(Chunk::Shared, Chunk::Own);
    Ok(())
}

impl Shape {
    fn within(&self, row: u32) -> Result<u32, Fault> {
        let within = row.checked_sub(self.first).filter(|within| *within < self.rows);
        within.ok_or(Fault { kind: Kind::Invalid, detail: u64::from(row) })
    }

    fn chunk(&self, place: u32) -> usize {
        (place >> self.shift) as usize
    }

    fn chunk_bytes(&self) -> usize {
        (self.stride << self.shift) * size_of::<f32>()
    }

    /// Where in its chunk a row begins.
    fn offset(&self, place: u32) -> usize {
        (place & ((1 << self.shift) - 1)) as usize * self.stride
    }

    /// The places of a chunk, of which the last may be beyond the last row.
    fn places_of(&self, chunk: usize) -> std::ops::Range<u32> {
        let first = u32::try_from(chunk << self.shift).unwrap_or(u32::MAX);
        first..first.saturating_add(1 << self.shift).min(self.rows)
    }

    /// A row as it begins; what the rule keeps is zero.
    fn begin(&self, floats: &mut [f32], row: u32) {
        let (values, state) = floats.split_at_mut(self.columns);
        self.initial.fill(row, values);
        state.fill(0.0);
    }
}

impl Frozen {
    /// Rows that are kept, in chunks: their numbers, and the floats of all.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (Vec<u32>, &[f32])> {
        self.chunks.iter().enumerate().filter_map(|(number, chunk)| {
            let extent = chunk.as_ref()?;
            let floats = <[f32]>::ref_from_bytes((**extent).as_ref()).ok()?;
            let rows: Vec<u32> = match &self.rows {
                None => {
                    self.shape.places_of(number).map(|place| self.shape.first + place).collect()
                }
                Some(rows) => {
                    let first = number << self.shape.shift;
                    let end = rows.len().min(first + (1 << self.shape.shift));
                    rows.get(first..end)?.to_vec()
                }
            };
            let len = rows.len() * self.shape.stride;
            Some((rows, &floats[..len]))
        })
    }
}
