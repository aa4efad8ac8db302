//! What a client can ask for.
//!
//! Owns [`Request`], its opcodes and flags, and how it is read; `departure` has how it leaves.
//! Invariant: a decoded request's lengths, counts and flags are within the protocol's limits.

use bytes::{Buf, Bytes};

use crate::checksum::Sums;
use crate::error::{Error, Kind, Result};
use crate::key::{Key, SLOTS, Version};
use crate::table::Step;
use crate::wire::head::Head;
use crate::wire::part::{Part, check_phase};
use crate::wire::{
    BATCH_BYTES_MAX, CALL_BYTES_MAX, SCAN_ITEMS_MAX, STEP_BYTES_MAX, UNPINS_MAX, batch, body,
};

pub(super) const PING: u8 = 1;
pub(super) const GET: u8 = 2;
pub(super) const PUT: u8 = 3;
pub(super) const DELETE: u8 = 4;
pub(super) const STAT: u8 = 5;
pub(super) const BATCH: u8 = 6;
pub(super) const SCAN: u8 = 7;
pub(super) const WAIT: u8 = 8;
pub(super) const ADD: u8 = 9;
pub(super) const PUSH: u8 = 10;
pub(super) const POP: u8 = 11;
pub(super) const STATS: u8 = 12;
pub(super) const UNPIN: u8 = 13;
pub(super) const STEP: u8 = 14;
pub(super) const CALL: u8 = 15;

/// The write may have been sent before, under the same sequence number.
pub(super) const RETRY: u8 = 1;
/// Put: only if there is no object.
pub(super) const IF_ABSENT: u8 = 2;
/// Put and delete: only if the object has this version.
pub(super) const IF_VERSION: u8 = 4;
/// Get: a large value may be answered by its place in memory that the client maps.
pub(super) const BY_PLACE: u8 = 8;
/// Get: with [`BY_PLACE`], and its checksums.
pub(super) const SUMMED: u8 = 16;

/// Step: there is a minibatch to apply.
pub(super) const PUSHES: u8 = 1;
/// Step: its gradients are bfloat16.
pub(super) const HALF: u8 = 2;
/// Step: it is for all rows, which are not named.
pub(super) const PUSHES_ALL: u8 = 4;
/// Step: all rows are wanted, which are not named.
pub(super) const WANTS_ALL: u8 = 8;

/// What names a write, so that it is never applied twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Write {
    /// The write's number in its session, from 1.
    pub sequence: u64,
    /// The client has the answers of all writes up to this one and will not repeat them.
    pub acknowledged: u64,
    /// It may have been sent before.
    pub retry: bool,
}

/// When a write may happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    #[default]
    Always,
    /// Only if the key has no object.
    IfAbsent,
    /// Only if the key's object has exactly this version.
    IfVersion(Version),
}

/// How the answer to a get may bring the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// In the answer.
    #[default]
    Inline,
    /// Those of a large value by their place in the node's memory, which the client maps.
    Place,
    /// The same, with their checksums.
    SummedPlace,
}

/// A request of the native protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Answers at once.
    Ping,
    /// Reads a value, or `len` bytes of it from `offset` (`u64::MAX`: to its end).
    Get {
        /// The object.
        key: Key,
        /// The first byte wanted.
        offset: u64,
        /// How many bytes are wanted.
        len: u64,
        /// Answer NotModified unless the version is larger.
        newer_than: Version,
        /// Answer Deferred rather than send more bytes than this.
        inline_bytes_max: u32,
        /// How the bytes may come.
        delivery: Delivery,
    },
    /// Stores a value under a new version.
    Put {
        /// The object.
        key: Key,
        /// The write's name.
        write: Write,
        /// When it may happen.
        condition: Condition,
        /// Unix time in milliseconds, or 0 for never.
        expires_at: u64,
        /// The value.
        value: Bytes,
        /// The value's checksums, made by the writer; none are made when it is sent.
        sums: Sums,
    },
    /// Removes an object.
    Delete {
        /// The object.
        key: Key,
        /// The write's name.
        write: Write,
        /// Always, or only a given version.
        condition: Condition,
    },
    /// Asks for version and size.
    Stat {
        /// The object.
        key: Key,
    },
    /// Many requests in one round trip; not atomic, a status for each.
    Batch(Vec<Request>),
    /// Lists names with a prefix, from a cursor.
    Scan {
        /// What the names start with; may be empty.
        prefix: Bytes,
        /// The slot to go on from.
        slot: u16,
        /// The hash to go on from, within the slot.
        hash: u64,
        /// The most names wanted.
        limit: u32,
    },
    /// Answers when the key has an object with a larger version, as Stat does.
    Wait {
        /// The object.
        key: Key,
        /// The version that the client has already.
        newer_than: Version,
        /// Answer Timeout after this many milliseconds.
        timeout_ms: u32,
    },
    /// Adds to an integer kept as ASCII text; an absent one counts as 0.
    Add {
        /// The object.
        key: Key,
        /// The write's name.
        write: Write,
        /// What is added.
        delta: i64,
    },
    /// Appends to a queue.
    Push {
        /// The queue.
        key: Key,
        /// The write's name.
        write: Write,
        /// Answer Busy if the queue would hold more bytes than this.
        queue_bytes_max: u64,
        /// What is appended.
        value: Bytes,
        /// Its checksums.
        sums: Sums,
    },
    /// Takes the first of a queue.
    Pop {
        /// The queue.
        key: Key,
        /// The write's name.
        write: Write,
    },
    /// Asks for the node's own numbers, as JSON.
    Stats,
    /// Lets go of values that were answered by their place. There is no answer.
    Unpin(Vec<u64>),
    /// Gradients for a table of parameters, and values out of it.
    Step {
        /// The table.
        table: Key,
        /// What is done.
        step: Step,
        /// Rows and gradients; see [`Step`].
        payload: Bytes,
    },
    /// Asks something else of a table.
    Call {
        /// The table.
        table: Key,
        /// What: a [`Call`](crate::table::Call), as JSON.
        call: Bytes,
    },
}

impl Request {
    /// The key whose slot decides which node answers; `None` for requests about a node.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get { key, .. }
            | Self::Put { key, .. }
            | Self::Delete { key, .. }
            | Self::Stat { key }
            | Self::Wait { key, .. }
            | Self::Add { key, .. }
            | Self::Push { key, .. }
            | Self::Pop { key, .. } => Some(key),
            Self::Ping
            | Self::Batch(_)
            | Self::Scan { .. }
            | Self::Stats
            | Self::Unpin(_)
            | Self::Step { .. }
            | Self::Call { .. } => None,
        }
    }

    /// The names of the writes in this request: none, one, or those of a batch's items.
    pub fn writes_mut(&mut self) -> Vec<&mut Write> {
        match self {
            Self::Put { write, .. }
            | Self::Delete { write, .. }
            | Self::Add { write, .. }
            | Self::Push { write, .. }
            | Self::Pop { write, .. } => vec![write],
            Self::Batch(items) => items.iter_mut().flat_map(Self::writes_mut).collect(),
            Self::Ping
            | Self::Get { .. }
            | Self::Stat { .. }
            | Self::Scan { .. }
            | Self::Wait { .. }
            | Self::Stats
            | Self::Unpin(_)
            | Self::Step { .. }
            | Self::Call { .. } => Vec::new(),
        }
    }

    /// How many writes this request carries.
    pub(crate) fn writes(&self) -> usize {
        match self {
            Self::Put { .. }
            | Self::Delete { .. }
            | Self::Add { .. }
            | Self::Push { .. }
            | Self::Pop { .. } => 1,
            Self::Batch(items) => items.iter().map(Self::writes).sum(),
            Self::Ping
            | Self::Get { .. }
            | Self::Stat { .. }
            | Self::Scan { .. }
            | Self::Wait { .. }
            | Self::Stats
            | Self::Unpin(_)
            | Self::Step { .. }
            | Self::Call { .. } => 0,
        }
    }

    /// Names the writes in this request, in order.
    pub(crate) fn name_writes(&mut self, name: &mut impl FnMut() -> Write) {
        match self {
            Self::Put { write, .. }
            | Self::Delete { write, .. }
            | Self::Add { write, .. }
            | Self::Push { write, .. }
            | Self::Pop { write, .. } => *write = name(),
            Self::Batch(items) => items.iter_mut().for_each(|item| item.name_writes(name)),
            Self::Ping
            | Self::Get { .. }
            | Self::Stat { .. }
            | Self::Scan { .. }
            | Self::Wait { .. }
            | Self::Stats
            | Self::Unpin(_)
            | Self::Step { .. }
            | Self::Call { .. } => {}
        }
    }

    /// The same request; a get takes this many bytes inline.
    #[must_use]
    pub fn inlined(mut self, bytes_max: u32) -> Self {
        self.inline(bytes_max);
        self
    }

    /// Says how many bytes a get takes inline.
    pub(crate) fn inline(&mut self, bytes_max: u32) {
        if let Self::Get { inline_bytes_max, .. } = self {
            *inline_bytes_max = bytes_max;
        }
    }

    /// Says how the answer to a get may come.
    pub(crate) fn deliver(&mut self, by: Delivery) {
        if let Self::Get { delivery, .. } = self {
            *delivery = by;
        }
    }

    /// Bytes of value that the request carries.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Put { value, .. } | Self::Push { value, .. } => value.len(),
            Self::Batch(items) => items.iter().map(Self::payload_bytes).sum(),
            Self::Step { payload, .. } | Self::Call { call: payload, .. } => payload.len(),
            Self::Ping
            | Self::Get { .. }
            | Self::Delete { .. }
            | Self::Stat { .. }
            | Self::Scan { .. }
            | Self::Wait { .. }
            | Self::Add { .. }
            | Self::Pop { .. }
            | Self::Stats
            | Self::Unpin(_) => 0,
        }
    }

    /// Reads a request; [`Kind::Protocol`] and [`Kind::Invalid`] say what is wrong with it.
    pub fn from_part(part: Part) -> Result<Self> {
        if part.opcode == BATCH {
            known_flags(part.flags, 0)?;
            let fields: body::Batch = body::read(&part.body)?;
            let items = batch::take_items(part.payload, fields.items.get())?;
            return items.into_iter().map(Self::item).collect::<Result<_>>().map(Self::Batch);
        }
        Self::single(part)
    }

    /// A request that may stand in a batch: it has a key, is answered at once, and its answer has
    /// a bound.
    fn item(part: Part) -> Result<Self> {
        match part.opcode {
            GET => {
                known_flags(part.flags, 0)?;
                Self::single(part)
            }
            PUT | DELETE | STAT | ADD | PUSH | POP => Self::single(part),
            opcode => {
                let text = format!("opcode {opcode} may not stand in a batch");
                Err(Error::new(Kind::Protocol, text))
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each request")]
    fn single(part: Part) -> Result<Self> {
        let flags = part.flags;
        known_flags(flags, flags_of(part.opcode))?;
        check_phase(part.phase, 0)?;
        Ok(match part.opcode {
            PING => Self::Ping,
            STATS => Self::Stats,
            STAT => Self::Stat { key: Key::new(part.key)? },
            GET => {
                let fields: body::Get = body::read(&part.body)?;
                Self::Get {
                    key: Key::new(part.key)?,
                    offset: fields.offset.get(),
                    len: fields.len.get(),
                    newer_than: Version(fields.newer_than.get()),
                    inline_bytes_max: fields.inline_bytes_max.get(),
                    delivery: delivery_in(flags)?,
                }
            }
            PUT => {
                let fields: body::Put = body::read(&part.body)?;
                Self::Put {
                    key: Key::new(part.key)?,
                    write: write_in(fields.write, flags),
                    condition: condition_in(flags, fields.if_version.get())?,
                    expires_at: fields.expires_at.get(),
                    value: part.payload,
                    sums: part.sums,
                }
            }
            DELETE => {
                let fields: body::Delete = body::read(&part.body)?;
                Self::Delete {
                    key: Key::new(part.key)?,
                    write: write_in(fields.write, flags),
                    condition: condition_in(flags, fields.if_version.get())?,
                }
            }
            SCAN => {
                let fields: body::Scan = body::read(&part.body)?;
                Self::Scan {
                    prefix: part.key,
                    slot: u16::try_from(fields.slot.get()).unwrap_or(SLOTS).min(SLOTS),
                    hash: fields.hash.get(),
                    limit: fields.limit.get().clamp(1, SCAN_ITEMS_MAX),
                }
            }
            WAIT => {
                let fields: body::Wait = body::read(&part.body)?;
                Self::Wait {
                    key: Key::new(part.key)?,
                    newer_than: Version(fields.newer_than.get()),
                    timeout_ms: fields.timeout_ms.get(),
                }
            }
            ADD => {
                let fields: body::Add = body::read(&part.body)?;
                Self::Add {
                    key: Key::new(part.key)?,
                    write: write_in(fields.write, flags),
                    delta: fields.delta.get(),
                }
            }
            PUSH => {
                let fields: body::Push = body::read(&part.body)?;
                Self::Push {
                    key: Key::new(part.key)?,
                    write: write_in(fields.write, flags),
                    queue_bytes_max: fields.queue_bytes_max.get(),
                    value: part.payload,
                    sums: part.sums,
                }
            }
            POP => {
                let fields: body::Pop = body::read(&part.body)?;
                Self::Pop { key: Key::new(part.key)?, write: write_in(fields.write, flags) }
            }
            UNPIN => Self::Unpin(pins_in(part.payload)?),
            STEP => {
                let fields: body::Step = body::read(&part.body)?;
                let has = |flag: u8| flags & flag != 0;
                let step = Step {
                    generation: fields.generation.get(),
                    worker: fields.worker.get(),
                    clock: fields.clock.get(),
                    read_for: fields.read_for.get(),
                    split: fields.split.get(),
                    minibatch: fields.minibatch.get(),
                    rate: fields.rate.get(),
                    pushes: has(PUSHES),
                    half: has(HALF),
                    pushed: fields.pushed.get(),
                    pushes_all: has(PUSHES_ALL),
                    wanted: fields.wanted.get(),
                    wants_all: has(WANTS_ALL),
                    timeout_ms: fields.timeout_ms.get(),
                };
                part.sums.check(0, &part.payload)?;
                Self::Step { table: Key::new(part.key)?, step, payload: part.payload }
            }
            CALL => {
                part.sums.check(0, &part.payload)?;
                Self::Call { table: Key::new(part.key)?, call: part.payload }
            }
            opcode => {
                return Err(Error::new(Kind::Protocol, format!("no request has opcode {opcode}")));
            }
        })
    }
}

impl Head {
    /// The most bytes of payload of a frame that becomes no object itself; `None` for all others.
    pub(crate) fn transit_max(&self) -> Option<u32> {
        match self.opcode {
            BATCH => Some(BATCH_BYTES_MAX),
            STEP => Some(STEP_BYTES_MAX),
            CALL => Some(CALL_BYTES_MAX),
            _ => None,
        }
    }
}

/// The flags that an opcode defines.
fn flags_of(opcode: u8) -> u8 {
    match opcode {
        GET => BY_PLACE | SUMMED,
        PUT => RETRY | IF_ABSENT | IF_VERSION,
        DELETE => RETRY | IF_VERSION,
        ADD | PUSH | POP => RETRY,
        STEP => PUSHES | HALF | PUSHES_ALL | WANTS_ALL,
        _ => 0,
    }
}

/// A flag that we do not know may be a condition: carrying the request out without it is wrong.
fn known_flags(flags: u8, known: u8) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Error::new(Kind::Protocol, format!("unknown flags {unknown:#04x}"))),
    }
}

fn delivery_in(flags: u8) -> Result<Delivery> {
    match (flags & BY_PLACE != 0, flags & SUMMED != 0) {
        (false, false) => Ok(Delivery::Inline),
        (true, false) => Ok(Delivery::Place),
        (true, true) => Ok(Delivery::SummedPlace),
        (false, true) => Err(Error::new(Kind::Protocol, "checksums of no place")),
    }
}

fn pins_in(mut payload: Bytes) -> Result<Vec<u64>> {
    let (count, rest) = (payload.len() / size_of::<u64>(), payload.len() % size_of::<u64>());
    if count > UNPINS_MAX || rest > 0 {
        let text = format!("{} bytes are no numbers of pins", payload.len());
        return Err(Error::new(Kind::Protocol, text));
    }
    Ok((0..count).map(|_| payload.get_u64_le()).collect())
}

fn write_in(write: body::Write, flags: u8) -> Write {
    Write {
        sequence: write.sequence.get(),
        acknowledged: write.acknowledged.get(),
        retry: flags & RETRY != 0,
    }
}

fn condition_in(flags: u8, if_version: u64) -> Result<Condition> {
    match (flags & IF_ABSENT != 0, flags & IF_VERSION != 0) {
        (false, false) => Ok(Condition::Always),
        (true, false) => Ok(Condition::IfAbsent),
        (false, true) => Ok(Condition::IfVersion(Version(if_version))),
        (true, true) => Err(Error::new(Kind::Protocol, "a write that is both absent and present")),
    }
}
