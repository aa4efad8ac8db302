//! Listing names with a prefix, a page at a time.
//!
//! Owns the cursor: (slot, hash), the last name returned. Invariant: a name that is there for the
//! whole of a scan is returned exactly once, whatever happens to others meanwhile.

use bytes::Bytes;

use crate::key::{Key, SLOTS, Slot};
use crate::server::keyspace::Keyspace;
use crate::server::keyspace::backing::Turn;
use crate::server::keyspace::record::View;
use crate::server::keyspace::shard::SLOTS_PER_SHARD;
use crate::wire::{Page, PageItem};

/// Objects looked at before a page is sent, full or not, so that others get their turn.
const LOOKED_AT_MAX: usize = 64 * 1024;

impl Keyspace {
    /// The names from `cursor` on, in the order of (slot, hash), at least `limit` unless they end
    /// or too many others lie between them; names of equal place come together.
    pub(in crate::server) fn scan(
        &self,
        prefix: &[u8],
        cursor: (u16, u64),
        limit: u32,
        turn: Turn<'_>,
    ) -> Page {
        let mut page = Page { items: Vec::new(), next: (SLOTS, 0) };
        let mut looked_at = 0;
        let first = usize::from(cursor.0 / SLOTS_PER_SHARD);
        for (number, shard) in self.shards.iter().enumerate().skip(first) {
            let mut shard = shard.lock();
            self.observe_all(&mut shard, turn);
            looked_at += shard.index.len();
            let mut found: Vec<((u16, u64), View<'_>)> = shard
                .index
                .iter()
                .map(|record| View::read(self.slabs.bytes(record)))
                .filter(|view| view.key.starts_with(prefix) && !view.has_expired(turn.now_ms))
                .map(|view| (self.order(view.key), view))
                .filter(|(place, _)| *place >= cursor)
                .collect();
            // Beyond the page and the name after it the order does not matter.
            let wanted = limit as usize - page.items.len().min(limit as usize) + 1;
            let mut beyond = None;
            if found.len() > wanted {
                found.select_nth_unstable_by_key(wanted, |(place, _)| *place);
                let last = found[wanted].0;
                beyond = found.iter().map(|(place, _)| *place).filter(|place| *place > last).min();
                found.retain(|(place, _)| *place <= last);
            }
            found.sort_unstable_by_key(|(place, _)| *place);
            for (place, view) in found {
                if page.items.len() >= limit as usize && place != page.next {
                    page.next = place;
                    return page;
                }
                page.next = place;
                let found = shard.found(view);
                // A key that was stored has a key's length.
                let Ok(key) = Key::new(Bytes::copy_from_slice(view.key)) else { continue };
                page.items.push(PageItem {
                    key,
                    version: found.version,
                    size: found.size(),
                    modified_at: found.modified_at,
                    queue: found.is_queue(),
                });
            }
            if let Some(beyond) = beyond {
                page.next = beyond;
                return page;
            }
            let next = u16::try_from(number + 1).unwrap_or(SLOTS).saturating_mul(SLOTS_PER_SHARD);
            page.next = (next.min(SLOTS), 0);
            if looked_at >= LOOKED_AT_MAX {
                return page;
            }
        }
        page.next = (SLOTS, 0);
        page
    }

    fn order(&self, key: &[u8]) -> (u16, u64) {
        (Slot::of(key).number(), self.hash(key))
    }
}
