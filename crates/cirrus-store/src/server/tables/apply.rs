//! How do gradients get into rows?
//!
//! Owns the inner loops: the rule is compiled into them for each set of instructions that processors have, so that
//! it works on as many coordinates at once as this one can. Knows neither splits nor workers.
//! Invariant: what comes out is the same, bit for bit, on every processor and in either loop.

use bytes::{BufMut as _, BytesMut};
use zerocopy::little_endian::{F32, U16};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::rule::{Penalty, Rule, WithRule};
use crate::server::tables::rows::{Offsets, Rows};
use crate::table::from_bf16;

/// Rows of one column that are changed together; with what rules keep of them they lie in the nearest cache.
const TOGETHER: usize = 512;

/// Changes rows by their gradients, and reads them.
pub(super) struct Apply<'a> {
    pub(super) columns: usize,
    pub(super) rate: f32,
    pub(super) penalty: Penalty,
    /// Gradients are bfloat16.
    pub(super) half: bool,
    pub(super) rows: &'a mut Rows,
    /// Of the rows, in the order of their gradients.
    pub(super) places: &'a [u32],
    /// No row is there twice.
    pub(super) is_distinct: bool,
    pub(super) gradients: &'a [u8],
    /// Where the changed values go, if they are wanted.
    pub(super) values: Option<&'a mut BytesMut>,
}

impl WithRule for Apply<'_> {
    type Output = ();

    fn call(self, rule: &impl Rule) {
        let processor = pulp::Arch::new();
        if self.columns == 1 && self.is_distinct {
            processor.dispatch(
                #[inline(always)]
                || self.together(rule),
            );
        } else {
            processor.dispatch(
                #[inline(always)]
                || self.one_by_one(rule),
            );
        }
    }
}

impl Apply<'_> {
    /// Rows where they are.
    #[inline(always)]
    fn one_by_one(self, rule: &impl Rule) {
        let Self { columns, rate, penalty, half, rows, mut values, .. } = self;
        let stride = columns * rule.width();
        let mut row_gradients = vec![0.0; columns];
        let mut gradients = self.gradients.chunks_exact(columns * gradient_bytes(half));
        rows.for_runs(
            self.places,
            #[inline(always)]
            |floats: &mut [f32], offsets: Offsets<'_>| {
                for (from, gradients) in offsets.of(stride).zip(&mut gradients) {
                    let row = &mut floats[from..from + stride];
                    read_gradients(gradients, half, &mut row_gradients);
                    rule.update(rate, penalty, row, &row_gradients);
                    if let Some(values) = &mut values {
                        put_floats(&row[..columns], values);
                    }
                }
            },
        );
    }

    /// Rows of one column, some at a time, as one long row.
    #[inline(always)]
    fn together(self, rule: &impl Rule) {
        let Self { rate, penalty, half, rows, mut values, .. } = self;
        let width = rule.width();
        let mut long = vec![0.0; TOGETHER * width];
        let mut long_gradients = [0.0; TOGETHER];
        let pieces = self.gradients.chunks(TOGETHER * gradient_bytes(half));
        for (places, gradients) in self.places.chunks(TOGETHER).zip(pieces) {
            let len = places.len();
            let (long, long_gradients) = (&mut long[..len * width], &mut long_gradients[..len]);
            read_gradients(gradients, half, long_gradients);
            let mut at = 0;
            rows.for_runs(
                places,
                #[inline(always)]
                |floats: &mut [f32], offsets: Offsets<'_>| {
                    for from in offsets.of(width) {
                        let row = &floats[from..from + width];
                        let planes = row.iter().enumerate();
                        planes.for_each(|(plane, float)| long[plane * len + at] = *float);
                        at += 1;
                    }
                },
            );
            rule.update(rate, penalty, long, long_gradients);
            let mut at = 0;
            rows.for_runs(
                places,
                #[inline(always)]
                |floats: &mut [f32], offsets: Offsets<'_>| {
                    for from in offsets.of(width) {
                        let row = &mut floats[from..from + width];
                        let planes = row.iter_mut().enumerate();
                        planes.for_each(|(plane, float)| *float = long[plane * len + at]);
                        at += 1;
                    }
                },
            );
            if let Some(values) = &mut values {
                put_floats(&long[..len], values);
            }
        }
    }
}

fn gradient_bytes(half: bool) -> usize {
    if half { size_of::<u16>() } else { size_of::<f32>() }
}

#[inline(always)]
fn read_gradients(bytes: &[u8], half: bool, floats: &mut [f32]) {
    if half {
        let halves = <[U16]>::ref_from_bytes(bytes).unwrap_or_default();
        floats.iter_mut().zip(halves).for_each(|(float, half)| *float = from_bf16(half.get()));
    } else {
        let read = <[F32]>::ref_from_bytes(bytes).unwrap_or_default();
        floats.iter_mut().zip(read).for_each(|(float, read)| *float = read.get());
    }
}

/// Appends floats as they travel.
#[inline]
pub(super) fn put_floats(floats: &[f32], bytes: &mut BytesMut) {
    if cfg!(target_endian = "little") {
        bytes.extend_from_slice(floats.as_bytes());
    } else {
        floats.iter().for_each(|float| bytes.put_f32_le(*float));
    }
}
