//! How a get is answered: whole or in part, by copy, by reference or by place.

use crate::error::Kind;
use crate::server::keyspace::{Contents, Found, Seen, Stored, Turn};
use crate::server::node::{Node, index, unix_ms};
use crate::wire::{Delivery, Fault, Reply, Request, WholeValue};

impl Node {
    /// Answers a get. A small value that is wanted whole is handed to `copy`, with its shard
    /// locked; anything else is returned.
    pub(in crate::server) fn get_to(
        &self,
        request: Request,
        seen: &Seen,
        copy: impl FnOnce(WholeValue<'_>),
    ) -> Option<Reply> {
        self.count();
        match self.get(request, u32::MAX, Turn::new(unix_ms(), seen), Some(copy)) {
            Ok(reply) => reply,
            Err(fault) => Some(fault.into()),
        }
    }

    /// `None` means that the value was handed to `copy`.
    pub(super) fn get<C: FnOnce(WholeValue<'_>)>(
        &self,
        request: Request,
        room: u32,
        turn: Turn<'_>,
        copy: Option<C>,
    ) -> Result<Option<Reply>, Fault> {
        let Request::Get { key, offset, len, newer_than, inline_bytes_max, delivery } = request
        else {
            return Err(Kind::Protocol.into());
        };
        let (reply, range) = self.keyspace.at(&key, turn, |place| {
            place.held()?;
            place.warm()?;
            let found = place.found().ok_or(Kind::NotFound)?;
            let Found { version, expires_at, modified_at, .. } = found;
            let stored = match found.content {
                Contents::Value(stored) => stored,
                Contents::Queue(_) => return Err(Fault::from(Kind::WrongType)),
                Contents::Cold(_) => return Err(Kind::Busy.into()),
            };
            if newer_than >= version {
                return Ok((Some(Reply::NotModified { version }), 0..0));
            }
            let size = stored.len() as u64;
            let from = offset.min(size);
            let to = offset.saturating_add(len).min(size).max(from);
            // Whoever sends the answer defers a large value that cannot go by its place.
            let may_be_placed = delivery != Delivery::Inline && matches!(stored, Stored::Large(_));
            if !may_be_placed && to - from > u64::from(inline_bytes_max.min(room)) {
                return Ok((Some(Reply::Deferred { version, size }), 0..0));
            }
            if let (Stored::Small { bytes: value, crc }, Some(copy)) = (stored, copy)
                && (from, to) == (0, size)
            {
                copy(WholeValue { version, expires_at, modified_at, value, crc });
                return Ok((None, 0..0));
            }
            let (value, sums) = (stored.to_bytes(), stored.to_sums());
            let offset = from;
            let whole =
                Reply::Value { version, size, offset, expires_at, modified_at, value, sums };
            Ok((Some(whole), index(from)..index(to)))
        })?;
        match reply {
            Some(Reply::Value { version, size, offset, expires_at, modified_at, value, sums })
                if range.len() != value.len() =>
            {
                // Cut, and its edges summed, after the lock was released.
                let slice = sums.slice(&value, range.start, range.len());
                let sums = slice.map_err(|error| Fault::from(&error))?;
                let value = value.slice(range);
                let cut =
                    Reply::Value { version, size, offset, expires_at, modified_at, value, sums };
                Ok(Some(cut))
            }
            reply => Ok(reply),
        }
    }
}
