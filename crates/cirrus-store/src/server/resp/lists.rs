//! Commands on lists, as far as queues need them.

use std::sync::Arc;

use futures_util::future::select_all;
use tokio::sync::oneshot;

use crate::key::{Key, KeyRef};
use crate::server::keyspace::{Contents, End, Found, Place, Queue, Seen};
use crate::server::node::{Node, unix_ms};
use crate::server::resp::blocking::{Served, Ticket};
use crate::server::resp::call::{BUSY, Call, Failure, Result, WRONG_TYPE};
use crate::server::resp::long_double::LongDouble;
use crate::server::resp::reply::Output;
use crate::server::resp::strings::{UNPAID_VALUES_MAX, copied_bytes, put_stored};

fn queue_of<'a>(found: &Found<'a>) -> Result<&'a Queue> {
    match found.content {
        Contents::Queue(queue) => Ok(queue),
        Contents::Value(_) => Err(WRONG_TYPE),
        Contents::Cold(_) => Err(BUSY),
    }
}

/// LPUSH, RPUSH, LPUSHX and RPUSHX: all items or none.
pub(super) fn push(call: &Call<'_>, out: &mut Output, end: End, if_present: bool) -> Result {
    // Before the lock is taken, as memory for large ones may have to be found in other shards.
    let first = call.value(2)?;
    let rest = (3..call.len()).map(|index| call.value(index)).collect::<Result<Vec<_>>>()?;
    call.at(1, |place, epoch| {
        let is_there = match place.found() {
            Some(found) => queue_of(&found).map(|_| true)?,
            None => false,
        };
        if if_present && !is_there {
            out.integer(0);
            return Ok(());
        }
        let mut items = 0;
        for (pushed, item) in std::iter::once(first).chain(rest).enumerate() {
            match place.queue_push(end, item, epoch) {
                Ok((_, count)) => items = count,
                Err(fault) => {
                    for _ in 0..pushed {
                        place.queue_pop(end, epoch)?;
                    }
                    return Err(fault.into());
                }
            }
        }
        out.count(items);
        serve(call.node, call.arg(1), place, epoch);
        Ok(())
    })
}

fn serve(node: &Node, key: &[u8], place: &mut Place<'_>, epoch: u32) {
    node.resp.lines.serve(key, place, node.keyspace.memory(), epoch);
}

/// LPOP and RPOP.
pub(super) fn pop(call: &Call<'_>, out: &mut Output, end: End) -> Result {
    if call.len() > 3 {
        return Err(Failure::WrongArity);
    }
    let count = if call.len() == 3 {
        let count = call.integer(2).ok().and_then(|count| u64::try_from(count).ok());
        Some(count.ok_or(Failure::Text("ERR value is out of range, must be positive"))?)
    } else {
        None
    };
    call.at(1, |place, epoch| {
        serve(call.node, call.arg(1), place, epoch);
        let len = match place.found() {
            Some(found) => queue_of(&found)?.len(),
            None => {
                if count.is_some() {
                    out.null_array()
                } else {
                    out.null()
                }
                return Ok(());
            }
        };
        let taken = match count {
            Some(count) => {
                let taken = usize::try_from(count).unwrap_or(usize::MAX).min(len);
                out.array(taken);
                taken
            }
            None => 1,
        };
        for _ in 0..taken {
            if let Some(popped) = place.queue_pop(end, epoch)? {
                put_stored(out, popped.item.stored());
            }
        }
        Ok(())
    })
}

pub(super) fn len(call: &Call<'_>, out: &mut Output) -> Result {
    call.at(1, |place, _| {
        let len = match place.found() {
            Some(found) => queue_of(&found)?.len(),
            None => 0,
        };
        out.count(len as u64);
        Ok(())
    })
}

pub(super) fn range(call: &Call<'_>, out: &mut Output) -> Result {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    call.at(1, |place, _| {
        let Some(found) = place.found() else {
            out.array(0);
            return Ok(());
        };
        let queue = queue_of(&found)?;
        let len = i64::try_from(queue.len()).unwrap_or(i64::MAX);
        let absolute = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
        let (start, end) = (absolute(start).max(0), absolute(end).min(len - 1));
        if start > end {
            out.array(0);
            return Ok(());
        }
        let index = |at: i64| usize::try_from(at).expect("inside the list");
        let (start, end) = (index(start), index(end));
        if end - start >= UNPAID_VALUES_MAX {
            let items = (start..=end).filter_map(|at| queue.get(at));
            let bytes = items.map(copied_bytes).sum();
            out.pay(call.node.keyspace.memory().reserve(bytes)?);
        }
        out.array(end - start + 1);
        for item in (start..=end).filter_map(|at| queue.get(at)) {
            put_stored(out, item);
        }
        Ok(())
    })
}

pub(super) fn index(call: &Call<'_>, out: &mut Output) -> Result {
    call.at(1, |place, _| {
        let Some(found) = place.found() else {
            out.null();
            return Ok(());
        };
        let queue = queue_of(&found)?;
        let at = call.integer(2)?;
        let from_end = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
        let at = if at < 0 { queue.len().checked_sub(from_end) } else { Some(from_end) };
        match at.and_then(|at| queue.get(at)) {
            Some(item) => put_stored(out, item),
            None => out.null(),
        }
        Ok(())
    })
}

/// BLPOP and BRPOP: answered at once, or how to wait.
pub(super) fn blocking_pop(call: &Call<'_>, out: &mut Output, end: End) -> Result<Option<Wait>> {
    let timeout_ms = timeout(call.arg(call.len() - 1))?;
    let count = call.len() - 2;
    call.at_all(|places, epoch| {
        for index in 0..count {
            let (key, mut place) = (call.arg(index + 1), places.at(index));
            serve(call.node, key, &mut place, epoch);
            let Some(found) = place.found() else { continue };
            queue_of(&found)?;
            if let Some(popped) = place.queue_pop(end, epoch)? {
                out.array(2);
                out.bulk(key);
                put_stored(out, popped.item.stored());
                return Ok(None);
            }
        }
        let signals = (0..count).map(|index| places.at(index).signal()).collect();
        let keys: Vec<Key> =
            (1..=count).filter_map(|index| Some(call.key(index).ok()?.to_key())).collect();
        let ticket = Ticket::new(end);
        call.node.resp.lines.join(&keys, &ticket);
        let deadline_ms = (timeout_ms > 0).then(|| call.now_ms.saturating_add(timeout_ms));
        Ok(Some(Wait { keys, signals, ticket, deadline_ms }))
    })
}

/// Seconds with a fraction, as milliseconds; 0 is for ever.
fn timeout(text: &[u8]) -> Result<u64> {
    let Some(seconds) = LongDouble::parse(text) else {
        return Err(Failure::Text("ERR timeout is not a float or out of range"));
    };
    // Redis's conversion makes a negative number of one that is too large.
    let ms = seconds.to_ms().and_then(|ms| u64::try_from(ms).ok());
    ms.ok_or(Failure::Text("ERR timeout is negative"))
}

/// A client's stay in the lines of its keys.
#[derive(Debug)]
pub(super) struct Wait {
    keys: Vec<Key>,
    /// One for each key: something was put or pushed there by any protocol.
    signals: Vec<oneshot::Receiver<()>>,
    ticket: Arc<Ticket>,
    /// When it ends, in Unix time.
    pub(super) deadline_ms: Option<u64>,
}

impl Wait {
    /// Returns when an item came, or this node holds one of the keys no more. Dropping the future
    /// loses nothing: the ticket stays in its lines until [`Wait::end`].
    pub(super) async fn until_served(&mut self, node: &Node) -> Result {
        loop {
            if self.ticket.is_served() {
                return Ok(());
            }
            let index = tokio::select! {
                () = self.ticket.served.notified() => continue,
                // A signal that was dropped says as much as one that came: look again.
                (_, index, _) = select_all(&mut self.signals) => index,
            };
            let key = KeyRef::from(&self.keys[index]);
            let signal = node.keyspace.at(key, unix_ms(), |place| {
                let epoch = place.held().map_err(|_| Failure::Moved(key.slot()))?;
                serve(node, key.bytes(), place, epoch);
                Ok::<_, Failure>(place.signal())
            })?;
            self.signals[index] = signal;
        }
    }

    /// Leaves the lines, with what has come; the reply must wait for `seen`.
    pub(super) fn end(self, node: &Node, seen: &Seen) -> Option<Served> {
        let served = self.leave(node)?;
        if node.has_disk() {
            node.keyspace.at(&served.key, unix_ms(), |_| ());
            seen.see(served.position());
        }
        Some(served)
    }

    fn leave(self, node: &Node) -> Option<Served> {
        let served = self.ticket.leave();
        node.resp.lines.part(&self.keys, &self.ticket);
        served
    }

    /// Leaves without a reply: what has come goes back, and to the next in line.
    pub(super) fn abandon(self, node: &Node) {
        let Some(served) = self.leave(node) else { return };
        let key = served.key.clone();
        node.keyspace.at(&key, unix_ms(), |place| {
            let epoch = node.epoch();
            // A pop that was lost took nothing: the item is there again, or will be.
            if !node.is_lost(served.position()) {
                served.put_back(place, epoch);
            }
            serve(node, key.as_bytes(), place, epoch);
        });
    }
}

/// The reply to a wait.
pub(super) fn put_served(out: &mut Output, served: Option<Served>) {
    match served {
        Some(served) => {
            out.array(2);
            out.bulk(served.key.as_bytes());
            put_stored(out, served.item.stored());
        }
        None => out.null_array(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::sim::SimDisk;
    use crate::server::disk::tests::{key, lose_next, on, push, settle, size};

    /// Pops "item" for a client that waits, and waits until that is durable or lost.
    async fn served(node: &Node) -> Wait {
        let ticket = Ticket::new(End::Front);
        let keys = vec![key()];
        node.resp.lines.join(&keys, &ticket);
        node.keyspace.at(&key(), 0, |place| {
            serve(node, key().as_bytes(), place, node.epoch());
        });
        assert!(ticket.is_served());
        settle(node).await;
        Wait { keys, signals: Vec::new(), ticket, deadline_ms: None }
    }

    #[tokio::test]
    async fn an_item_of_a_client_that_left_is_back_once_even_if_its_pop_was_lost() {
        let disk = SimDisk::default();
        let node = on(&disk);
        push(&node, "item").await;
        served(&node).await.abandon(&node);
        assert_eq!(size(&node), 4, "it was popped, and goes back");
        settle(&node).await;
        lose_next(&disk);
        let wait = served(&node).await;
        node.keyspace.mend().unwrap();
        assert_eq!(size(&node), 4, "it was never popped");
        wait.abandon(&node);
        assert_eq!(size(&node), 4);
    }

    #[tokio::test]
    async fn the_reply_with_an_item_waits_for_its_pop() {
        let disk = SimDisk::default();
        let node = on(&disk);
        push(&node, "item").await;
        lose_next(&disk);
        let (wait, seen) = (served(&node).await, Seen::default());
        assert!(wait.end(&node, &seen).is_some());
        node.keyspace.mend().unwrap();
        assert!(node.is_lost(seen.take().expect("it waits")));
    }
}
