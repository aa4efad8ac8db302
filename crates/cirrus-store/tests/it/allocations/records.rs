//! What a record of a packed object costs its reader in allocations: nothing of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cirrus_store::cache::Source;
use cirrus_store::iter::{Records, RecordsOptions, Sequential};
use cirrus_store::set::{Manifest, Set, SetName, pack};
use cirrus_store::{Key, Object, Result, Version};

use super::{COUNT, IS_WATCHED, TURN};
use crate::rig::bytes;

/// Records that are read while it is watched.
const COUNTED: u64 = 200_000;

/// Has every object; all are one.
struct Same(Bytes);

impl Source for Same {
    async fn get(&self, _key: &Key) -> Result<Object> {
        let value = self.0.clone();
        Ok(Object { value, version: Version(1), expires_at: None, modified_at: None })
    }

    async fn get_if_newer(&self, _key: &Key, _version: Version) -> Result<Option<Object>> {
        Ok(None)
    }
}

/// Allocations while many records are read, of a source that answers at once.
fn allocations(value: Bytes, packing: u32) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let manifest = Manifest::empty().with_packing(packing).unwrap().with_count(1 << 30);
    let set = Set::new(SetName::new("s").unwrap(), manifest);
    let order = Arc::new(Sequential::new(1 << 30));
    let options = RecordsOptions::default();
    let mut records = Records::new(Arc::new(Same(value)), set, order, 0..u64::MAX, options);
    runtime.block_on(async {
        // Until it has found its pace, and its tables are as large as they get.
        for _ in 0..COUNTED {
            records.next().await.unwrap().unwrap();
        }
        COUNT.store(0, Ordering::SeqCst);
        IS_WATCHED.set(true);
        for _ in 0..COUNTED {
            records.next().await.unwrap().unwrap();
        }
        IS_WATCHED.set(false);
        COUNT.load(Ordering::SeqCst)
    })
}

#[test]
fn a_record_allocates_nothing_of_its_own() {
    let _turn = TURN.lock().unwrap();
    let record = bytes(1000, 1);
    let packed = allocations(pack(&vec![&record[..]; 256]).unwrap(), 256);
    assert!(packed < COUNTED / 20, "{packed} for {COUNTED} records");
    // An object is a get, whose source may allocate; but not a request and a task each.
    let single = allocations(record.into(), 1);
    assert!(single < COUNTED * 2, "{single} for {COUNTED} objects");
}
