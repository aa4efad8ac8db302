//! The attribute from outside: right uses run, wrong ones fail with the messages in `tests/ui`.

#![allow(missing_docs, reason = "the stand-in has none; what the attribute writes is checked")]

extern crate self as cirrus;

include!("stand_in.rs");

/// Public, as a library's tasks are.
pub mod right;

/// Set `TRYBUILD=overwrite` to write the messages anew, then read what changed.
#[test]
fn wrong_uses_are_refused_where_they_stand() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
