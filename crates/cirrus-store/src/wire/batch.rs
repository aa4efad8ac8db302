//! Batches: many requests, or their replies, as the payload of one frame.
//!
//! Owns the 16-byte header of an item; body, key, payload and table of checksums follow it. The
//! frame's own checksums cover the items; an item's cover its value from writer to reader.
//! Invariant: items never nest.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::checksum::{Sums, blocks};
use crate::error::{Error, Kind, Result};
use crate::key::KEY_BYTES_MAX;
use crate::wire::BATCH_ITEMS_MAX;
use crate::wire::head::BODY_BYTES_MAX;
use crate::wire::part::Part;

const ITEM_HEAD_BYTES: usize = 16;

/// Appends one item to a batch's payload.
pub(super) fn put_item(item: &Part, payload: &mut BytesMut) {
    let len_u16 = |len: usize| u16::try_from(len).expect("bodies and keys are short");
    payload.put_u8(item.opcode);
    payload.put_u8(item.flags);
    payload.put_u16_le(len_u16(item.key.len()));
    payload.put_u32_le(u32::try_from(item.payload.len()).expect("values are at most 1 GiB"));
    payload.put_u16_le(len_u16(item.body.len()));
    payload.put_u16_le(item.status);
    payload.put_u16_le(item.phase);
    payload.put_u16_le(0);
    payload.put_slice(&item.body);
    payload.put_slice(&item.key);
    payload.put_slice(&item.payload);
    item.sums.put_table(payload);
}

/// Takes the `items` items of a batch's payload. Their bytes are shared with it.
pub(super) fn take_items(mut payload: Bytes, items: u32) -> Result<Vec<Part>> {
    if items > BATCH_ITEMS_MAX {
        let text = format!("a batch of {items} items is over the limit of {BATCH_ITEMS_MAX}");
        return Err(Error::new(Kind::TooLarge, text).with_detail(u64::from(BATCH_ITEMS_MAX)));
    }
    if items as usize > payload.len() / ITEM_HEAD_BYTES {
        return Err(malformed("has fewer items than it says"));
    }
    let mut parts = Vec::with_capacity(items as usize);
    for _ in 0..items {
        if payload.len() < ITEM_HEAD_BYTES {
            return Err(malformed("ends inside an item"));
        }
        let mut fixed = payload.split_to(ITEM_HEAD_BYTES);
        let (opcode, flags) = (fixed.get_u8(), fixed.get_u8());
        let key_len = usize::from(fixed.get_u16_le());
        let payload_len = fixed.get_u32_le() as usize;
        let body_len = usize::from(fixed.get_u16_le());
        let (status, phase) = (fixed.get_u16_le(), fixed.get_u16_le());
        let table_len = 4 * blocks(phase, payload_len);
        if key_len > KEY_BYTES_MAX || body_len > BODY_BYTES_MAX {
            return Err(malformed("has an item whose key or body is too long"));
        }
        if payload.len() < body_len + key_len + payload_len + table_len {
            return Err(malformed("ends inside an item"));
        }
        parts.push(Part {
            opcode,
            flags,
            status,
            phase,
            body: payload.split_to(body_len),
            key: payload.split_to(key_len),
            payload: payload.split_to(payload_len),
            sums: Sums::from_table(payload.split_to(table_len)),
        });
    }
    if !payload.is_empty() {
        return Err(malformed("has bytes after its last item"));
    }
    Ok(parts)
}

fn malformed(how: &str) -> Error {
    Error::new(Kind::Protocol, format!("a batch {how}"))
}
