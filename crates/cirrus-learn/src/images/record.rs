//! How a labelled image lies in a set.
//!
//! Owns the layout: label u16, length of the name u16, name, encoded image; little-endian. May not
//! know where records are kept. Invariant: what does not follow the layout is refused by name.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::datasets::Sample;
use crate::error::{Error, Result};

/// The longest name that is kept; longer ones keep their end.
const NAME_BYTES_MAX: usize = 1024;

/// A sample as a record.
pub(super) fn encode(sample: &Sample) -> Bytes {
    let cut = sample.name.len().saturating_sub(NAME_BYTES_MAX);
    let name = sample.name.as_bytes().get(cut..).unwrap_or_default();
    let mut record = BytesMut::with_capacity(4 + name.len() + sample.encoded.len());
    record.put_u16_le(sample.label);
    record.put_u16_le(u16::try_from(name.len()).unwrap_or(0));
    record.put_slice(name);
    record.put_slice(&sample.encoded);
    record.freeze()
}

/// A record as a sample; its image shares the record's bytes.
pub(super) fn decode(mut record: Bytes) -> Result<Sample> {
    let short = || Error::corrupt("a record is too short to hold a labelled image");
    if record.len() < 4 {
        return Err(short());
    }
    let label = record.get_u16_le();
    let name_len = usize::from(record.get_u16_le());
    if record.len() < name_len {
        return Err(short());
    }
    let name = String::from_utf8_lossy(&record.split_to(name_len)).into_owned();
    Ok(Sample { label, name, encoded: record })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sample_round_trips(label: u16, name in "[a-z/]{0,40}", encoded: Vec<u8>) {
            let sample = Sample { label, name, encoded: encoded.into() };
            prop_assert_eq!(decode(encode(&sample)).unwrap(), sample);
        }

        #[test]
        fn any_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>) {
            let _ = decode(bytes.into());
        }
    }
}
