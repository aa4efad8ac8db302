//! RESP against a real redis-server, with real clients, and beside the native protocol.

pub(crate) mod client;
mod clients;
mod differential;
mod limits;
mod lists;
mod native;
