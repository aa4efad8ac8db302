//! The engine against a simulated disk and a model.

mod capacity;
mod cold;
mod damage;
mod faults;
mod format;
mod model;
mod power;
mod queues;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::key::{Key, SLOTS, Slot};
use crate::segments::options::Options;
use crate::segments::sim::{SimBucket, SimDisk};
use crate::segments::{Engine, Record};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Small segments, so that everything happens soon, and nothing by itself.
fn small() -> Options {
    Options {
        capacity: 16 << 20,
        segment_bytes: 8 << 10,
        hot_bytes: 64 << 10,
        index_cache_bytes: 1 << 20,
        background: false,
        ..Options::default()
    }
}

fn open(disk: &SimDisk, options: &Options) -> crate::error::Result<Engine> {
    Engine::open(Arc::new(disk.clone()), options.clone())
}

fn key(number: u64) -> Key {
    Key::try_from(format!("key-{number}")).unwrap()
}

/// A value that says which version it is, of a length that follows from it.
fn value(version: u64) -> Bytes {
    let len = usize::try_from(version * 7919 % 1500).unwrap();
    let mut bytes = version.to_le_bytes().repeat(len / 8 + 1);
    bytes.truncate(len.max(8));
    bytes.into()
}

fn put(number: u64, version: u64) -> Record {
    Record::put(key(number), version, value(version))
}

fn largest_version(engine: &Engine) -> u64 {
    (0..SLOTS).filter_map(Slot::new).map(|slot| engine.version(slot).0).max().unwrap()
}

/// Compares everything that is there with `model`: key number to version.
fn compare(engine: &Engine, model: &BTreeMap<u64, u64>, keys: u64) -> Result<(), String> {
    for number in 0..keys {
        let read = engine.read(&key(number)).map_err(|error| format!("key {number}: {error}"))?;
        let wanted = model.get(&number);
        let found = read.as_ref().map(|found| &found.version.0);
        if found != wanted {
            return Err(format!("key {number} has version {found:?}, expected {wanted:?}"));
        }
        if let Some(found) = read
            && found.value != value(found.version.0)
        {
            return Err(format!("key {number} has another version's value"));
        }
    }
    let names = names(engine, b"");
    if names.len() != model.len() || engine.stats().unwrap().objects != model.len() as u64 {
        let objects = engine.stats().unwrap().objects;
        let wanted = model.len();
        return Err(format!("{} names and {objects} objects, expected {wanted}", names.len()));
    }
    Ok(())
}

fn names(engine: &Engine, prefix: &[u8]) -> Vec<Key> {
    let (mut names, mut cursor) = (Vec::new(), (0, 0));
    while cursor.0 < SLOTS {
        let page = engine.scan(prefix, cursor, 7).unwrap();
        names.extend(page.names.into_iter().map(|name| name.key));
        cursor = page.next;
    }
    names
}

/// Everything is whole, and the index agrees with the log.
fn check(disk: &SimDisk, bucket: Option<&SimBucket>) -> Result<(), String> {
    let disk: Arc<dyn crate::segments::Disk> = Arc::new(disk.clone());
    let bucket = bucket.map(|bucket| Arc::new(bucket.clone()) as _);
    let report = Engine::check(&disk, bucket, |_, _| ()).map_err(|error| error.to_string())?;
    if report.unread_segments > 0 {
        return Err(format!("{} segments were not read", report.unread_segments));
    }
    match report.damage.first() {
        None => Ok(()),
        Some(damage) => Err(format!("check: {damage}")),
    }
}
