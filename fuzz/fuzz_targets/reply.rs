//! A reply: opcode, flags and status, the lengths of body and key, and the bytes of all parts.
//!
//! Not a frame, whose crc32c would keep the fuzzer out; what is read is written and read as the
//! same. A file of the corpus that is a whole frame is cut into its parts.
#![no_main]

use bytes::{Bytes, BytesMut};
use cirrus_store::Sums;
use cirrus_store::wire::{Head, HeadLimits, Part, Reply, VALUE_BYTES_MAX};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(part) = frame(data).or_else(|| part(data)) else { return };
    if let Ok(read) = Reply::from_part(part) {
        let again = Reply::from_part(read.to_part()).expect("it was read before");
        assert_eq!(again, read);
    }
});

fn frame(data: &[u8]) -> Option<Part> {
    let limits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };
    let mut buffer = BytesMut::from(data);
    let head = Head::take(&mut buffer, limits).ok()??;
    let payload = buffer.get(..head.payload_bytes())?;
    let payload = Bytes::copy_from_slice(payload);
    let sums = Sums::of(head.phase, &payload);
    Some(Part::of(head, payload, sums))
}

fn part(data: &[u8]) -> Option<Part> {
    let (&[opcode, flags, status, body_len, key_len], rest) = data.split_first_chunk::<5>()?;
    let (body, rest) = rest.split_at_checked(usize::from(body_len))?;
    let (key, payload) = rest.split_at_checked(usize::from(key_len))?;
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let sums = Sums::of(0, payload);
    let (body, key, payload) = (bytes(body), bytes(key), bytes(payload));
    Some(Part { opcode, flags, status: u16::from(status), phase: 0, body, key, payload, sums })
}
