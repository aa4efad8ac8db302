//! How do examples lie in a record of a set?
//!
//! Owns the layout: count, features of each, labels, indices and values, little-endian; values are left
//! out where all are 1. Knows nothing of where records are kept.
//! Invariant: what does not follow the layout is refused, and nothing is allocated beyond its length.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Examples;
use crate::error::{Error, Result};

/// The values are left out: each is 1.
const ONES: u8 = 1;

impl Examples {
    /// All of them as a record.
    pub fn to_record(&self) -> Bytes {
        let is_ones = self.values.iter().all(|value| *value == 1.0);
        let floats = if is_ones { 0 } else { self.values.len() };
        let len = 5 + 8 * self.len() + 4 * (self.indices.len() + floats);
        let mut record = BytesMut::with_capacity(len);
        record.put_u8(if is_ones { ONES } else { 0 });
        record.put_u32_le(count(self.len()));
        self.iter().for_each(|example| record.put_u32_le(count(example.indices.len())));
        self.labels.iter().for_each(|label| record.put_f32_le(*label));
        self.indices.iter().for_each(|index| record.put_u32_le(*index));
        self.values[..floats].iter().for_each(|value| record.put_f32_le(*value));
        record.freeze()
    }

    /// Adds those of a record.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when it is none.
    pub fn push_record(&mut self, mut record: &[u8]) -> Result<()> {
        let wrong = || Error::corrupt("a record is not a block of examples");
        if record.len() < 5 {
            return Err(wrong());
        }
        let is_ones = record.get_u8() & ONES != 0;
        let examples = record.get_u32_le() as usize;
        if examples > record.len() / 8 {
            return Err(wrong());
        }
        let (mut lens, mut rest) = record.split_at(4 * examples);
        let lens: Vec<usize> = (0..examples).map(|_| lens.get_u32_le() as usize).collect();
        let features = lens.iter().try_fold(0_usize, |sum, len| sum.checked_add(*len));
        let features = features.ok_or_else(wrong)?;
        let floats = if is_ones { 0 } else { features };
        let words = examples.checked_add(features).and_then(|words| words.checked_add(floats));
        if words.and_then(|words| words.checked_mul(4)) != Some(rest.len()) {
            return Err(wrong());
        }
        self.labels.extend((0..examples).map(|_| rest.get_f32_le()));
        let mut end = self.indices.len();
        self.ends.extend(lens.iter().map(|len| {
            end += len;
            end
        }));
        self.indices.extend((0..features).map(|_| rest.get_u32_le()));
        if is_ones {
            self.values.resize(end, 1.0);
        } else {
            self.values.extend((0..features).map(|_| rest.get_f32_le()));
        }
        Ok(())
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a block is short")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn examples_round_trip(
            rows in prop::collection::vec(
                (-9.0_f32..9.0, prop::collection::vec((any::<u32>(), prop_oneof![Just(1.0), -2.0_f32..2.0]), 0..6)),
                0..20,
            ),
            cut in 0_usize..400,
        ) {
            let mut examples = Examples::default();
            for (label, features) in rows {
                examples.push(label, features);
            }
            let record = examples.to_record();
            let mut read = Examples::default();
            read.push_record(&record).unwrap();
            prop_assert_eq!(&read, &examples);
            read.push_record(&record).unwrap();
            prop_assert_eq!(read.len(), 2 * examples.len());
            let is_cut = cut < record.len();
            prop_assert_eq!(Examples::default().push_record(&record[..cut.min(record.len())]).is_err(), is_cut);
        }

        #[test]
        fn any_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>) {
            let _ = Examples::default().push_record(&bytes);
        }
    }
}
