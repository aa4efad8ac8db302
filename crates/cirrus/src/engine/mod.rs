//! Where tasks run. Each engine is a file here.
//!
//! Owns nothing itself. An engine places, starts, restarts and stops processes; it may not know
//! what they do. Invariant: when an engine returns, none of its processes is left.

pub(crate) mod local;
