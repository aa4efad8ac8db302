//! What each native request does to its object.
//!
//! Owns conditions, integers and the bounds of queues. Knows nothing of sessions, views or sockets.
//! Invariant: an answer other than a failure means that the place has changed as it says.

use crate::error::Kind;
use crate::key::Version;
use crate::server::keyspace::{Contents, End, Found, Place, Stored, Value};
use crate::wire::{Condition, Fault, NEVER, Reply};

pub(super) fn stat(found: &Found<'_>) -> Reply {
    Reply::Stat {
        version: found.version,
        size: found.size(),
        expires_at: found.expires_at,
        modified_at: found.modified_at,
        queue: found.is_queue(),
    }
}

pub(super) fn check(place: &Place<'_>, condition: Condition) -> Result<(), Fault> {
    check_version(place.found().map_or(Version(0), |found| found.version), condition)
}

/// `version` is 0 where there is no object.
pub(super) fn check_version(version: Version, condition: Condition) -> Result<(), Fault> {
    match condition {
        Condition::Always => Ok(()),
        Condition::IfAbsent if version == Version(0) => Ok(()),
        Condition::IfVersion(wanted) if version == wanted => Ok(()),
        Condition::IfAbsent | Condition::IfVersion(_) => {
            Err(Fault { kind: Kind::WrongVersion, detail: version.0 })
        }
    }
}

/// Adds to an integer, whose end stays.
pub(super) fn add(place: &mut Place<'_>, delta: i64, epoch: u32) -> Result<Reply, Fault> {
    place.warm()?;
    let (before, expires_at) = match place.found() {
        Some(Found { content: Contents::Value(stored), expires_at, .. }) => {
            let text = std::str::from_utf8(stored.bytes()).map_err(|_| Kind::WrongType)?;
            (text.parse::<i64>().map_err(|_| Kind::WrongType)?, expires_at)
        }
        Some(_) => return Err(Kind::WrongType.into()),
        None => (0, NEVER),
    };
    let value = before.checked_add(delta).ok_or(Kind::TooLarge)?;
    let version = place.put(Value::small(value.to_string().as_bytes()), expires_at, epoch)?;
    Ok(Reply::Added { version, value })
}

pub(super) fn push(
    place: &mut Place<'_>,
    item: Value<'_>,
    bytes_max: u64,
    epoch: u32,
) -> Result<Reply, Fault> {
    place.warm()?;
    let before = match place.found() {
        Some(Found { content: Contents::Queue(queue), .. }) => queue.bytes(),
        Some(_) => return Err(Kind::WrongType.into()),
        None => 0,
    };
    // An empty queue takes any one item, so that no bound can make a push wait for ever.
    if before > 0 && before.saturating_add(item.len() as u64) > bytes_max {
        return Err(Fault { kind: Kind::Busy, detail: before });
    }
    let (version, items) = place.queue_push(End::Back, item, epoch)?;
    Ok(Reply::Pushed { version, items })
}

/// Takes the first item; [`Kind::Busy`] when it has more bytes than `inline_bytes_max`.
pub(super) fn pop(
    place: &mut Place<'_>,
    inline_bytes_max: u32,
    epoch: u32,
) -> Result<Reply, Fault> {
    place.warm()?;
    if let Some(Found { content: Contents::Queue(queue), .. }) = place.found() {
        let is_too_long = |item: Stored<'_>| item.len() > inline_bytes_max as usize;
        if queue.get(0).is_some_and(is_too_long) {
            return Err(Kind::Busy.into());
        }
    }
    let popped = place.queue_pop(End::Front, epoch)?.ok_or(Kind::NotFound)?;
    let (value, sums) = popped.item.into_parts();
    Ok(Reply::Popped { version: popped.version, items: popped.items, value, sums })
}
