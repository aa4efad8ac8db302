//! How are tensors written as bytes?
//!
//! Owns one small layout, used by the model file and the checkpoint. Knows no names or shapes.
//! Invariant: decoding any bytes gives an archive or an error, never a panic, and no length is
//! trusted before the bytes behind it are there.
//!
//! Layout, little-endian: magic (8 bytes), version u32 = 1, count of numbers u32, that many u64,
//! count of tensors u32, then for each tensor: length of its name u16, the name in UTF-8, rank
//! u16, that many dimensions u32, and its values as f32, last dimension fastest. At the end the
//! SHA-256 of everything before it.

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

const VERSION: u32 = 1;
const HASH_LEN: usize = 32;

/// A tensor with its name, its shape and as many values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamedTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// What a file holds: numbers whose meaning the magic tells, and tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Archive {
    pub(crate) numbers: Vec<u64>,
    pub(crate) tensors: Vec<NamedTensor>,
}

impl Archive {
    /// The bytes of the archive.
    pub(crate) fn encode(&self, magic: [u8; 8]) -> Vec<u8> {
        let mut out = Vec::from(magic);
        out.extend(VERSION.to_le_bytes());
        out.extend(short_u32(self.numbers.len()));
        self.numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        out.extend(short_u32(self.tensors.len()));
        for tensor in &self.tensors {
            out.extend(short_u16(tensor.name.len()));
            out.extend(tensor.name.as_bytes());
            out.extend(short_u16(tensor.shape.len()));
            tensor.shape.iter().for_each(|dimension| out.extend(short_u32(*dimension)));
            tensor.values.iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
        let hash = Sha256::digest(&out);
        out.extend(hash);
        out
    }

    /// Reads what [`Archive::encode`] wrote with the same magic.
    pub(crate) fn decode(magic: [u8; 8], bytes: &[u8]) -> Result<Self> {
        let Some((body, hash)) = bytes.split_last_chunk::<HASH_LEN>() else {
            return Err(Error::corrupt("too short: it was cut off, make it again"));
        };
        let mut rest = Reader(body);
        if rest.take(magic.len())? != magic {
            let expected = String::from_utf8_lossy(&magic).into_owned();
            return Err(Error::corrupt("another kind of file").with("expected magic", expected));
        }
        let version = rest.u32()?;
        if version != VERSION {
            let text = format!("version {version}, but this program reads version {VERSION}");
            return Err(Error::corrupt(text));
        }
        if Sha256::digest(body).as_slice() != hash {
            return Err(Error::corrupt("its checksum is wrong: make it again"));
        }
        let numbers = rest.u32()?;
        let numbers = (0..numbers).map(|_| rest.u64()).collect::<Result<_>>()?;
        let tensors = rest.u32()?;
        let tensors = (0..tensors).map(|_| rest.tensor()).collect::<Result<_>>()?;
        if rest.0.is_empty() {
            Ok(Self { numbers, tensors })
        } else {
            Err(Error::corrupt(format!("{} bytes too many", rest.0.len())))
        }
    }
}

/// Takes fields from the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| Error::corrupt("it was cut off: make it again"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn tensor(&mut self) -> Result<NamedTensor> {
        let len = usize::from(self.u16()?);
        let name = String::from_utf8_lossy(self.take(len)?).into_owned();
        let rank = self.u16()?;
        let dimension = |_| self.u32().map(|dimension| dimension as usize);
        let shape: Vec<usize> = (0..rank).map(dimension).collect::<Result<_>>()?;
        let len = shape.iter().try_fold(4_usize, |len, dimension| len.checked_mul(*dimension));
        let bytes = self.take(len.unwrap_or(usize::MAX))?;
        let (values, _) = bytes.as_chunks::<4>();
        let values = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        Ok(NamedTensor { name, shape, values })
    }
}

fn short_u16(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("names and ranks are a few bytes").to_le_bytes()
}

fn short_u32(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("dimensions are below 2^32").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn archive() -> Archive {
        let values = vec![0.5, -1.0, f32::MIN_POSITIVE, 4.0, 5.0, 6.0];
        let tensor = NamedTensor { name: "a.b".into(), shape: vec![2, 3], values };
        Archive { numbers: vec![10, u64::MAX], tensors: vec![tensor.clone(), tensor] }
    }

    #[test]
    fn round_trip() {
        let bytes = archive().encode(*b"TESTTEST");
        assert_eq!(Archive::decode(*b"TESTTEST", &bytes).unwrap(), archive());
        assert!(Archive::decode(*b"OTHERONE", &bytes).is_err());
    }

    proptest! {
        #[test]
        fn damage_is_an_error(place in 0_usize..1000, cut in 0_usize..1000) {
            let bytes = archive().encode(*b"TESTTEST");
            let mut flipped = bytes.clone();
            let place = place % bytes.len();
            flipped[place] ^= 0x40;
            prop_assert!(Archive::decode(*b"TESTTEST", &flipped).is_err());
            prop_assert!(Archive::decode(*b"TESTTEST", &bytes[..cut % bytes.len()]).is_err());
        }

        #[test]
        fn hashed_noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = Vec::from(*b"TESTTEST");
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(noise);
            let hash = Sha256::digest(&bytes);
            bytes.extend(hash);
            let _result = Archive::decode(*b"TESTTEST", &bytes);
        }
    }
}
