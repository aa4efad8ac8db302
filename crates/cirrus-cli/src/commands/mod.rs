//! Commands, one file each.

pub(crate) mod catalog;
pub(crate) mod objects;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod serve;
pub(crate) mod store;
pub(crate) mod trace;
