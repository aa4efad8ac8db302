//! The bytes of a segment, frozen.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::checksum::Sums;
use crate::segments::record::{
    Head, RecordKind, SEGMENT_HEADER_BYTES, SegmentHeader, check_front, encode_slots, merge_slots,
    split,
};

const KINDS: [RecordKind; 7] = [
    RecordKind::Value,
    RecordKind::Queue,
    RecordKind::Item,
    RecordKind::Delete,
    RecordKind::DeleteItem,
    RecordKind::Slots,
    RecordKind::Closed,
];

fn golden() -> Vec<u8> {
    let header = SegmentHeader { id: 7, store: 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10 };
    let mut bytes = BytesMut::from(&header.encode()[..]);
    let mut versions = vec![0; 16_384];
    (versions[5], versions[16_383]) = (9, 1 << 40);
    for (number, kind) in (0u32..).zip(KINDS) {
        let key: &[u8] = if kind.is_own() { b"" } else { b"{tag}key" };
        let value = match kind {
            RecordKind::Value => Bytes::from(vec![0xAB; 70_000]),
            RecordKind::Slots => encode_slots(&versions),
            RecordKind::Queue | RecordKind::Item => Bytes::from_static(b"some bytes"),
            RecordKind::Delete | RecordKind::DeleteItem | RecordKind::Closed => Bytes::new(),
        };
        let head = Head {
            kind,
            more: number % 2 == 1,
            key_len: u16::try_from(key.len()).unwrap(),
            value_len: u32::try_from(value.len()).unwrap(),
            modified_at: 1_700_000_000_000 + u64::from(number),
            version: (3 << 40) + u64::from(number),
            expires_at: 1_800_000_000_000,
            item: u64::from(number) * 11,
            synced: 4096,
        };
        let offset = bytes.len() as u64;
        head.encode_front((7, offset), key, &Sums::of(0, &value), &mut bytes);
        bytes.extend_from_slice(&value);
        let end = offset + head.record_bytes();
        bytes.resize(usize::try_from(end).unwrap(), 0);
    }
    bytes.to_vec()
}

#[test]
fn the_format_is_frozen() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/segments/tests/segment.bin");
    if std::env::var_os("CIRRUS_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, golden()).unwrap();
    }
    let frozen = std::fs::read(&path).unwrap();
    assert!(frozen == golden(), "segments are written differently from {}", path.display());
    let header = SegmentHeader::decode(frozen.first_chunk().unwrap()).unwrap();
    assert_eq!(header.id, 7);
    let (frozen, mut at) = (Bytes::from(frozen), 64);
    for kind in KINDS {
        let record = frozen.slice(at..);
        let head = Head::decode(&record).unwrap();
        assert_eq!(head.kind, kind);
        split((7, at as u64), &head, &record).unwrap();
        assert!(check_front((7, 8 + at as u64), &record[..head.front_bytes()]).is_err());
        at += usize::try_from(head.record_bytes()).unwrap();
    }
    assert_eq!(at, frozen.len());
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(head) = Head::decode(&bytes) {
            prop_assert!(head.record_bytes() <= (1 << 30) + (1 << 17) + 2048);
            let _ = split((1, 0), &head, &Bytes::from(bytes.clone()));
        }
        if let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() {
            let _ = SegmentHeader::decode(bytes);
        }
        let mut versions = vec![0; 16_384];
        let _ = merge_slots(&bytes, &mut versions);
    }

    #[test]
    fn a_flipped_bit_of_a_record_is_found(at in 0usize..70_000, bit in 0u8..8) {
        let mut bytes = golden();
        let from = 64;
        let head = Head::decode(&bytes[from..]).unwrap();
        let whole = head.front_bytes() + head.value_len as usize;
        bytes[from + at % whole] ^= 1 << bit;
        let record = Bytes::from(bytes).slice(from..);
        if let Ok(head) = Head::decode(&record) {
            prop_assert!(split((7, from as u64), &head, &record).is_err());
        }
    }
}
