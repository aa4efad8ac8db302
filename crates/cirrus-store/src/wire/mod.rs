//! The native protocol: hello, frames and the typed requests and replies in them.
//!
//! Owns the layout of every byte (docs/wire.md draws it; golden files freeze it). Plain functions
//! over buffers: no socket, no clock. Invariant: no bytes of a peer can make a decoder panic or
//! allocate more than the limit that was checked before.

mod batch;
mod body;
mod departure;
mod fault;
mod head;
mod hello;
mod page;
mod part;
mod reply;
mod request;
mod status;

pub(crate) use departure::put_unpins;
pub use fault::Fault;
pub use head::{BODY_BYTES_MAX, FRAME_HEAD_BYTES, Head, HeadLimits};
pub(crate) use head::{FixedHead, keys_ahead};
pub use hello::{
    ClientHello, FEATURES, Limits, MAGIC, SERVER_HELLO_BYTES, SHARED_MEMORY, ServerHello,
    TOKEN_BYTES_MAX, VERSION,
};
pub use page::{Page, PageItem};
pub use part::{Part, encode_frame};
pub use reply::Reply;
pub(crate) use reply::WholeValue;
pub use request::{Condition, Delivery, Request, Write};
pub use status::Status;

/// The longest value: 1 GiB.
pub const VALUE_BYTES_MAX: u32 = 1 << 30;

/// The largest payload of a batch of requests, framing included. A larger value travels alone.
pub const BATCH_BYTES_MAX: u32 = 4 << 20;

/// The most requests in one batch.
pub const BATCH_ITEMS_MAX: u32 = 16_384;

/// The most names in one page of a scan.
pub const SCAN_ITEMS_MAX: u32 = 16_384;

/// The most values that one request lets go of.
pub const UNPINS_MAX: usize = 1024;

/// The largest payload of a step of a table: rows, gradients and the rows that are wanted.
pub const STEP_BYTES_MAX: u32 = 64 << 20;

/// The largest payload of a call to a table.
pub const CALL_BYTES_MAX: u32 = 64 << 10;

/// Stands for a time that never comes: the object does not expire.
pub const NEVER: u64 = 0;

/// In place of the time of a last write, from a node that does not say it.
pub(crate) const UNSAID: u64 = 0;
