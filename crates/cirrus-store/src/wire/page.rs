//! One page of a scan's names.
//!
//! Owns [`Page`] and both directions between it and a frame's body and payload. Knows nothing of
//! where names come from. Invariant: a page that was read has whole names, each of a key's length.

use bytes::{Bytes, BytesMut};
use zerocopy::IntoBytes;

use crate::checksum::Sums;
use crate::error::{Error, Kind, Result};
use crate::key::{Key, Version};
use crate::wire::part::Part;
use crate::wire::reply::PAGE;
use crate::wire::{UNSAID, body};

/// One name in a page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageItem {
    /// The object.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// Bytes of its value, or of all items of a queue.
    pub size: u64,
    /// When it was last written, in Unix ms, or 0 where the node does not say.
    pub modified_at: u64,
    /// Whether it is a queue.
    pub queue: bool,
}

/// One page of a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The names found.
    pub items: Vec<PageItem>,
    /// Where to go on: a slot, and a hash within it. Slot 16384 means that there is no more.
    pub next: (u16, u64),
}

impl Page {
    pub(super) fn to_part(&self) -> Part {
        let mut payload = BytesMut::new();
        for item in &self.items {
            let fixed = body::PageItem {
                version: item.version.0.into(),
                size: item.size.into(),
                key_len: u16::try_from(item.key.as_bytes().len()).expect("keys are short").into(),
                kind: u16::from(item.queue).into(),
                reserved: 0.into(),
            };
            payload.extend_from_slice(fixed.as_bytes());
            payload.extend_from_slice(item.key.as_bytes());
        }
        // Behind all names, where readers that know nothing of it stop.
        if self.items.iter().any(|item| item.modified_at != UNSAID) {
            for item in &self.items {
                let modified = body::Modified { at: item.modified_at.into() };
                payload.extend_from_slice(modified.as_bytes());
            }
        }
        let payload = payload.freeze();
        let items = u32::try_from(self.items.len()).expect("pages are short");
        let fields = body::Page {
            hash: self.next.1.into(),
            slot: u32::from(self.next.0).into(),
            items: items.into(),
        };
        Part {
            opcode: PAGE,
            body: body::bytes(&fields),
            sums: Sums::of(0, &payload),
            payload,
            ..Part::default()
        }
    }

    pub(super) fn read(body: &[u8], mut rest: Bytes) -> Result<Self> {
        let malformed = || Error::new(Kind::Protocol, "a page that ends inside a name");
        let fields: body::Page = body::read(body)?;
        let count = fields.items.get();
        let mut items = Vec::new();
        for _ in 0..count {
            let fixed: body::PageItem = body::read(&rest).map_err(|_| malformed())?;
            let name = size_of::<body::PageItem>()..;
            let len = usize::from(fixed.key_len.get());
            let rest_len = rest.len() - name.start;
            if rest_len < len {
                return Err(malformed());
            }
            let _ = rest.split_to(name.start);
            items.push(PageItem {
                key: Key::new(rest.split_to(len))?,
                version: Version(fixed.version.get()),
                size: fixed.size.get(),
                modified_at: UNSAID,
                queue: fixed.kind.get() != 0,
            });
        }
        if !rest.is_empty() {
            for item in &mut items {
                let modified: body::Modified = body::read(&rest).map_err(|_| malformed())?;
                let _ = rest.split_to(size_of::<body::Modified>());
                item.modified_at = modified.at.get();
            }
        }
        let slot = u16::try_from(fields.slot.get()).map_err(|_| malformed())?;
        Ok(Self { items, next: (slot, fields.hash.get()) })
    }
}
