//! Commands, one file each.

pub(crate) mod objects;
pub(crate) mod serve;
pub(crate) mod store;
