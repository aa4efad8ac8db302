//! Commands on values that are numbers.

use crate::server::keyspace::Value;
use crate::server::resp::call::{Call, Failure, NOT_INTEGER, Result, value_of};
use crate::server::resp::long_double::LongDouble;
use crate::server::resp::number::{Decimal, parse_integer};
use crate::server::resp::reply::Output;
use crate::wire::NEVER;

const NOT_FLOAT: Failure = Failure::Text("ERR value is not a valid float");

/// INCR, DECR, INCRBY, DECRBY.
pub(super) fn add(call: &Call<'_>, out: &mut Output, delta: i64) -> Result {
    call.at(1, |place, epoch| {
        let (before, expires_at) = match place.found() {
            Some(found) => {
                let stored = value_of(&found)?;
                (parse_integer(stored.bytes()).ok_or(NOT_INTEGER)?, found.expires_at)
            }
            None => (0, NEVER),
        };
        let Some(after) = before.checked_add(delta) else {
            return Err(Failure::Text("ERR increment or decrement would overflow"));
        };
        place.put(Value::small(Decimal::of(after).as_bytes()), expires_at, epoch)?;
        out.integer(after);
        Ok(())
    })
}

pub(super) fn decrby(call: &Call<'_>, out: &mut Output) -> Result {
    let Some(delta) = call.integer(2)?.checked_neg() else {
        return Err(Failure::Text("ERR decrement would overflow"));
    };
    add(call, out, delta)
}

pub(super) fn incrbyfloat(call: &Call<'_>, out: &mut Output) -> Result {
    call.at(1, |place, epoch| {
        let (before, expires_at) = match place.found() {
            Some(found) => {
                let text = value_of(&found)?.bytes();
                (LongDouble::parse(text).ok_or(NOT_FLOAT)?, found.expires_at)
            }
            None => (LongDouble::ZERO, NEVER),
        };
        let delta = LongDouble::parse(call.arg(2)).ok_or(NOT_FLOAT)?;
        let Some(after) = before.plus(delta).filter(|sum| sum.is_finite()) else {
            return Err(Failure::Text("ERR increment would produce NaN or Infinity"));
        };
        let text = after.to_text();
        place.put(Value::small(&text), expires_at, epoch)?;
        out.bulk(&text);
        Ok(())
    })
}
