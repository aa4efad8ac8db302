//! See `decode::batch`.
#![no_main]

#[path = "../src/decode.rs"]
#[allow(dead_code, reason = "each target calls one of them")]
mod decode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decode::batch(data));
