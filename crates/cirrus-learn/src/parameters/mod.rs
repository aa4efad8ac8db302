//! Where are the parameters that a model learns?
//!
//! Owns the ways to them. Knows no model.
//! Invariant: whoever pulls what he pushed sees what the rule made of it.

mod remote;

pub use remote::{Brought, Gradients, Part, Pending, Remote, RemoteOptions, may_pass};
