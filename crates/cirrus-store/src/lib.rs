//! How bytes get from one machine's memory to another's.
//!
//! Objects have a key, a value and a version ([`Key`], [`Version`]); nodes hold them, clients put
//! and get them, a cache and iterators sit in front. ARCHITECTURE.md has the table of which module
//! may use which; a test keeps it true.

mod checksum;
mod error;
mod key;
mod object;
mod token;
pub mod transport;
pub mod view;
pub mod wire;

pub mod cache;
pub mod client;
pub mod iter;
#[cfg(feature = "object-store")]
pub mod objects;
pub mod rule;
pub mod segments;
pub mod server;
pub mod set;
pub mod table;

pub use checksum::{BLOCK_BYTES, Sums, checksum_of};
pub use cirrus_units::ByteSize;
pub use client::{BlockingClient, Client, ClientOptions, Condition, PutOptions};
pub use error::{Error, Kind, Result};
pub use key::{KEY_BYTES_MAX, Key, SLOTS, Slot, Version};
pub use object::{Object, Stat};
pub use token::Token;
