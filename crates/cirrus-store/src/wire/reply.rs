//! What a node can answer.
//!
//! Owns [`Reply`] and both directions between it and a [`Part`]. A reply's opcode is its request's
//! with the top bit set. Invariant: a failure carries its kind and one number, never text, so that
//! no peer can put words into a log.

use bytes::{Bytes, BytesMut};
use zerocopy::IntoBytes;

use crate::checksum::{BLOCK_BYTES, Sums, blocks};
use crate::error::{Error, Kind, Result};
use crate::key::Version;
use crate::table::Stepped;
use crate::wire::departure::batch_part;
use crate::wire::fault::Fault;
use crate::wire::head::{FRAME_HEAD_BYTES, FixedHead};
use crate::wire::page::Page;
use crate::wire::part::{Part, check_phase};
use crate::wire::status::Status;
use crate::wire::{UNSAID, VALUE_BYTES_MAX};
use crate::wire::{batch, body};

const PONG: u8 = 0x81;
const VALUE: u8 = 0x82;
const WRITTEN: u8 = 0x83;
const DELETED: u8 = 0x84;
const STAT: u8 = 0x85;
const BATCH: u8 = 0x86;
pub(super) const PAGE: u8 = 0x87;
const ADDED: u8 = 0x89;
const PUSHED: u8 = 0x8A;
const POPPED: u8 = 0x8B;
const STATS: u8 = 0x8C;
const PLACED: u8 = 0x8D;
const STEPPED: u8 = 0x8E;
const STOOD: u8 = 0x8F;
/// Any failure: which request it answers is known by its number.
const FAULT: u8 = 0xFF;

/// An answer of the native protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To a ping.
    Pong,
    /// To a get: the bytes asked for.
    Value {
        /// The object's version.
        version: Version,
        /// Bytes of the whole value.
        size: u64,
        /// Where the bytes start in it.
        offset: u64,
        /// Unix time in milliseconds, or 0 for never.
        expires_at: u64,
        /// When it was last written, in Unix ms, or 0 where the node does not say.
        modified_at: u64,
        /// The bytes.
        value: Bytes,
        /// Their checksums, on the value's own grid of blocks.
        sums: Sums,
    },
    /// To a get that takes it: where the bytes lie in the memory that the node shares.
    Placed {
        /// The object's version.
        version: Version,
        /// Bytes of the whole value.
        size: u64,
        /// Where the bytes start in it.
        offset: u64,
        /// Unix time in milliseconds, or 0 for never.
        expires_at: u64,
        /// When it was last written, in Unix ms, or 0 where the node does not say.
        modified_at: u64,
        /// Where the first byte lies in the shared memory.
        place: u64,
        /// How many bytes there are.
        len: u64,
        /// What the client lets go of when it needs them no more; they stay until then.
        pin: u64,
        /// Their checksums, on the value's own grid of blocks, if the client wants them.
        sums: Sums,
    },
    /// To a conditional get: nothing newer.
    NotModified {
        /// The object's version.
        version: Version,
    },
    /// To a get: more bytes than it takes inline.
    Deferred {
        /// The object's version.
        version: Version,
        /// Bytes of the whole value.
        size: u64,
    },
    /// To a put.
    Written {
        /// The object's new version.
        version: Version,
    },
    /// To a delete.
    Deleted {
        /// The version of the deletion.
        version: Version,
    },
    /// To a stat or a wait.
    Stat {
        /// The object's version.
        version: Version,
        /// Bytes of its value, or of all items of a queue.
        size: u64,
        /// Unix time in milliseconds, or 0 for never.
        expires_at: u64,
        /// When it was last written, in Unix ms, or 0 where the node does not say.
        modified_at: u64,
        /// Whether it is a queue.
        queue: bool,
    },
    /// To a batch: one for each item, in order.
    Batch(Vec<Reply>),
    /// To a scan.
    Page(Page),
    /// To an add.
    Added {
        /// The integer's new version.
        version: Version,
        /// The sum.
        value: i64,
    },
    /// To a push.
    Pushed {
        /// The queue's new version.
        version: Version,
        /// The items in the queue.
        items: u64,
    },
    /// To a pop.
    Popped {
        /// The queue's new version.
        version: Version,
        /// The items left in the queue.
        items: u64,
        /// What was popped.
        value: Bytes,
        /// Its checksums.
        sums: Sums,
    },
    /// To stats: JSON text.
    Stats(Bytes),
    /// To a step of a table: the values that were wanted.
    Stepped {
        /// What came of it.
        stepped: Stepped,
        /// f32, row by row.
        values: Bytes,
    },
    /// To a call to a table: a [`Stand`](crate::table::Stand), as JSON.
    Stood(Bytes),
    /// It was not carried out.
    Failed(Fault),
}

/// A whole value of at most a block, as it lies in a node: it becomes a frame without a [`Reply`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct WholeValue<'a> {
    pub(crate) version: Version,
    pub(crate) expires_at: u64,
    pub(crate) modified_at: u64,
    pub(crate) value: &'a [u8],
    pub(crate) crc: u32,
}

impl WholeValue<'_> {
    /// Appends the frame that [`Reply::Value`] would make.
    pub(crate) fn put(&self, request_id: u64, epoch: u32, buffer: &mut BytesMut) {
        let Self { version, expires_at, modified_at, value, crc } = *self;
        let size = (value.len() as u64).into();
        let known = body::Value {
            version: version.0.into(),
            size,
            offset: 0.into(),
            expires_at: expires_at.into(),
        };
        let mut fields = [0; size_of::<body::Value>() + size_of::<body::Modified>()];
        let fields = grown(&mut fields, known.as_bytes(), modified_at);
        let payload_len = u32::try_from(value.len()).expect("at most a block");
        let fixed =
            FixedHead { opcode: VALUE, payload_len, request_id, epoch, ..FixedHead::default() };
        buffer.reserve(FRAME_HEAD_BYTES + fields.len() + value.len() + 4);
        fixed.put(fields, &[], buffer);
        buffer.extend_from_slice(value);
        Sums::single(crc, value.len()).put_table(buffer);
    }
}

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// What has come of a reply: the fields of a [`Part`], its body wherever it lies.
struct Arrived<'a> {
    opcode: u8,
    status: u16,
    phase: u16,
    body: &'a [u8],
    payload: Bytes,
    sums: Sums,
}

impl Reply {
    /// The reply as it travels.
    #[expect(clippy::too_many_lines, reason = "an arm for each reply")]
    pub fn to_part(&self) -> Part {
        let part = |opcode, body| Part { opcode, body, ..Part::default() };
        match self {
            Self::Pong => part(PONG, Bytes::new()),
            Self::Value { version, size, offset, expires_at, modified_at, value, sums } => {
                let fields = value_out(*version, *size, *offset, (*expires_at, *modified_at));
                let phase = phase_of(*offset);
                Part { phase, payload: value.clone(), sums: sums.clone(), ..part(VALUE, fields) }
            }
            Self::Placed { sums, .. } => {
                let payload = sums.to_table();
                let fields =
                    self.placed_out().map_or_else(Bytes::new, |fields| body::bytes(&fields));
                Part { sums: Sums::of(0, &payload), payload, ..part(PLACED, fields) }
            }
            Self::NotModified { version } => Part {
                status: Status::NotModified.code(),
                ..part(VALUE, value_out(*version, 0, 0, (0, 0)))
            },
            Self::Deferred { version, size } => Part {
                status: Status::Deferred.code(),
                ..part(VALUE, value_out(*version, *size, 0, (0, 0)))
            },
            Self::Written { version } => part(WRITTEN, written_out(*version)),
            Self::Deleted { version } => part(DELETED, written_out(*version)),
            Self::Stat { version, size, expires_at, modified_at, queue } => {
                let fields = body::Stat {
                    version: version.0.into(),
                    size: (*size).into(),
                    expires_at: (*expires_at).into(),
                    kind: u16::from(*queue).into(),
                    reserved: 0.into(),
                    reserved2: 0.into(),
                };
                let mut body = [0; size_of::<body::Stat>() + size_of::<body::Modified>()];
                part(
                    STAT,
                    Bytes::copy_from_slice(grown(&mut body, fields.as_bytes(), *modified_at)),
                )
            }
            Self::Batch(items) => {
                let mut payload = BytesMut::new();
                for item in items {
                    batch::put_item(&item.to_part(), &mut payload);
                }
                batch_part(BATCH, items.len(), payload.freeze())
            }
            Self::Page(page) => page.to_part(),
            Self::Added { version, value } => part(
                ADDED,
                body::bytes(&body::Added { version: version.0.into(), value: (*value).into() }),
            ),
            Self::Pushed { version, items } => part(PUSHED, queue_out(*version, *items)),
            Self::Popped { version, items, value, sums } => Part {
                payload: value.clone(),
                sums: sums.clone(),
                ..part(POPPED, queue_out(*version, *items))
            },
            Self::Stepped { stepped, values } => {
                let fields = body::Stepped {
                    slowest: stepped.slowest.into(),
                    repeated: u32::from(stepped.repeated).into(),
                };
                let sums = Sums::of(0, values);
                Part { payload: values.clone(), sums, ..part(STEPPED, body::bytes(&fields)) }
            }
            Self::Stood(json) => {
                Part { payload: json.clone(), sums: Sums::of(0, json), ..part(STOOD, Bytes::new()) }
            }
            Self::Stats(json) => {
                Part { payload: json.clone(), sums: Sums::of(0, json), ..part(STATS, Bytes::new()) }
            }
            Self::Failed(fault) => Part {
                status: Status::Failed(fault.kind).code(),
                ..part(FAULT, body::bytes(&body::Fault { detail: fault.detail.into() }))
            },
        }
    }

    /// Appends the whole frame, if the reply is of the short kinds that most writes get: no
    /// allocation. False: nothing was appended, and [`Reply::to_part`] is the way.
    pub(crate) fn put_short(&self, request_id: u64, epoch: u32, buffer: &mut BytesMut) -> bool {
        let mut put = |opcode, status: Status, fields: &[u8]| {
            let status = status.code();
            let fixed = FixedHead { opcode, status, request_id, epoch, ..FixedHead::default() };
            fixed.put(fields, &[], buffer);
            true
        };
        match self {
            Self::Written { version } => {
                let fields = body::Written { version: version.0.into() };
                put(WRITTEN, Status::Ok, fields.as_bytes())
            }
            Self::Deleted { version } => {
                let fields = body::Written { version: version.0.into() };
                put(DELETED, Status::Ok, fields.as_bytes())
            }
            Self::Added { version, value } => {
                let fields = body::Added { version: version.0.into(), value: (*value).into() };
                put(ADDED, Status::Ok, fields.as_bytes())
            }
            Self::Pushed { version, items } => {
                let fields = body::Queue { version: version.0.into(), items: (*items).into() };
                put(PUSHED, Status::Ok, fields.as_bytes())
            }
            Self::Failed(fault) => {
                let fields = body::Fault { detail: fault.detail.into() };
                put(FAULT, Status::Failed(fault.kind), fields.as_bytes())
            }
            Self::Placed { sums, .. } if sums.is_empty() => match self.placed_out() {
                Some(fields) => put(PLACED, Status::Ok, fields.as_bytes()),
                None => false,
            },
            Self::Pong
            | Self::Value { .. }
            | Self::Placed { .. }
            | Self::NotModified { .. }
            | Self::Deferred { .. }
            | Self::Stat { .. }
            | Self::Batch(_)
            | Self::Page(_)
            | Self::Popped { .. }
            | Self::Stats(_)
            | Self::Stepped { .. }
            | Self::Stood(_) => false,
        }
    }

    fn placed_out(&self) -> Option<body::Placed> {
        let Self::Placed {
            version, size, offset, expires_at, modified_at, place, len, pin, ..
        } = self
        else {
            return None;
        };
        Some(body::Placed {
            version: version.0.into(),
            size: (*size).into(),
            offset: (*offset).into(),
            expires_at: (*expires_at).into(),
            modified_at: (*modified_at).into(),
            place: (*place).into(),
            len: (*len).into(),
            pin: (*pin).into(),
        })
    }

    /// Reads a reply; [`Kind::Protocol`] says what is wrong with it.
    pub fn from_part(part: Part) -> Result<Self> {
        let Part { opcode, status, phase, body, payload, sums, .. } = part;
        Self::read(Arrived { opcode, status, phase, body: &body, payload, sums })
    }

    /// Reads the reply in a frame whose head is still in the read buffer, with its `body` there.
    pub(crate) fn of(head: &FixedHead, body: &[u8], payload: Bytes, sums: Sums) -> Result<Self> {
        let FixedHead { opcode, status, phase, .. } = *head;
        Self::read(Arrived { opcode, status, phase, body, payload, sums })
    }

    fn read(part: Arrived<'_>) -> Result<Self> {
        if part.opcode != BATCH {
            return Self::single(part);
        }
        let fields: body::Batch = body::read(part.body)?;
        let items = batch::take_items(part.payload, fields.items.get())?;
        let replies = items.into_iter().map(|item| {
            let Part { opcode, status, phase, body, payload, sums, .. } = item;
            Self::single(Arrived { opcode, status, phase, body: &body, payload, sums })
        });
        replies.collect::<Result<_>>().map(Self::Batch)
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each reply")]
    fn single(part: Arrived<'_>) -> Result<Self> {
        let code = part.status;
        let status = Status::from_code(code)
            .ok_or_else(|| Error::new(Kind::Protocol, format!("a reply of status {code}")))?;
        if let Status::Failed(kind) = status {
            let fields: body::Fault = body::read(part.body)?;
            return Ok(Self::Failed(Fault { kind, detail: fields.detail.get() }));
        }
        Ok(match part.opcode {
            PONG => Self::Pong,
            VALUE => {
                let fields: body::Value = body::read(part.body)?;
                check_phase(part.phase, fields.offset.get())?;
                let (version, size) = (Version(fields.version.get()), fields.size.get());
                match status {
                    Status::NotModified => Self::NotModified { version },
                    Status::Deferred => Self::Deferred { version, size },
                    Status::Ok | Status::Failed(_) => Self::Value {
                        version,
                        size,
                        offset: fields.offset.get(),
                        expires_at: fields.expires_at.get(),
                        modified_at: modified_in(part.body, size_of::<body::Value>())?,
                        value: part.payload,
                        sums: part.sums,
                    },
                }
            }
            PLACED => placed_in(part.body, part.payload)?,
            WRITTEN => Self::Written { version: written_in(part.body)? },
            DELETED => Self::Deleted { version: written_in(part.body)? },
            STAT => {
                let fields: body::Stat = body::read(part.body)?;
                Self::Stat {
                    version: Version(fields.version.get()),
                    size: fields.size.get(),
                    expires_at: fields.expires_at.get(),
                    modified_at: modified_in(part.body, size_of::<body::Stat>())?,
                    queue: fields.kind.get() != 0,
                }
            }
            PAGE => Self::Page(Page::read(part.body, part.payload)?),
            ADDED => {
                let fields: body::Added = body::read(part.body)?;
                Self::Added { version: Version(fields.version.get()), value: fields.value.get() }
            }
            PUSHED => {
                let fields: body::Queue = body::read(part.body)?;
                Self::Pushed { version: Version(fields.version.get()), items: fields.items.get() }
            }
            POPPED => {
                check_phase(part.phase, 0)?;
                let fields: body::Queue = body::read(part.body)?;
                Self::Popped {
                    version: Version(fields.version.get()),
                    items: fields.items.get(),
                    value: part.payload,
                    sums: part.sums,
                }
            }
            STATS => Self::Stats(part.payload),
            STEPPED => {
                let fields: body::Stepped = body::read(part.body)?;
                let (slowest, repeated) = (fields.slowest.get(), fields.repeated.get() != 0);
                part.sums.check(0, &part.payload)?;
                Self::Stepped { stepped: Stepped { slowest, repeated }, values: part.payload }
            }
            STOOD => {
                part.sums.check(0, &part.payload)?;
                Self::Stood(part.payload)
            }
            opcode => {
                return Err(Error::new(Kind::Protocol, format!("no reply has opcode {opcode}")));
            }
        })
    }
}

fn value_out(
    version: Version,
    size: u64,
    offset: u64,
    (expires_at, modified_at): (u64, u64),
) -> Bytes {
    let fields = body::Value {
        version: version.0.into(),
        size: size.into(),
        offset: offset.into(),
        expires_at: expires_at.into(),
    };
    let mut body = [0; size_of::<body::Value>() + size_of::<body::Modified>()];
    Bytes::copy_from_slice(grown(&mut body, fields.as_bytes(), modified_at))
}

/// The fields, and behind them the time of the last write where there is one to say.
fn grown<'b>(body: &'b mut [u8], fields: &[u8], modified_at: u64) -> &'b [u8] {
    body[..fields.len()].copy_from_slice(fields);
    if modified_at == UNSAID {
        return &body[..fields.len()];
    }
    let modified = body::Modified { at: modified_at.into() };
    body[fields.len()..].copy_from_slice(modified.as_bytes());
    body
}

/// The time of the last write behind the first `known` bytes of a body, if the node says it.
fn modified_in(body: &[u8], known: usize) -> Result<u64> {
    match body.get(known..) {
        None | Some([]) => Ok(UNSAID),
        Some(more) => body::read::<body::Modified>(more).map(|fields| fields.at.get()),
    }
}

fn placed_in(body: &[u8], payload: Bytes) -> Result<Reply> {
    let fields: body::Placed = body::read(body)?;
    let (offset, len) = (fields.offset.get(), fields.len.get());
    let known = usize::try_from(len).ok().filter(|_| len <= u64::from(VALUE_BYTES_MAX));
    let table_len = known.map(|len| 4 * blocks(phase_of(offset), len));
    if table_len.is_none_or(|wanted| !payload.is_empty() && payload.len() != wanted) {
        return Err(Error::new(Kind::Protocol, format!("a place of {len} bytes, wrongly summed")));
    }
    Ok(Reply::Placed {
        version: Version(fields.version.get()),
        size: fields.size.get(),
        offset,
        expires_at: fields.expires_at.get(),
        modified_at: fields.modified_at.get(),
        place: fields.place.get(),
        len,
        pin: fields.pin.get(),
        sums: Sums::from_table(payload),
    })
}

/// Where in its block a value's byte lies.
fn phase_of(offset: u64) -> u16 {
    u16::try_from(offset % BLOCK_BYTES as u64).expect("less than a block")
}

fn written_out(version: Version) -> Bytes {
    body::bytes(&body::Written { version: version.0.into() })
}

fn written_in(body: &[u8]) -> Result<Version> {
    body::read::<body::Written>(body).map(|fields| Version(fields.version.get()))
}

fn queue_out(version: Version, items: u64) -> Bytes {
    body::bytes(&body::Queue { version: version.0.into(), items: items.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_frame;

    /// The frame that the long way makes.
    fn frame(reply: &Reply) -> BytesMut {
        let mut buffer = BytesMut::new();
        encode_frame(&reply.to_part(), 77, 5, &mut buffer);
        buffer
    }

    #[test]
    fn the_short_way_makes_the_same_frames() {
        let version = Version(9);
        let fault = Fault { kind: Kind::OutOfMemory, detail: 7 };
        for reply in [
            Reply::Written { version },
            Reply::Deleted { version },
            Reply::Added { version, value: -3 },
            Reply::Pushed { version, items: 4 },
            Reply::Failed(fault),
            Reply::Placed {
                version,
                size: 1 << 20,
                offset: 7,
                expires_at: 1,
                modified_at: 2,
                place: 4096,
                len: 70_000,
                pin: 3,
                sums: Sums::default(),
            },
        ] {
            let mut short = BytesMut::new();
            assert!(reply.put_short(77, 5, &mut short), "{reply:?}");
            assert_eq!(short, frame(&reply), "{reply:?}");
        }
        let mut short = BytesMut::new();
        assert!(!Reply::Pong.put_short(77, 5, &mut short) && short.is_empty());
        for value in [&b""[..], b"v", &[7; 16_384]] {
            let (size, expires_at, sums) = (value.len() as u64, 11, Sums::of(0, value));
            let modified_at = 1_800_000_000_000;
            let whole = WholeValue { version, expires_at, modified_at, value, crc: sums.first() };
            let mut short = BytesMut::new();
            whole.put(77, 5, &mut short);
            let value = Bytes::copy_from_slice(value);
            let offset = 0;
            let reply =
                Reply::Value { version, size, offset, expires_at, modified_at, value, sums };
            assert_eq!(short, frame(&reply));
        }
    }
}
