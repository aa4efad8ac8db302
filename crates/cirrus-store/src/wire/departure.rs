//! How requests leave.
//!
//! Owns the way from a [`Request`] to its bytes. A head is written straight into the connection's
//! buffer, without an allocation; a value is handed on as it is. Knows nothing of how requests are
//! read. Invariant: both ways out, `put_head` and `to_part`, give the same frame.

use bytes::{BufMut, Bytes, BytesMut};
use zerocopy::{Immutable, IntoBytes};

use crate::checksum::Sums;
use crate::table::Step;
use crate::wire::head::FixedHead;
use crate::wire::part::Part;
use crate::wire::request::{
    ADD, BATCH, BY_PLACE, CALL, Condition, DELETE, Delivery, GET, HALF, IF_ABSENT, IF_VERSION,
    PING, POP, PUSH, PUSHES, PUSHES_ALL, PUT, RETRY, Request, SCAN, STAT, STATS, STEP, SUMMED,
    UNPIN, WAIT, WANTS_ALL, Write,
};
use crate::wire::{UNPINS_MAX, batch, body};

/// The longest body that this build writes into a request: that of a step.
const BODY_BYTES: usize = size_of::<body::Step>();

/// What stands before a request's payload, the key apart.
struct Front {
    opcode: u8,
    flags: u8,
    body: [u8; BODY_BYTES],
    body_len: usize,
}

impl Front {
    fn new<T: IntoBytes + Immutable>(opcode: u8, flags: u8, fields: &T) -> Self {
        let fields = fields.as_bytes();
        let mut body = [0; BODY_BYTES];
        body[..fields.len()].copy_from_slice(fields);
        Self { opcode, flags, body, body_len: fields.len() }
    }

    fn bare(opcode: u8) -> Self {
        Self::new(opcode, 0, &[0_u8; 0])
    }

    fn body(&self) -> &[u8] {
        &self.body[..self.body_len]
    }
}

impl Request {
    /// Appends the frame's head to `buffer`; `payload_len` bytes will follow.
    pub(crate) fn put_head(
        &self,
        request_id: u64,
        epoch: u32,
        payload_len: u32,
        buffer: &mut BytesMut,
    ) {
        let front = self.front();
        let key = self.name();
        FixedHead {
            opcode: front.opcode,
            flags: front.flags,
            key_len: key.len(),
            payload_len,
            request_id,
            epoch,
            body_len: front.body_len,
            status: 0,
            phase: 0,
        }
        .put(front.body(), key, buffer);
    }

    /// What follows the head: shared for a value, made for a batch. A value without sums is summed
    /// by who sends it.
    pub(crate) fn payload(&self) -> (Bytes, Sums) {
        match self {
            Self::Put { value, sums, .. } | Self::Push { value, sums, .. } => {
                (value.clone(), sums.clone())
            }
            Self::Batch(items) => {
                let mut payload = BytesMut::new();
                for item in items {
                    batch::put_item(&item.to_part(), &mut payload);
                }
                let payload = payload.freeze();
                let sums = Sums::of(0, &payload);
                (payload, sums)
            }
            Self::Unpin(pins) => {
                let mut payload = BytesMut::with_capacity(pins.len() * size_of::<u64>());
                pins.iter().for_each(|pin| payload.put_u64_le(*pin));
                let payload = payload.freeze();
                let sums = Sums::of(0, &payload);
                (payload, sums)
            }
            // Without sums: who sends it makes them.
            Self::Step { payload, .. } | Self::Call { call: payload, .. } => {
                (payload.clone(), Sums::default())
            }
            Self::Ping
            | Self::Get { .. }
            | Self::Delete { .. }
            | Self::Stat { .. }
            | Self::Scan { .. }
            | Self::Wait { .. }
            | Self::Add { .. }
            | Self::Pop { .. }
            | Self::Stats => (Bytes::new(), Sums::default()),
        }
    }

    /// The same with sums in any case.
    pub(crate) fn payload_summed(&self) -> (Bytes, Sums) {
        let (payload, sums) = self.payload();
        let sums = if sums.is_empty() { Sums::of(0, &payload) } else { sums };
        (payload, sums)
    }

    /// The request as it travels.
    pub fn to_part(&self) -> Part {
        let front = self.front();
        let (payload, sums) = self.payload_summed();
        let key = match self {
            Self::Scan { prefix, .. } => prefix.clone(),
            Self::Step { table, .. } | Self::Call { table, .. } => table.to_bytes(),
            _ => self.key().map(crate::key::Key::to_bytes).unwrap_or_default(),
        };
        Part {
            opcode: front.opcode,
            flags: front.flags,
            body: Bytes::copy_from_slice(front.body()),
            key,
            payload,
            sums,
            ..Part::default()
        }
    }

    /// The key or the prefix.
    fn name(&self) -> &[u8] {
        match self {
            Self::Scan { prefix, .. } => prefix,
            Self::Step { table, .. } | Self::Call { table, .. } => table.as_bytes(),
            _ => self.key().map_or(&[], |key| key.as_bytes()),
        }
    }

    fn front(&self) -> Front {
        match self {
            Self::Ping => Front::bare(PING),
            Self::Stats => Front::bare(STATS),
            Self::Unpin(_) => Front::bare(UNPIN),
            Self::Stat { .. } => Front::bare(STAT),
            Self::Get { offset, len, newer_than, inline_bytes_max, delivery, .. } => {
                let fields = body::Get {
                    offset: (*offset).into(),
                    len: (*len).into(),
                    newer_than: newer_than.0.into(),
                    inline_bytes_max: (*inline_bytes_max).into(),
                    reserved: 0.into(),
                };
                Front::new(GET, delivery_out(*delivery), &fields)
            }
            Self::Put { write, condition, expires_at, .. } => {
                let (flag, if_version) = condition_out(*condition);
                let fields = body::Put {
                    write: write_out(*write),
                    if_version: if_version.into(),
                    expires_at: (*expires_at).into(),
                };
                Front::new(PUT, flag | retry_flag(*write), &fields)
            }
            Self::Delete { write, condition, .. } => {
                let (flag, if_version) = condition_out(*condition);
                let fields =
                    body::Delete { write: write_out(*write), if_version: if_version.into() };
                Front::new(DELETE, flag | retry_flag(*write), &fields)
            }
            Self::Batch(items) => Front::new(BATCH, 0, &batch_body(items.len())),
            Self::Scan { slot, hash, limit, .. } => {
                let fields = body::Scan {
                    hash: (*hash).into(),
                    slot: u32::from(*slot).into(),
                    limit: (*limit).into(),
                };
                Front::new(SCAN, 0, &fields)
            }
            Self::Wait { newer_than, timeout_ms, .. } => {
                let fields = body::Wait {
                    newer_than: newer_than.0.into(),
                    timeout_ms: (*timeout_ms).into(),
                    reserved: 0.into(),
                };
                Front::new(WAIT, 0, &fields)
            }
            Self::Add { write, delta, .. } => {
                let fields = body::Add { write: write_out(*write), delta: (*delta).into() };
                Front::new(ADD, retry_flag(*write), &fields)
            }
            Self::Push { write, queue_bytes_max, .. } => {
                let fields = body::Push {
                    write: write_out(*write),
                    queue_bytes_max: (*queue_bytes_max).into(),
                };
                Front::new(PUSH, retry_flag(*write), &fields)
            }
            Self::Call { .. } => Front::bare(CALL),
            Self::Step { step, .. } => step_out(step),
            Self::Pop { write, .. } => {
                Front::new(POP, retry_flag(*write), &body::Pop { write: write_out(*write) })
            }
        }
    }
}

/// Appends the frames that let go of `pins`: as many as it takes.
pub(crate) fn put_unpins(pins: &[u64], buffer: &mut BytesMut) {
    for pins in pins.chunks(UNPINS_MAX) {
        let len = size_of_val(pins);
        let payload_len = u32::try_from(len).expect("a chunk is short");
        FixedHead { opcode: UNPIN, payload_len, ..FixedHead::default() }.put(&[], &[], buffer);
        let from = buffer.len();
        pins.iter().for_each(|pin| buffer.put_u64_le(*pin));
        let sums = Sums::of(0, &buffer[from..]);
        sums.put_table(buffer);
    }
}

/// The part of a batch of replies.
pub(super) fn batch_part(opcode: u8, items: usize, payload: Bytes) -> Part {
    Part {
        opcode,
        body: body::bytes(&batch_body(items)),
        sums: Sums::of(0, &payload),
        payload,
        ..Part::default()
    }
}

fn batch_body(items: usize) -> body::Batch {
    let items = u32::try_from(items).expect("batches are short");
    body::Batch { items: items.into(), reserved: 0.into() }
}

fn step_out(step: &Step) -> Front {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = flag(step.pushes, PUSHES)
        | flag(step.half, HALF)
        | flag(step.pushes_all, PUSHES_ALL)
        | flag(step.wants_all, WANTS_ALL);
    let fields = body::Step {
        generation: step.generation.into(),
        worker: step.worker.into(),
        split: step.split.into(),
        clock: step.clock.into(),
        read_for: step.read_for.into(),
        minibatch: step.minibatch.into(),
        rate: step.rate.into(),
        pushed: step.pushed.into(),
        wanted: step.wanted.into(),
        timeout_ms: step.timeout_ms.into(),
        reserved: 0.into(),
    };
    Front::new(STEP, flags, &fields)
}

fn write_out(write: Write) -> body::Write {
    body::Write { sequence: write.sequence.into(), acknowledged: write.acknowledged.into() }
}

fn retry_flag(write: Write) -> u8 {
    if write.retry { RETRY } else { 0 }
}

fn delivery_out(delivery: Delivery) -> u8 {
    match delivery {
        Delivery::Inline => 0,
        Delivery::Place => BY_PLACE,
        Delivery::SummedPlace => BY_PLACE | SUMMED,
    }
}

fn condition_out(condition: Condition) -> (u8, u64) {
    match condition {
        Condition::Always => (0, 0),
        Condition::IfAbsent => (IF_ABSENT, 0),
        Condition::IfVersion(version) => (IF_VERSION, version.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, Version};
    use crate::wire::encode_frame;

    #[test]
    fn both_ways_out_give_the_same_frame() {
        let key = Key::try_from("some/key").unwrap();
        let write = Write { sequence: 7, acknowledged: 3, retry: true };
        let value = Bytes::from(vec![5; 70_000]);
        let sums = Sums::of(0, &value);
        let (condition, expires_at) = (Condition::IfVersion(Version(9)), 11);
        let put = Request::Put { key: key.clone(), write, condition, expires_at, value, sums };
        let prefix = Bytes::from_static(b"so");
        let scan = Request::Scan { prefix, slot: 3, hash: 4, limit: 5 };
        let add = Request::Add { key: key.clone(), write, delta: -1 };
        let batch = Request::Batch(vec![put.clone(), Request::Stat { key }, add.clone()]);
        let pins = vec![1, 7, u64::MAX];
        let mut unpins = BytesMut::new();
        put_unpins(&pins, &mut unpins);
        let unpin = Request::Unpin(pins);
        let mut one = BytesMut::new();
        encode_frame(&unpin.to_part(), 0, 0, &mut one);
        assert_eq!(one, unpins);
        for request in [put, scan, add, batch, unpin, Request::Ping] {
            let (mut one, mut other) = (BytesMut::new(), BytesMut::new());
            encode_frame(&request.to_part(), 77, 5, &mut one);
            let (payload, sums) = request.payload();
            request.put_head(77, 5, u32::try_from(payload.len()).unwrap(), &mut other);
            other.extend_from_slice(&payload);
            sums.put_table(&mut other);
            assert_eq!(one, other, "{request:?}");
        }
    }
}
