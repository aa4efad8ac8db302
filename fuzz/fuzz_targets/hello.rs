//! Both hellos: any bytes are refused or read.
#![no_main]

use bytes::BytesMut;
use cirrus_store::wire::{ClientHello, ServerHello};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = ClientHello::take(&mut BytesMut::from(data));
    let _ = ServerHello::take(&mut BytesMut::from(data));
});
