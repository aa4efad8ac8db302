//! Commands on when objects end. A change of that is a change of the object: it gets a version.

use crate::server::resp::call::{Call, Failure, NOT_INTEGER, Result, made};
use crate::server::resp::number::parse_integer;
use crate::server::resp::reply::Output;
use crate::wire::NEVER;

/// What must hold of the end that there is.
#[derive(Debug, Default)]
struct Conditions {
    has_none: bool,
    has_one: bool,
    is_earlier: bool,
    is_later: bool,
}

impl Conditions {
    fn of(call: &Call<'_>) -> Result<Self> {
        let mut conditions = Self::default();
        for index in 3..call.len() {
            if call.is(index, "nx") {
                conditions.has_none = true;
            } else if call.is(index, "xx") {
                conditions.has_one = true;
            } else if call.is(index, "gt") {
                conditions.is_earlier = true;
            } else if call.is(index, "lt") {
                conditions.is_later = true;
            } else {
                let option = call.arg(index).split(|byte| *byte == 0).next().unwrap_or_default();
                return Err(Failure::Made([b"ERR Unsupported option ", option].concat()));
            }
        }
        let Self { has_none, has_one, is_earlier, is_later } = conditions;
        if has_none && (has_one || is_earlier || is_later) {
            let text = "NX and XX, GT or LT options at the same time are not compatible";
            return Err(made(format!("ERR {text}")));
        }
        if is_earlier && is_later {
            let text = "GT and LT options at the same time are not compatible";
            return Err(made(format!("ERR {text}")));
        }
        Ok(conditions)
    }

    /// Whether an object that ends at `now` may end at `then` instead. One that never ends does
    /// so later than any other.
    fn allow(&self, now: u64, then: i64) -> bool {
        let now = (now != NEVER).then(|| i64::try_from(now).unwrap_or(i64::MAX));
        !(self.has_none && now.is_some()
            || self.has_one && now.is_none()
            || self.is_earlier && now.is_none_or(|now| then <= now)
            || self.is_later && now.is_some_and(|now| then >= now))
    }
}

/// EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT.
pub(super) fn expire(
    call: &Call<'_>,
    out: &mut Output,
    in_seconds: bool,
    is_absolute: bool,
) -> Result {
    let conditions = Conditions::of(call)?;
    let time = parse_integer(call.arg(2)).ok_or(NOT_INTEGER)?;
    let base = if is_absolute { 0 } else { i64::try_from(call.now_ms).unwrap_or(i64::MAX) };
    let ms = if in_seconds { time.checked_mul(1000) } else { Some(time) };
    let then = ms.and_then(|ms| ms.checked_add(base)).ok_or(Failure::ExpireTime)?;
    call.at(1, |place, epoch| {
        let Some(now) = place.found().map(|found| found.expires_at) else {
            out.integer(0);
            return Ok(());
        };
        if !conditions.allow(now, then) {
            out.integer(0);
            return Ok(());
        }
        match u64::try_from(then) {
            Ok(at) if at > call.now_ms => {
                place.set_expires_at(at, epoch)?;
            }
            Ok(_) | Err(_) => {
                place.remove(epoch)?;
            }
        }
        out.integer(1);
        Ok(())
    })
}

/// TTL, PTTL, EXPIRETIME and PEXPIRETIME.
pub(super) fn ttl(
    call: &Call<'_>,
    out: &mut Output,
    in_seconds: bool,
    is_absolute: bool,
) -> Result {
    call.at(1, |place, _| {
        match place.found().map(|found| found.expires_at) {
            None => out.integer(-2),
            Some(NEVER) => out.integer(-1),
            Some(at) => {
                let ms = if is_absolute { at } else { at.saturating_sub(call.now_ms) };
                out.count(if in_seconds { ms.saturating_add(500) / 1000 } else { ms });
            }
        }
        Ok(())
    })
}

pub(super) fn persist(call: &Call<'_>, out: &mut Output) -> Result {
    call.at(1, |place, epoch| {
        let ends = place.found().is_some_and(|found| found.expires_at != NEVER);
        if ends {
            place.set_expires_at(NEVER, epoch)?;
        }
        out.integer(i64::from(ends));
        Ok(())
    })
}
