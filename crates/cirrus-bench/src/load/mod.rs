//! The load generator: what is sent, and the loop that sends it.
//!
//! Owns scripts (one request and its reply, byte for byte) and the engine that plays them over
//! many connections from one thread. Knows nothing of which server answers. Invariant: every byte
//! of every reply is compared with what it has to be.

mod connection;
mod engine;
mod keys;
mod latency;
mod script;

pub(crate) use engine::{Engine, Pace, Schedule, Shape};
pub(crate) use keys::{KeySpace, Keys, random, write_digits};
pub(crate) use latency::Latency;
pub(crate) use script::{Operation, Protocol, Script, value_of};
