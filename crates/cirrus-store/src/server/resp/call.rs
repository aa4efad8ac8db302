//! What a command is given, and how it fails.
//!
//! Owns the arguments of one command, the way from them to the keyspace, and the texts of
//! failures. Invariant: a key is looked at only with its shard locked, after it was asked whether
//! this node holds its slot.

use crate::error::Kind;
use crate::key::{KeyRef, Slot};
use crate::server::keyspace::{
    Contents, Filling, Found, Large, Place, Places, SMALL_BYTES_MAX, Seen, Stored, Turn, Value,
};
use crate::server::node::Node;
use crate::server::resp::number::parse_integer;
use crate::server::resp::parse::{Argument, Input};
use crate::server::resp::table::Spec;
use crate::wire::Fault;

pub(super) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Keys of one command that are collected without an allocation.
const KEYS_IN_PLACE: usize = 24;

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The whole line without its minus.
    Text(&'static str),
    /// The same, made for the occasion.
    Made(Vec<u8>),
    WrongArity,
    ExpireTime,
    /// Another node holds the slot.
    Moved(Slot),
    Fault(Fault),
}

pub(super) const SYNTAX: Failure = Failure::Text("ERR syntax error");
pub(super) const NOT_INTEGER: Failure =
    Failure::Text("ERR value is not an integer or out of range");
pub(super) const WRONG_TYPE: Failure =
    Failure::Text("WRONGTYPE Operation against a key holding the wrong kind of value");
pub(super) const TOO_LONG: Failure =
    Failure::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
const OUT_OF_MEMORY: Failure =
    Failure::Text("OOM command not allowed when used memory > 'maxmemory'.");
pub(super) const BUSY: Failure =
    Failure::Text("ERR too many large values are on their way; try again");
const NOT_A_KEY: Failure = Failure::Text("ERR a key has 1 to 1024 bytes here; see docs/resp.md");
const CROSS_SLOT: Failure = Failure::Text("CROSSSLOT Keys in request don't hash to the same slot");

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            Kind::WrongType => WRONG_TYPE,
            Kind::OutOfMemory => OUT_OF_MEMORY,
            Kind::Busy => BUSY,
            _ => Self::Fault(fault),
        }
    }
}

/// One command that is being carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) node: &'a Node,
    pub(super) spec: &'static Spec,
    pub(super) now_ms: u64,
    pub(super) seen: &'a Seen,
    pub(super) input: &'a Input<Filling>,
    pub(super) large: &'a [Large],
}

impl<'a> Call<'a> {
    /// How many arguments there are, the name included.
    pub(super) fn len(&self) -> usize {
        self.input.argument_count()
    }

    /// An argument; `index` is below [`Call::len`].
    pub(super) fn arg(&self, index: usize) -> &'a [u8] {
        match self.input.argument(index) {
            Argument::Here(bytes) => bytes,
            Argument::Large(large) => self.large[large].bytes(),
        }
    }

    /// Whether an argument is this word, in any case.
    pub(super) fn is(&self, index: usize, word: &str) -> bool {
        self.arg(index).eq_ignore_ascii_case(word.as_bytes())
    }

    pub(super) fn integer(&self, index: usize) -> Result<i64> {
        parse_integer(self.arg(index)).ok_or(NOT_INTEGER)
    }

    pub(super) fn key(&self, index: usize) -> Result<KeyRef<'a>> {
        KeyRef::new(self.arg(index)).ok_or(NOT_A_KEY)
    }

    /// An argument as a value to be stored; summed here. Not to be called with a shard locked.
    pub(super) fn value(&self, index: usize) -> Result<Value<'a>> {
        match self.input.argument(index) {
            Argument::Here(bytes) => self.made(bytes),
            Argument::Large(large) => Ok(Value::Large(self.large[large].clone())),
        }
    }

    /// Bytes as a value to be stored; a large one is copied into memory that is paid for.
    fn made<'v>(&self, bytes: &'v [u8]) -> Result<Value<'v>> {
        if bytes.len() <= SMALL_BYTES_MAX {
            return Ok(Value::small(bytes));
        }
        let mut filling = self.node.keyspace.filling(bytes.len())?;
        filling.bytes_mut().copy_from_slice(bytes);
        Ok(Value::Large(filling.finish_summed()))
    }

    /// Has `apply` work on the place of the key that is this argument; the epoch goes with writes.
    pub(super) fn at<R>(
        &self,
        index: usize,
        apply: impl FnOnce(&mut Place<'_>, u32) -> Result<R>,
    ) -> Result<R> {
        let key = self.key(index)?;
        self.at_key(key, apply)
    }

    pub(super) fn at_key<R>(
        &self,
        key: KeyRef<'_>,
        apply: impl FnOnce(&mut Place<'_>, u32) -> Result<R>,
    ) -> Result<R> {
        self.node.keyspace.at(key, self.turn(), |place| {
            let epoch = place.held().map_err(|_| Failure::Moved(key.slot()))?;
            if self.needs_values() {
                place.warm()?;
            }
            apply(place, epoch)
        })
    }

    pub(super) fn turn(&self) -> Turn<'a> {
        Turn::new(self.now_ms, self.seen)
    }

    fn needs_values(&self) -> bool {
        self.spec.needs_values(self.len())
    }

    /// The same for all keys of the command at once.
    pub(super) fn at_all<R>(
        &self,
        apply: impl FnOnce(&mut Places<'_>, u32) -> Result<R>,
    ) -> Result<R> {
        let mut indexes = self.spec.keys_of(self.len());
        let first = self.key(indexes.next().ok_or(Failure::WrongArity)?)?;
        let count = indexes.clone().count() + 1;
        let mut in_place = [first; KEYS_IN_PLACE];
        let mut collected = Vec::new();
        let keys = if count <= KEYS_IN_PLACE {
            for (key, index) in in_place[1..].iter_mut().zip(indexes) {
                *key = self.key(index)?;
            }
            &in_place[..count]
        } else {
            collected.reserve_exact(count);
            collected.push(first);
            for index in indexes {
                collected.push(self.key(index)?);
            }
            &collected[..]
        };
        self.node.keyspace.at_all(keys, self.turn(), |places| {
            let held =
                |index: usize| places.held(index).map_err(|_| Failure::Moved(keys[index].slot()));
            let epoch = held(0)?;
            for (index, key) in keys.iter().enumerate().skip(1) {
                if key.slot() != first.slot() {
                    held(index)?;
                }
            }
            if self.needs_values() {
                (0..keys.len()).try_for_each(|index| places.at(index).warm())?;
            }
            apply(places, epoch)
        })
    }

    /// In a cluster all keys of a command must have one slot.
    pub(super) fn check_slots(&self) -> Result {
        let mut slots = self.spec.keys_of(self.len()).map(|index| Slot::of(self.arg(index)));
        match slots.next() {
            Some(first) if slots.any(|slot| slot != first) => Err(CROSS_SLOT),
            Some(_) | None => Ok(()),
        }
    }
}

/// The value of an object; [`WRONG_TYPE`] if it is a queue.
pub(super) fn value_of<'a>(found: &Found<'a>) -> Result<Stored<'a>> {
    match found.content {
        Contents::Value(stored) => Ok(stored),
        Contents::Queue(_) => Err(WRONG_TYPE),
        Contents::Cold(_) => Err(BUSY),
    }
}

/// An error whose text has a part of its own.
pub(super) fn made(text: String) -> Failure {
    Failure::Made(text.into_bytes())
}
