//! Commands on values.
//!
//! GET of a small value: one lock, one copy into the output. SET: one checksum, one lock, one
//! copy. Neither allocates beside what the keyspace needs for a new object.

use bytes::Bytes;

use crate::key::Version;
use crate::server::keyspace::{Contents, Place, SMALL_BYTES_MAX, Stored, Value};
use crate::server::resp::call::{Call, Failure, Result, SYNTAX, TOO_LONG, value_of};
use crate::server::resp::parse::ARGUMENT_BYTES_MAX;
use crate::server::resp::reply::Output;
use crate::wire::NEVER;

/// Appends a stored value; a large one is shared.
pub(super) fn put_stored(out: &mut Output, stored: Stored<'_>) {
    match stored {
        Stored::Small { bytes, .. } => out.bulk(bytes),
        Stored::Large(large) => out.bulk_shared(large.bytes()),
    }
}

/// How many small values a reply may copy without being paid for: a mebibyte of them.
pub(super) const UNPAID_VALUES_MAX: usize = (1 << 20) / SMALL_BYTES_MAX;

/// Bytes that a reply copies of a value.
pub(super) fn copied_bytes(stored: Stored<'_>) -> u64 {
    match stored {
        Stored::Small { bytes, .. } => bytes.len() as u64,
        Stored::Large(_) => 0,
    }
}

fn put_found(out: &mut Output, place: &Place<'_>) -> Result {
    match place.found() {
        Some(found) => put_stored(out, value_of(&found)?),
        None => out.null(),
    }
    Ok(())
}

pub(super) fn get(call: &Call<'_>, out: &mut Output) -> Result {
    call.at(1, |place, _| put_found(out, place))
}

pub(super) fn getdel(call: &Call<'_>, out: &mut Output) -> Result {
    call.at(1, |place, epoch| {
        put_found(out, place)?;
        place.remove(epoch)?;
        Ok(())
    })
}

pub(super) fn getset(call: &Call<'_>, out: &mut Output) -> Result {
    let value = call.value(2)?;
    call.at(1, |place, epoch| {
        put_found(out, place)?;
        place.put(value, NEVER, epoch)?;
        Ok(())
    })
}

/// When a written object ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    Never,
    /// As before.
    Kept,
    /// An argument, in seconds or milliseconds, from now or from 1970.
    At {
        index: usize,
        in_seconds: bool,
        is_absolute: bool,
    },
}

#[derive(Debug)]
struct SetOptions {
    expiry: Expiry,
    if_absent: bool,
    if_present: bool,
    answers_old: bool,
    persists: bool,
}

impl SetOptions {
    /// The options of SET, or of GETEX, from an argument on.
    fn of(call: &Call<'_>, from: usize, is_set: bool) -> Result<Self> {
        let mut options = Self {
            expiry: Expiry::Never,
            if_absent: false,
            if_present: false,
            answers_old: false,
            persists: false,
        };
        let mut at = from;
        while at < call.len() {
            let taken = options.take(call, at, is_set)?;
            at += taken;
        }
        Ok(options)
    }

    /// Takes one option; how many arguments it has.
    fn take(&mut self, call: &Call<'_>, at: usize, is_set: bool) -> Result<usize> {
        if is_set && call.is(at, "nx") && !self.if_present {
            self.if_absent = true;
        } else if is_set && call.is(at, "xx") && !self.if_absent {
            self.if_present = true;
        } else if is_set && call.is(at, "get") {
            self.answers_old = true;
        } else if is_set && call.is(at, "keepttl") && !matches!(self.expiry, Expiry::At { .. }) {
            self.expiry = Expiry::Kept;
        } else if !is_set && call.is(at, "persist") && self.expiry == Expiry::Never {
            self.persists = true;
        } else {
            let unit = [
                ("ex", true, false),
                ("px", false, false),
                ("exat", true, true),
                ("pxat", false, true),
            ];
            let named = unit.into_iter().find(|(word, ..)| call.is(at, word));
            let Some((_, in_seconds, is_absolute)) = named else { return Err(SYNTAX) };
            let same_or_none = match self.expiry {
                Expiry::Never => !self.persists,
                Expiry::Kept => false,
                Expiry::At { in_seconds: seconds, is_absolute: absolute, .. } => {
                    (seconds, absolute) == (in_seconds, is_absolute)
                }
            };
            if !same_or_none || at + 1 >= call.len() {
                return Err(SYNTAX);
            }
            self.expiry = Expiry::At { index: at + 1, in_seconds, is_absolute };
            return Ok(2);
        }
        Ok(1)
    }

    /// When the object ends; `None` to leave it as it is.
    fn expires_at(&self, call: &Call<'_>) -> Result<Option<u64>> {
        match self.expiry {
            Expiry::Never => Ok(Some(NEVER)),
            Expiry::Kept => Ok(None),
            Expiry::At { index, in_seconds, is_absolute } => {
                end_of(call, index, in_seconds, is_absolute).map(Some)
            }
        }
    }
}

/// A time to live or a time of end, as milliseconds since 1970.
fn end_of(call: &Call<'_>, index: usize, in_seconds: bool, is_absolute: bool) -> Result<u64> {
    let time = call.integer(index)?;
    let ms = if in_seconds { time.checked_mul(1000) } else { Some(time) };
    let base = if is_absolute { 0 } else { i64::try_from(call.now_ms).unwrap_or(i64::MAX) };
    let end = ms.filter(|ms| *ms > 0).and_then(|ms| ms.checked_add(base));
    end.and_then(|end| u64::try_from(end).ok()).ok_or(Failure::ExpireTime)
}

pub(super) fn set(call: &Call<'_>, out: &mut Output) -> Result {
    if call.len() == 3 {
        let value = call.value(2)?;
        call.at(1, |place, epoch| Ok(place.put(value, NEVER, epoch)?))?;
        out.ok();
        return Ok(());
    }
    let options = SetOptions::of(call, 3, true)?;
    let expires_at = options.expires_at(call)?;
    let value = call.value(2)?;
    call.at(1, |place, epoch| {
        if options.answers_old {
            put_found(out, place)?;
        }
        let is_there = place.found().is_some();
        if (options.if_absent && is_there) || (options.if_present && !is_there) {
            if !options.answers_old {
                out.null();
            }
            return Ok(());
        }
        let expires_at = match expires_at {
            Some(at) => at,
            None => place.found().map_or(NEVER, |found| found.expires_at),
        };
        place.put(value, expires_at, epoch)?;
        if !options.answers_old {
            out.ok();
        }
        Ok(())
    })
}

pub(super) fn setnx(call: &Call<'_>, out: &mut Output) -> Result {
    let value = call.value(2)?;
    call.at(1, |place, epoch| {
        let is_there = place.found().is_some();
        if !is_there {
            place.put(value, NEVER, epoch)?;
        }
        out.integer(i64::from(!is_there));
        Ok(())
    })
}

/// SETEX and PSETEX.
pub(super) fn setex(call: &Call<'_>, out: &mut Output, in_seconds: bool) -> Result {
    let expires_at = end_of(call, 2, in_seconds, false)?;
    let value = call.value(3)?;
    call.at(1, |place, epoch| {
        place.put(value, expires_at, epoch)?;
        out.ok();
        Ok(())
    })
}

pub(super) fn getex(call: &Call<'_>, out: &mut Output) -> Result {
    let options = SetOptions::of(call, 2, false)?;
    call.at(1, |place, epoch| {
        let Some(found) = place.found() else {
            out.null();
            return Ok(());
        };
        let stored = value_of(&found)?;
        let expires_at = match options.expiry {
            Expiry::At { .. } => options.expires_at(call)?,
            Expiry::Never | Expiry::Kept => options.persists.then_some(NEVER),
        };
        put_stored(out, stored);
        match expires_at {
            Some(at) if at != NEVER && at <= call.now_ms => {
                place.remove(epoch)?;
            }
            Some(at) => {
                place.set_expires_at(at, epoch)?;
            }
            None => {}
        }
        Ok(())
    })
}

pub(super) fn mget(call: &Call<'_>, out: &mut Output) -> Result {
    let count = call.len() - 1;
    call.at_all(|places, _| {
        if count > UNPAID_VALUES_MAX {
            let bytes = (0..count).map(|index| match places.at(index).found().map(|f| f.content) {
                Some(Contents::Value(stored)) => copied_bytes(stored),
                Some(Contents::Queue(_) | Contents::Cold(_)) | None => 0,
            });
            out.pay(call.node.keyspace.memory().reserve(bytes.sum())?);
        }
        out.array(count);
        for index in 0..count {
            let place = places.at(index);
            match place.found().map(|found| value_of(&found)) {
                Some(Ok(stored)) => put_stored(out, stored),
                Some(Err(_)) | None => out.null(),
            }
        }
        Ok(())
    })
}

/// MSET and MSETNX. There must be room for all values before the first is written; only where
/// other connections take that room meanwhile, some are written and some are not.
pub(super) fn mset(call: &Call<'_>, out: &mut Output, if_absent: bool) -> Result {
    if call.len().is_multiple_of(2) {
        return Err(Failure::WrongArity);
    }
    let count = (call.len() - 1) / 2;
    let mut values = Vec::with_capacity(count);
    for index in 0..count {
        values.push(call.value(2 + 2 * index)?);
    }
    call.at_all(|places, epoch| {
        if if_absent && (0..count).any(|index| places.at(index).found().is_some()) {
            out.integer(0);
            return Ok(());
        }
        let small = |value: &Value<'_>| match value {
            Value::Small { bytes, .. } => bytes.len() as u64,
            Value::Large(_) => 0,
        };
        drop(call.node.keyspace.memory().reserve(values.iter().map(small).sum())?);
        for (index, value) in values.into_iter().enumerate() {
            places.at(index).put(value, NEVER, epoch)?;
        }
        if if_absent {
            out.integer(1)
        } else {
            out.ok()
        }
        Ok(())
    })
}

/// GETRANGE and SUBSTR.
pub(super) fn getrange(call: &Call<'_>, out: &mut Output) -> Result {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    call.at(1, |place, _| {
        let Some(found) = place.found() else {
            out.bulk(b"");
            return Ok(());
        };
        let stored = value_of(&found)?;
        let Some((from, to)) = range(start, end, stored.len()) else {
            out.bulk(b"");
            return Ok(());
        };
        match stored {
            Stored::Small { bytes, .. } => out.bulk(&bytes[from..to]),
            Stored::Large(large) => out.bulk_shared(&large.bytes().slice(from..to)),
        }
        Ok(())
    })
}

/// Redis's inclusive range with negative numbers from the end, as a range of indexes.
pub(super) fn range(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let whole = i64::try_from(len).ok()?;
    if start < 0 && end < 0 && start > end {
        return None;
    }
    // A negative one beyond the beginning is the beginning, be it the start or the end.
    let absolute = |at: i64| if at < 0 { at.saturating_add(whole).max(0) } else { at };
    let (start, end) = (absolute(start), absolute(end).min(whole - 1));
    if start > end || whole == 0 {
        return None;
    }
    Some((usize::try_from(start).ok()?, usize::try_from(end).ok()? + 1))
}

pub(super) fn strlen(call: &Call<'_>, out: &mut Output) -> Result {
    call.at(1, |place, _| {
        let len = match place.found() {
            Some(found) => value_of(&found)?.len(),
            None => 0,
        };
        out.count(len as u64);
        Ok(())
    })
}

pub(super) fn append(call: &Call<'_>, out: &mut Output) -> Result {
    let more = call.arg(2);
    let len = write_over(call, |old| {
        if old > 0 && old + more.len() > ARGUMENT_BYTES_MAX {
            return Err(TOO_LONG);
        }
        Ok(Some((old, more)))
    })?;
    out.count(len as u64);
    Ok(())
}

pub(super) fn setrange(call: &Call<'_>, out: &mut Output) -> Result {
    let Ok(offset) = usize::try_from(call.integer(2)?) else {
        return Err(Failure::Text("ERR offset is out of range"));
    };
    let patch = call.arg(3);
    let len = write_over(call, |_| {
        if patch.is_empty() {
            return Ok(None);
        }
        if offset.checked_add(patch.len()).is_none_or(|end| end > ARGUMENT_BYTES_MAX) {
            return Err(TOO_LONG);
        }
        Ok(Some((offset, patch)))
    })?;
    out.count(len as u64);
    Ok(())
}

/// What was there when the lock was let go, to make a large value of.
struct Before {
    version: Option<Version>,
    bytes: Bytes,
    offset: usize,
}

/// Makes a new value of the one that is there, with a patch written over it where `at` says when
/// it is told the length; `None` leaves it. Returns the new length.
///
/// A small one is made under the lock. A large one is made without it, since memory for it may
/// have to be found in other shards, and made again if another write came between.
fn write_over<'p>(
    call: &Call<'p>,
    at: impl Fn(usize) -> Result<Option<(usize, &'p [u8])>>,
) -> Result<usize> {
    loop {
        let before = call.at(1, |place, epoch| {
            let (old, version, expires_at) = match place.found() {
                Some(found) => (value_of(&found)?, Some(found.version), found.expires_at),
                None => (Stored::Small { bytes: &[], crc: 0 }, None, NEVER),
            };
            let Some((offset, patch)) = at(old.len())? else { return Ok(Ok(old.len())) };
            let len = old.len().max(offset + patch.len());
            if len > SMALL_BYTES_MAX {
                return Ok(Err(Before { version, bytes: old.to_bytes(), offset }));
            }
            let mut new = vec![0; len];
            patch_into(&mut new, old.bytes(), offset, patch);
            place.put(Value::small(&new), expires_at, epoch)?;
            Ok(Ok(len))
        })?;
        let Before { version, bytes, offset } = match before {
            Ok(len) => return Ok(len),
            Err(before) => before,
        };
        let Some((_, patch)) = at(bytes.len())? else { return Ok(bytes.len()) };
        let len = bytes.len().max(offset + patch.len());
        let mut filling = call.node.keyspace.filling(len)?;
        patch_into(filling.bytes_mut(), &bytes, offset, patch);
        let value = Value::Large(filling.finish_summed());
        let is_done = call.at(1, |place, epoch| {
            let now = place.found().map(|found| (found.version, found.expires_at));
            if now.map(|(version, _)| version) != version {
                return Ok(false);
            }
            place.put(value, now.map_or(NEVER, |(_, expires_at)| expires_at), epoch)?;
            Ok(true)
        })?;
        if is_done {
            return Ok(len);
        }
    }
}

/// Fills memory that may hold anything.
fn patch_into(new: &mut [u8], old: &[u8], offset: usize, patch: &[u8]) {
    new[..old.len()].copy_from_slice(old);
    if offset > old.len() {
        new[old.len()..offset].fill(0);
    }
    new[offset..offset + patch.len()].copy_from_slice(patch);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_redis() {
        assert_eq!(range(0, -1, 5), Some((0, 5)));
        assert_eq!(range(-3, -1, 5), Some((2, 5)));
        assert_eq!(range(1, 0, 5), None);
        assert_eq!(range(-1, -3, 5), None);
        assert_eq!(range(0, 100, 5), Some((0, 5)));
        assert_eq!(range(5, 9, 5), None);
        assert_eq!(range(-100, -99, 5), Some((0, 1)));
        assert_eq!(range(0, 0, 0), None);
        assert_eq!(range(i64::MIN, i64::MAX, 3), Some((0, 3)));
    }
}
