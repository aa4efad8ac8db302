//! The durable engine on a real disk, in a process that is killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cirrus_store::segments::{Disk, Engine, Folder, Options, Record};
use cirrus_store::{Key, SLOTS, Slot};

const FOLDER: &str = "CIRRUS_TEST_STORE";
const KEYS: u64 = 300;
const KILLS: u64 = 25;

fn options() -> Options {
    let mut options = Options::default();
    options.segment_bytes = 128 << 10;
    options.checkpoint_rows = 100;
    options.checkpoint_bytes = 256 << 10;
    options.compaction_bytes_per_second = u64::MAX;
    options
}

/// The write of a version: which key, and its value unless it is a delete.
fn write_of(version: u64) -> (u64, Option<Vec<u8>>) {
    let number = version * 7919 % KEYS;
    let len = usize::try_from(version * 31 % 5000).unwrap();
    let value = || version.to_le_bytes().repeat(len / 8 + 1);
    (number, (!version.is_multiple_of(5)).then(value))
}

fn record(version: u64) -> Record {
    let (number, value) = write_of(version);
    let key = Key::try_from(format!("key-{number}")).unwrap();
    match value {
        Some(value) => Record::put(key, version, value.into()),
        None => Record::delete(key, version),
    }
}

fn last_version(engine: &Engine) -> u64 {
    (0..SLOTS).filter_map(Slot::new).map(|slot| engine.version(slot).0).max().unwrap()
}

/// Writes until it is killed, and says which versions were acknowledged.
#[test]
#[ignore = "the process that a_killed_process_loses_nothing kills"]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let engine = Engine::open_folder(folder, options()).unwrap();
    let mut out = std::io::stdout().lock();
    let mut version = last_version(&engine);
    loop {
        let group: Vec<_> = (0..8)
            .map(|_| {
                version += 1;
                (version, engine.write(vec![record(version)]).unwrap())
            })
            .collect();
        for (version, durable) in group {
            durable.wait().unwrap();
            writeln!(out, "acknowledged {version}").unwrap();
            out.flush().unwrap();
        }
    }
}

fn kill_one(folder: &Path, after: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut last = 0;
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The test harness's own line may stand before the first.
        let Some((_, version)) = line.rsplit_once("acknowledged ") else { continue };
        // A line that the kill cut short may lack its last digits: smaller, never larger.
        last = last.max(version.parse().unwrap_or(0));
        seen += 1;
        if seen == after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= after, "the process ended by itself after {seen} writes");
    last
}

fn compare(engine: &Engine, through: u64) {
    let mut model: BTreeMap<u64, (u64, Vec<u8>)> = BTreeMap::new();
    for version in 1..=through {
        match write_of(version) {
            (number, Some(value)) => drop(model.insert(number, (version, value))),
            (number, None) => drop(model.remove(&number)),
        }
    }
    for number in 0..KEYS {
        let key = Key::try_from(format!("key-{number}")).unwrap();
        let found = engine.read(&key).unwrap().map(|f| (f.version.0, f.value.to_vec()));
        assert!(found == model.get(&number).cloned(), "{key:?} at version {through}");
    }
}

#[test]
fn a_killed_process_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..KILLS {
        let acknowledged = kill_one(folder.path(), 20 + round * 37 % 400);
        let engine = Engine::open_folder(folder.path(), options()).unwrap();
        let through = last_version(&engine);
        assert!(through >= acknowledged, "{acknowledged} was acknowledged, {through} is there");
        compare(&engine, through);
        // Half of the time it is not closed by name either.
        if round % 2 == 0 {
            engine.close().unwrap();
        }
    }
    let disk: Arc<dyn Disk> = Arc::new(Folder::open(folder.path()).unwrap());
    let report = Engine::check(&disk, None, |_, _| ()).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}

#[test]
fn two_processes_do_not_open_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open_folder(folder.path(), options()).unwrap();
    let second = Engine::open_folder(folder.path(), options()).unwrap_err();
    assert!(second.to_string().contains("open in another process"), "{second}");
    engine.close().unwrap();
    Engine::open_folder(folder.path(), options()).unwrap().close().unwrap();
}

#[tokio::test]
async fn a_write_can_be_awaited() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open_folder(folder.path(), options()).unwrap();
    let writes: Vec<_> = (1..=50).map(|version| engine.write(vec![record(version)])).collect();
    for write in writes {
        write.unwrap().await.unwrap();
    }
    compare(&engine, 50);
    let stats = engine.stats().unwrap();
    assert!(stats.writes == 50 && stats.syncs <= 50, "{stats:?}");
}
