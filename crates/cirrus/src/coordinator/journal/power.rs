//! The journal over a disk whose power fails: what was not synced is lost, torn and out of order.
//!
//! Owns such a disk. May not know the file's pages. Invariant: after a cut the disk has everything
//! up to its last sync; each sector written since then is there or not, whatever became of others.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use super::tests::{sealed, spec, wait};
use super::*;

const SECTOR: usize = 512;
const CUTS: u64 = 400;

/// Clones are the same disk.
#[derive(Debug, Clone)]
struct PowerDisk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    /// As of the last sync.
    durable: Vec<u8>,
    /// As the running program sees it.
    seen: Vec<u8>,
    /// Since the last sync, in order.
    unsynced: Vec<Change>,
    /// Changes and syncs until the power fails.
    left: u64,
}

#[derive(Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// SplitMix64.
fn roll(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *random;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn write_at(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    bytes.resize(bytes.len().max(at + data.len()), 0);
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl PowerDisk {
    /// A disk that works for `left` changes and syncs.
    fn new(durable: Vec<u8>, left: u64) -> Self {
        let seen = durable.clone();
        Self(Arc::new(Mutex::new(Content { durable, seen, unsynced: Vec::new(), left })))
    }

    /// What a machine finds that starts after the cut.
    fn after_cut(&self, random: &mut u64) -> Vec<u8> {
        let content = self.0.lock();
        let mut bytes = content.durable.clone();
        for change in &content.unsynced {
            match change {
                Change::Length(len) if roll(random).is_multiple_of(2) => bytes.resize(*len, 0),
                Change::Length(_) => {}
                Change::Write(at, data) => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        if roll(random).is_multiple_of(2) {
                            write_at(&mut bytes, at + n * SECTOR, sector);
                        }
                    }
                }
            }
        }
        bytes
    }
}

impl Content {
    fn spend(&mut self) -> io::Result<()> {
        let cut = || io::Error::other("the power is off");
        self.left = self.left.checked_sub(1).ok_or_else(cut)?;
        Ok(())
    }
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

impl StorageBackend for PowerDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.0.lock();
        let bytes = content.seen.get(index(offset)..index(offset) + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = self.0.lock();
        content.spend()?;
        content.seen.resize(index(len), 0);
        content.unsynced.push(Change::Length(index(len)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = self.0.lock();
        content.spend()?;
        content.durable = content.seen.clone();
        content.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.0.lock();
        content.spend()?;
        write_at(&mut content.seen, index(offset), data);
        content.unsynced.push(Change::Write(index(offset), data.to_vec()));
        Ok(())
    }
}

fn open(disk: &PowerDisk) -> Result<(Journal, Recovered)> {
    let fault = |fault: Fault| fault.of(Path::new("disk"));
    let database = builder().create_with_backend(disk.clone()).map_err(|e| fault(e.into()))?;
    Journal::start(database, &spec()).map_err(fault)
}

/// Event `n` is `sealed(n)`. Appends until the power fails; the last event that passed the gate,
/// and the last that was queued.
fn write_until_cut(journal: &Journal, random: &mut u64) -> (u64, u64) {
    let (mut passed, mut queued) = (0, 0);
    while queued < 400 {
        let group = queued + 1..queued + 2 + roll(random) % 12;
        queued = journal.append(group.map(sealed).collect());
        if roll(random).is_multiple_of(8) {
            journal.snapshot(Durable::default());
        }
        // Sometimes the next group comes while this one is written.
        if !roll(random).is_multiple_of(4) {
            match wait(journal, queued) {
                Ok(()) => passed = queued,
                Err(_) => break,
            }
        }
    }
    (passed, queued)
}

#[test]
fn what_passed_the_gate_survives_any_power_cut() {
    let (mut cut, mut from_snapshot) = (0, 0);
    // A new journal, made without a cut.
    let fresh = PowerDisk::new(Vec::new(), u64::MAX);
    drop(open(&fresh).unwrap());
    let fresh = fresh.0.lock().durable.clone();
    for seed in 0..CUTS {
        let mut random = seed;
        let random = &mut random;
        let disk = PowerDisk::new(fresh.clone(), 1 + roll(random) % 400);
        let (mut passed, mut queued) = (0, 0);
        if let Ok((journal, _)) = open(&disk) {
            (passed, queued) = write_until_cut(&journal, random);
        }
        cut += u64::from(disk.0.lock().left == 0);
        let after = PowerDisk::new(disk.after_cut(random), u64::MAX);
        let (journal, recovered) = open(&after).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let last = journal.append(Vec::new());
        assert!((passed..=queued).contains(&last), "seed {seed}: {passed} {last} {queued}");
        let first = last + 1 - recovered.events.len() as u64;
        assert_eq!(recovered.events, (first..=last).map(sealed).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(recovered.snapshot.is_some(), first > 1, "seed {seed}");
        from_snapshot += u64::from(first > 1);
        assert!(wait(&journal, journal.append(vec![sealed(0)])).is_ok(), "seed {seed}");
    }
    assert!(cut > CUTS / 2 && from_snapshot > CUTS / 4, "{cut} {from_snapshot}");
}
