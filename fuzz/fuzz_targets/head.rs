//! The head of a frame: what is read is written as the same bytes.
#![no_main]

use bytes::BytesMut;
use cirrus_store::wire::{Head, HeadLimits, VALUE_BYTES_MAX};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };
    if let Ok(Some(head)) = Head::take(&mut BytesMut::from(data), limits) {
        let mut again = BytesMut::new();
        head.put(&mut again);
        let read = Head::take(&mut again, limits).expect("it was read before");
        assert_eq!(read.expect("it is whole"), head);
    }
});
