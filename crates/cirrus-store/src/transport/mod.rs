//! Streams of bytes between two processes, and frames on them.
//!
//! Owns the closed set of links ([`Link`]) and how frames enter and leave them. Knows nothing of
//! what requests mean. Invariant: a payload is read only into memory that its receiver has agreed
//! to give.

mod buffers;
mod limit;
mod link;
mod queue;
mod reader;
mod shm;
mod sim;
mod window;
mod writer;

pub(crate) use buffers::Buffers;
pub(crate) use limit::within;
pub(crate) use link::tune;
pub use link::{Endpoint, Incoming, Link, LinkReader, LinkWriter, Listener};
pub(crate) use queue::FrameQueue;
pub(crate) use reader::{FrameReader, read_at_most, read_more};
pub use shm::{ShmReader, ShmWriter};
pub(crate) use shm::{listen, neighbour};
pub use sim::{SimFaults, SimListener, SimNetwork, SimReader, SimWriter};
pub(crate) use window::{Mapper, Returns, Window, is_mapped};
pub(crate) use writer::FrameWriter;

/// Payloads up to this size are copied through a connection's own buffers: one read or write for
/// many of them. Larger ones get a buffer of their own and are never copied.
pub(crate) const COPIED_BYTES_MAX: usize = 16 * 1024;
