//! Power cuts after every single call: what was acknowledged is there, and of the rest a front part,
//! write by write.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Dice, check, compare, key, largest_version, open, put, small};
use crate::segments::disk::Disk;
use crate::segments::options::{Bug, Options};
use crate::segments::sim::{Loss, Plan, SimBucket, SimDisk};
use crate::segments::{Durable, Engine, Record};

const KEYS: u64 = 24;
const STEPS: u64 = 45;

/// What was submitted, in order, and how far it was acknowledged.
#[derive(Default)]
struct Ledger {
    /// Version, then the key numbers that were put or deleted.
    writes: Vec<(u64, Vec<(u64, bool)>)>,
    acknowledged: u64,
}

impl Ledger {
    fn model(&self, through: u64) -> BTreeMap<u64, u64> {
        let mut model = BTreeMap::new();
        for (version, changes) in self.writes.iter().filter(|(version, _)| *version <= through) {
            for (number, is_put) in changes {
                match is_put {
                    true => model.insert(*number, *version),
                    false => model.remove(number),
                };
            }
        }
        model
    }

    fn submit(&mut self, engine: &Engine, version: u64, dice: &mut Dice) -> Option<Durable> {
        let first = dice.roll(KEYS);
        let changes: Vec<(u64, bool)> =
            (0..1 + dice.roll(3)).map(|n| ((first + n) % KEYS, dice.roll(3) > 0)).collect();
        let record = |(number, is_put): &(u64, bool)| match is_put {
            true => put(*number, version),
            false => Record::delete(key(*number), version),
        };
        let durable = engine.write(changes.iter().map(record).collect()).ok()?;
        self.writes.push((version, changes));
        Some(durable)
    }
}

/// A disk, and the bucket behind it.
pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) bucket: Option<SimBucket>,
}

impl World {
    pub(super) fn new(has_bucket: bool) -> Self {
        let disk = SimDisk::default();
        Self { bucket: has_bucket.then(|| SimBucket::new(&disk)), disk }
    }

    fn after(&self, loss: Loss, seed: u64) -> Self {
        let disk = self.disk.power_cut(loss, seed);
        Self { bucket: self.bucket.as_ref().map(|bucket| bucket.copy_for(&disk)), disk }
    }

    pub(super) fn open(&self, options: &Options) -> crate::error::Result<Engine> {
        let mut options = options.clone();
        options.cold = self.bucket.clone().map(|bucket| Arc::new(bucket) as _);
        open(&self.disk, &options)
    }

    /// Everything is whole, and the bucket has what the disk says it has, and nothing else.
    pub(super) fn check(&self) -> Result<(), String> {
        check(&self.disk, self.bucket.as_ref())?;
        let stubs = self.disk.list().unwrap();
        let mut stubs: Vec<&str> =
            stubs.iter().filter_map(|name| name.strip_suffix(".cold")).collect();
        stubs.sort_unstable();
        let objects = self.bucket.as_ref().map_or(Vec::new(), SimBucket::names);
        let objects: Vec<&str> = objects.iter().map(|name| &name[33..]).collect();
        match stubs == objects {
            true => Ok(()),
            false => Err(format!("the bucket has {objects:?}, the disk says {stubs:?}")),
        }
    }
}

/// Has a segment leave the disk, where there is a bucket.
pub(super) fn tier(engine: &Engine) -> crate::error::Result<u64> {
    match &engine.shared.cold {
        Some(cold) => engine.shared.tier(cold, true, cold.has_trouble()),
        None => Ok(0),
    }
}

/// The same calls for the same seed, whatever comes of them. Whether it came to its end.
fn run(world: &World, options: &Options, seed: u64, ledger: &mut Ledger) -> bool {
    let mut dice = Dice(seed);
    let mut version = 0;
    let Ok(mut engine) = world.open(options) else { return false };
    for step in 0..STEPS {
        let mut waiting = Vec::new();
        for _ in 0..1 + dice.roll(3) {
            version += 1;
            waiting.push((version, ledger.submit(&engine, version, &mut dice)));
        }
        for (version, durable) in waiting {
            if durable.is_some_and(|durable| durable.wait().is_ok()) {
                ledger.acknowledged = version;
            }
        }
        if step % 9 == 4 && engine.checkpoint().is_err() {
            return false;
        }
        if step % 11 == 7 && engine.compact().is_err() {
            return false;
        }
        if step % 3 == 2 && tier(&engine).is_err() {
            return false;
        }
        if step == STEPS / 2 {
            if engine.close().is_err() {
                return false;
            }
            match world.open(options) {
                Ok(again) => engine = again,
                Err(_) => return false,
            }
        }
    }
    engine.close().is_ok()
}

/// Opens what a power cut left and compares it with the ledger.
fn verify(world: &World, options: &Options, ledger: &Ledger) -> Result<u64, String> {
    let engine = world.open(options).map_err(|error| format!("it does not open: {error}"))?;
    let through = largest_version(&engine);
    if through < ledger.acknowledged {
        return Err(format!("{} was acknowledged, {through} is there", ledger.acknowledged));
    }
    let mut model = ledger.model(through);
    compare(&engine, &model, KEYS)?;
    engine.put(key(1), through + 1, super::value(through + 1)).unwrap().wait().unwrap();
    model.insert(1, through + 1);
    engine.compact().map_err(|error| error.to_string())?;
    tier(&engine).map_err(|error| error.to_string())?;
    compare(&engine, &model, KEYS)?;
    engine.close().map_err(|error| error.to_string())?;
    world.check()?;
    Ok(through)
}

fn one_cut(
    (options, has_bucket): (&Options, bool),
    seed: u64,
    cut: u64,
    loss: Loss,
) -> Result<bool, String> {
    let world = World::new(has_bucket);
    world.disk.set_plan(Plan { cut_at: Some(cut), ..Plan::default() });
    let mut ledger = Ledger::default();
    let is_whole = run(&world, options, seed, &mut ledger);
    let left = world.after(loss, cut);
    // The same again, but the power goes once more while it starts.
    let again = world.after(loss, cut);
    again.disk.set_plan(Plan { cut_at: Some(1 + cut % 13), ..Plan::default() });
    drop(again.open(options));
    let through = verify(&left, options, &ledger)?;
    verify(&again.after(loss, cut), options, &ledger).map_err(|e| format!("twice: {e}"))?;
    // The index can be made again from the segments, and says the same.
    let bare = world.after(loss, cut);
    if bare.disk.list().unwrap().iter().any(|name| name == "index.redb") {
        bare.disk.remove("index.redb").unwrap();
    }
    let rebuilt = verify(&bare, options, &ledger).map_err(|e| format!("without index: {e}"))?;
    match through == rebuilt {
        true => Ok(is_whole),
        false => Err(format!("version {through}, and {rebuilt} without the index")),
    }
}

/// Cuts the power at every call of a run in turn, until one comes to its end.
fn every_cut(bug: Option<Bug>, seed: u64, loss: Loss) -> Result<u64, String> {
    every_cut_of(bug, false, seed, loss)
}

/// The same with a bucket behind the disk, whose calls count, too.
pub(super) fn every_cut_of(
    bug: Option<Bug>,
    has_bucket: bool,
    seed: u64,
    loss: Loss,
) -> Result<u64, String> {
    let options = Options { bug, ..small() };
    for cut in 1.. {
        let is_whole = one_cut((&options, has_bucket), seed, cut, loss)
            .map_err(|error| format!("seed {seed}, cut at call {cut}, {loss:?}: {error}"))?;
        if is_whole {
            return Ok(cut);
        }
    }
    Ok(0)
}

#[test]
fn zeros_lie_behind_the_last_segment_alone_and_are_no_torn_tail() {
    let (disk, options) = (SimDisk::default(), small());
    let engine = open(&disk, &options).unwrap();
    let record = |version| vec![Record::put(key(version), version, vec![7; 100].into())];
    for version in 1..200 {
        engine.write(record(version)).unwrap().wait().unwrap();
    }
    let ends_in_zeros = |disk: &SimDisk, name: &str| disk.bytes(name).unwrap().ends_with(&[0; 16]);
    let mut segments = disk.list().unwrap();
    segments.retain(|name| name.starts_with("segment"));
    segments.sort_unstable();
    let last = segments.pop().unwrap();
    assert!(segments.len() > 2 && ends_in_zeros(&disk, &last), "{segments:?}, {last}");
    assert!(!segments.iter().any(|name| ends_in_zeros(&disk, name)), "{segments:?}");
    // As a kill leaves it.
    let left = disk.power_cut(Loss::All, 0);
    drop(engine);
    let shared: Arc<dyn Disk> = Arc::new(left.clone());
    let report = Engine::check(&shared, None, |_, _| ()).unwrap();
    assert!(report.damage.is_empty() && report.torn_bytes == 0, "{report:?}");
    let engine = open(&left, &options).unwrap();
    assert_eq!(engine.stats().unwrap().objects, 199);
    engine.close().unwrap();
    assert!(!ends_in_zeros(&left, &last));
}

#[test]
fn nothing_acknowledged_is_lost_when_unsynced_writes_are_dropped() {
    let calls = every_cut(None, 1, Loss::All).unwrap();
    assert!(calls > 200, "{calls} calls");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_tail_is_torn() {
    every_cut(None, 2, Loss::Tail).unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_when_sectors_come_in_any_order() {
    every_cut(None, 3, Loss::Sectors).unwrap();
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    let found = every_cut(Some(Bug::AckBeforeSync), 1, Loss::All).unwrap_err();
    assert!(found.contains("was acknowledged"), "{found}");
}

#[test]
fn a_forgotten_sync_of_the_folder_is_caught() {
    let found = every_cut(Some(Bug::ForgetDirectorySync), 1, Loss::All).unwrap_err();
    assert!(found.contains("was acknowledged"), "{found}");
}

#[test]
fn a_segment_whose_end_was_not_synced_is_caught() {
    let found = every_cut(Some(Bug::ForgetSeal), 1, Loss::All).unwrap_err();
    let is_of_zeros = |what| found.contains(what);
    let flaws = ["no record begins with 00000000", "bytes where a header has"];
    assert!(flaws.into_iter().any(is_of_zeros), "{found}");
}

#[test]
fn a_delete_that_is_dropped_too_early_is_caught() {
    let found = every_cut(Some(Bug::DropDeletes), 1, Loss::All).unwrap_err();
    assert!(found.contains("without index: key") || found.contains("index.redb"), "{found}");
}

#[test]
fn a_torn_tail_that_is_believed_is_caught() {
    every_cut(Some(Bug::BelieveTornTail), 3, Loss::Sectors).unwrap_err();
}
