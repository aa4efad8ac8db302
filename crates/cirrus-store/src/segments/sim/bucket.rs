//! A bucket in memory that fails, loses the power of whoever calls it, and gives back other bytes.
//!
//! Owns its objects, which outlive a power cut. Knows nothing of segments. Invariant: a call after
//! the power went off changes nothing; the one at which it went may have been carried out.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::segments::bucket::Bucket;
use crate::segments::disk::ReadAt;
use crate::segments::sim::{Power, SimDisk};

/// When calls of a bucket fail. All calls are counted, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketPlan {
    /// From this call on every call fails.
    pub fail_from: Option<u64>,
    /// This one call fails; where it would have changed something, it may have.
    pub fail_once: Option<u64>,
    /// Every put and remove fails; reads go on.
    pub is_read_only: bool,
    /// From this call on a put keeps other bytes than it was given.
    pub garble_from: Option<u64>,
}

/// A simulated bucket on the power of a simulated disk. Clones are the same bucket.
#[derive(Debug, Clone)]
pub struct SimBucket {
    contents: Arc<Mutex<Contents>>,
    disk: SimDisk,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    objects: BTreeMap<String, Vec<u8>>,
    plan: BucketPlan,
    calls: u64,
}

impl SimBucket {
    /// An empty bucket; its calls count among those of `disk` at which the power may go.
    pub fn new(disk: &SimDisk) -> Self {
        Self { contents: Arc::default(), disk: disk.clone() }
    }

    /// Another bucket that has what this one has, for what a power cut left of a disk.
    #[must_use]
    pub fn copy_for(&self, disk: &SimDisk) -> Self {
        let objects = self.contents.lock().objects.clone();
        let contents = Contents { objects, ..Contents::default() };
        Self { contents: Arc::new(Mutex::new(contents)), disk: disk.clone() }
    }

    /// From now on calls fail as `plan` says.
    pub fn set_plan(&self, plan: BucketPlan) {
        let mut contents = self.contents.lock();
        (contents.plan, contents.calls) = (plan, 0);
    }

    /// Calls since the plan was set.
    pub fn calls(&self) -> u64 {
        self.contents.lock().calls
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<String> {
        self.contents.lock().objects.keys().cloned().collect()
    }

    /// Has an object vanish.
    pub fn lose(&self, name: &str) {
        self.contents.lock().objects.remove(name);
    }

    /// Carries out a call that changes something, unless it fails.
    fn change(&self, change: impl FnOnce(&mut Contents)) -> io::Result<()> {
        let power = self.disk.call_beside();
        let mut contents = self.contents.lock();
        let fate = contents.call().and_then(|()| match contents.plan.is_read_only {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        });
        // Of those that fail, every other one was carried out.
        let is_odd = contents.calls % 2 == 1;
        match (power, fate) {
            (Power::On, Ok(())) => {
                change(&mut contents);
                Ok(())
            }
            (Power::Goes(happens), _) => {
                if happens {
                    change(&mut contents);
                }
                Err(io::Error::other("the power is off"))
            }
            (Power::Off, _) => Err(io::Error::other("the power is off")),
            (Power::On, Err(error)) => {
                if is_odd && contents.plan.fail_once.is_some() {
                    change(&mut contents);
                }
                Err(error)
            }
        }
    }

    fn look<T>(&self, look: impl FnOnce(&Contents) -> io::Result<T>) -> io::Result<T> {
        if self.disk.call_beside() != Power::On {
            return Err(io::Error::other("the power is off"));
        }
        let mut contents = self.contents.lock();
        contents.call()?;
        look(&contents)
    }
}

impl Contents {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        let is_failing = self.plan.fail_from.is_some_and(|at| self.calls >= at)
            || self.plan.fail_once == Some(self.calls);
        match is_failing {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }
}

impl Bucket for SimBucket {
    fn name(&self) -> &'static str {
        "sim://bucket"
    }

    fn put(&self, object: &str, source: &dyn ReadAt, len: u64) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        source.read_exact_at(&mut bytes, 0)?;
        self.change(|contents| {
            let is_garbled = contents.plan.garble_from.is_some_and(|at| contents.calls >= at);
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle).filter(|_| is_garbled) {
                *byte ^= 1;
            }
            contents.objects.insert(object.to_owned(), bytes);
        })
    }

    fn read(&self, object: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.look(|contents| {
            let bytes = contents.objects.get(object).ok_or(io::ErrorKind::NotFound)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let found = bytes.get(start..start.saturating_add(buffer.len()));
            buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn remove(&self, object: &str) -> io::Result<()> {
        self.change(|contents| drop(contents.objects.remove(object)))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.look(|contents| {
            let below = format!("{folder}/");
            let names = contents.objects.iter();
            let names = names.filter_map(|(name, bytes)| {
                Some((name.strip_prefix(&below)?.to_owned(), bytes.len() as u64))
            });
            Ok(names.collect())
        })
    }
}
