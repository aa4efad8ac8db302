//! Listing names with a prefix, a page at a time.
//!
//! Owns the cursor: (slot, hash), the last name returned. Invariant: a name that is there for the
//! whole of a scan is returned exactly once, whatever happens to others meanwhile.

use std::hash::BuildHasher;

use crate::key::{Key, SLOTS};
use crate::server::keyspace::Keyspace;
use crate::server::keyspace::shard::{Object, SLOTS_PER_SHARD};
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
        now_ms: u64,
    ) -> Page {
        let mut page = Page { items: Vec::new(), next: (SLOTS, 0) };
        let mut looked_at = 0;
        let first = usize::from(cursor.0 / SLOTS_PER_SHARD);
        for (number, shard) in self.shards.iter().enumerate().skip(first) {
            let shard = shard.lock();
            looked_at += shard.objects.len();
            let mut found: Vec<((u16, u64), &Key, &Object)> = shard
                .objects
                .iter()
                .filter(|(key, object)| {
                    key.as_bytes().starts_with(prefix) && !object.expired(now_ms)
                })
                .map(|(key, object)| (self.order(key), key, object))
                .filter(|(place, ..)| *place >= cursor)
                .collect();
            // Beyond the page and the name after it the order does not matter.
            let wanted = limit as usize - page.items.len().min(limit as usize) + 1;
            let mut beyond = None;
            if found.len() > wanted {
                found.select_nth_unstable_by_key(wanted, |(place, ..)| *place);
                let last = found[wanted].0;
                beyond = found.iter().map(|(place, ..)| *place).filter(|place| *place > last).min();
                found.retain(|(place, ..)| *place <= last);
            }
            found.sort_unstable_by_key(|(place, ..)| *place);
            for (place, key, object) in found {
                if page.items.len() >= limit as usize && place != page.next {
                    page.next = place;
                    return page;
                }
                page.next = place;
                let found = object.found();
                page.items.push(PageItem {
                    key: key.clone(),
                    version: found.version,
                    size: found.size(),
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

    fn order(&self, key: &Key) -> (u16, u64) {
        (key.slot().number(), self.hasher.hash_one(key))
    }
}
