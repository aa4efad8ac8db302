//! Commands on names, whatever the objects are.

use std::hash::{BuildHasher, RandomState};

use crate::key::{Key, SLOTS};
use crate::server::keyspace::{Contents, Stored, Value};
use crate::server::resp::call::{Call, Failure, Result, SYNTAX, value_of};
use crate::server::resp::glob;
use crate::server::resp::number::{Decimal, parse_integer};
use crate::server::resp::reply::Output;
use crate::wire::{Page, PageItem};

/// Names of one page of a listing.
const PAGE_NAMES: u32 = 1024;

/// What a name costs while KEYS collects it, beside its bytes.
const NAME_OVERHEAD_BYTES: u64 = 64;

/// Bits of a name's hash in a cursor; 14 more are its slot, and one is left.
const CURSOR_HASH_BITS: u32 = 49;

/// DEL and UNLINK.
pub(super) fn del(call: &Call<'_>, out: &mut Output) -> Result {
    if call.len() == 2 {
        let removed = call.at(1, |place, epoch| Ok(place.remove(epoch)?.is_some()))?;
        out.integer(i64::from(removed));
        return Ok(());
    }
    let count = call.len() - 1;
    let removed = call.at_all(|places, epoch| {
        let mut removed = 0_u64;
        for index in 0..count {
            removed += u64::from(places.at(index).remove(epoch)?.is_some());
        }
        Ok(removed)
    })?;
    out.count(removed);
    Ok(())
}

/// EXISTS and TOUCH: a name that stands twice counts twice.
pub(super) fn exists(call: &Call<'_>, out: &mut Output) -> Result {
    let count = call.len() - 1;
    let found = call.at_all(|places, _| {
        Ok((0..count).filter(|index| places.at(*index).found().is_some()).count())
    })?;
    out.count(found as u64);
    Ok(())
}

pub(super) fn kind(call: &Call<'_>, out: &mut Output) -> Result {
    call.at(1, |place, _| {
        out.simple(match place.found().map(|found| found.is_queue()) {
            None => "none",
            Some(false) => "string",
            Some(true) => "list",
        });
        Ok(())
    })
}

/// RENAME and RENAMENX.
pub(super) fn rename(call: &Call<'_>, out: &mut Output, if_absent: bool) -> Result {
    call.at_all(|places, epoch| {
        let from = places.at(0);
        let Some(found) = from.found() else { return Err(Failure::Text("ERR no such key")) };
        if call.arg(1) == call.arg(2) {
            if if_absent {
                out.integer(0)
            } else {
                out.ok()
            }
            return Ok(());
        }
        if !found.is_queue() {
            value_of(&found)?;
        }
        let Contents::Value(stored) = found.content else {
            return Err(Failure::Text("ERR a list cannot be renamed here; see docs/resp.md"));
        };
        let expires_at = found.expires_at;
        let (copied, shared) = match stored {
            Stored::Small { bytes, .. } => (bytes.to_vec(), None),
            Stored::Large(large) => (Vec::new(), Some(large.clone())),
        };
        if if_absent && places.at(1).found().is_some() {
            out.integer(0);
            return Ok(());
        }
        let value = shared.map_or_else(|| Value::small(&copied), Value::Large);
        places.at(1).put(value, expires_at, epoch)?;
        places.at(0).remove(epoch)?;
        if if_absent {
            out.integer(1)
        } else {
            out.ok()
        }
        Ok(())
    })
}

pub(super) fn keys(call: &Call<'_>, out: &mut Output) -> Result {
    let pattern = call.arg(1);
    let mut names = Vec::new();
    // A listing of everything is as large as the names are: it is paid for.
    let memory = call.node.keyspace.memory();
    let mut paid = memory.nothing();
    let mut cursor = (0, 0);
    while cursor.0 < SLOTS {
        let page = call.node.keyspace.scan(b"", cursor, PAGE_NAMES, call.turn());
        let mut cost = 0;
        for item in page.items {
            if glob::matches(pattern, item.key.as_bytes()) {
                cost += 2 * item.key.as_bytes().len() as u64 + NAME_OVERHEAD_BYTES;
                names.push(item.key);
            }
        }
        paid.absorb(&mut memory.reserve(cost)?);
        cursor = page.next;
    }
    out.array(names.len());
    for name in names {
        out.bulk(name.as_bytes());
    }
    Ok(())
}

pub(super) fn randomkey(call: &Call<'_>, out: &mut Output) -> Result {
    // Every RandomState has keys of its own.
    let random = RandomState::new().hash_one(call.now_ms);
    let slot = u16::try_from(random % u64::from(SLOTS)).expect("below SLOTS");
    // From a place of the key space on, and if nothing comes from its beginning.
    for first in [(slot, random.rotate_left(32)), (0, 0)] {
        let mut cursor = first;
        while cursor.0 < SLOTS {
            let page = call.node.keyspace.scan(b"", cursor, 1, call.turn());
            if let Some(item) = page.items.first() {
                out.bulk(item.key.as_bytes());
                return Ok(());
            }
            cursor = page.next;
        }
    }
    out.null();
    Ok(())
}

pub(super) fn scan(call: &Call<'_>, out: &mut Output) -> Result {
    let cursor = parse_cursor(call.arg(1))?;
    let (mut pattern, mut count, mut kind) = (None, 10, None);
    let mut at = 2;
    while at < call.len() {
        if at + 1 >= call.len() {
            return Err(SYNTAX);
        }
        if call.is(at, "count") {
            count = call.integer(at + 1)?;
            if count < 1 {
                return Err(SYNTAX);
            }
        } else if call.is(at, "match") {
            pattern = Some(call.arg(at + 1));
        } else if call.is(at, "type") {
            kind = Some(call.arg(at + 1));
        } else {
            return Err(SYNTAX);
        }
        at += 2;
    }
    let count = u32::try_from(count).unwrap_or(u32::MAX).min(PAGE_NAMES);
    let Page { mut items, next } = match cursor {
        Some(cursor) => call.node.keyspace.scan(b"", cursor, count, call.turn()),
        None => Page { items: Vec::new(), next: (SLOTS, 0) },
    };
    items.retain(|item| {
        pattern.is_none_or(|pattern| glob::matches(pattern, item.key.as_bytes()))
            && kind.is_none_or(|kind| kind.eq_ignore_ascii_case(kind_of(item).as_bytes()))
    });
    out.array(2);
    out.bulk(Decimal::of_unsigned(cursor_text(next)).as_bytes());
    out.array(items.len());
    for item in items {
        out.bulk(item.key.as_bytes());
    }
    Ok(())
}

fn kind_of(item: &PageItem) -> &'static str {
    if item.queue { "list" } else { "string" }
}

/// A cursor as a number: 0 is the beginning and the end, so the rest is moved up by one.
fn cursor_text((slot, hash): (u16, u64)) -> u64 {
    if slot >= SLOTS {
        return 0;
    }
    (u64::from(slot) << CURSOR_HASH_BITS | hash >> (u64::BITS - CURSOR_HASH_BITS)) + 1
}

/// Where a cursor points; `None` beyond the end. The bits of the hash that it has not are zeros:
/// names with equal upper bits may come twice, as names may in Redis.
fn parse_cursor(text: &[u8]) -> Result<Option<(u16, u64)>> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if !all || digits.len() > 20 {
        return Err(Failure::Text("ERR invalid cursor"));
    }
    let trimmed =
        digits.iter().position(|digit| *digit != b'0').map_or(&digits[..0], |at| &digits[at..]);
    if trimmed.is_empty() {
        return Ok(Some((0, 0)));
    }
    let Some(number) = parse_integer(trimmed) else { return Ok(None) };
    let place = number.unsigned_abs() - 1;
    let slot = u16::try_from(place >> CURSOR_HASH_BITS).ok().filter(|slot| *slot < SLOTS);
    Ok(slot.map(|slot| (slot, place << (u64::BITS - CURSOR_HASH_BITS))))
}

/// MEMORY USAGE: what the object's bytes come to, with its key.
pub(super) fn memory_usage(call: &Call<'_>, out: &mut Output) -> Result {
    if call.len() > 3 {
        let is_samples = call.len() == 5 && call.is(3, "samples");
        if !is_samples || call.integer(4)? < 0 {
            return Err(SYNTAX);
        }
    }
    call.at(2, |place, _| {
        match place.found() {
            Some(found) => out.count(found.size() + call.arg(2).len() as u64),
            None => out.null(),
        }
        Ok(())
    })
}

/// Names in one slot, up to a limit.
pub(super) fn in_slot(call: &Call<'_>, slot: u16, limit: u64) -> Vec<Key> {
    let mut names = Vec::new();
    let mut cursor = (slot, 0);
    while cursor.0 == slot && (names.len() as u64) < limit {
        let page = call.node.keyspace.scan(b"", cursor, PAGE_NAMES, call.turn());
        let own = page.items.into_iter().map(|item| item.key);
        names.extend(own.filter(|key| key.slot().number() == slot));
        cursor = page.next;
    }
    names.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    names
}
