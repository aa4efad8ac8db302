//! The bucket behind a store: how segments in it are read, and whether it can be reached.
//!
//! Owns what is known of the bucket's health, and what its mover is asked. Moves nothing itself.
//! Invariant: what the bucket has of this store, and has no stub, is left over: nothing reads it, and
//! it is removed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, Kind, Result};
use crate::segments::bucket::Bucket;
use crate::segments::disk::ReadAt;
use crate::segments::log::{segment_id, segment_name};

/// How long a bucket that failed is left alone, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The bucket behind a store.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) bucket: Arc<dyn Bucket>,
    folder: String,
    health: Mutex<Health>,
    changed: Condvar,
}

/// What is known of the bucket, and what its mover is asked.
#[derive(Debug, Default)]
struct Health {
    asked: Asked,
    /// Why reads fail at once.
    unreadable: Option<String>,
    /// Why nothing is moved now.
    unmoved: Option<String>,
    failures: u32,
    next_try: Option<Instant>,
}

/// What the mover is asked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    called: bool,
    /// Room, for the group with this number.
    pub(super) room: Option<u64>,
    /// The bucket has failed, and it is time to look at it again.
    pub(super) is_retry: bool,
}

impl Cold {
    pub(super) fn new(bucket: Arc<dyn Bucket>, store: u128) -> Self {
        let health = Mutex::new(Health::default());
        Self { bucket, folder: format!("{store:032x}"), health, changed: Condvar::new() }
    }

    pub(super) fn name(&self) -> &str {
        self.bucket.name()
    }

    /// The name of a segment in the bucket.
    pub(super) fn object(&self, id: u32) -> String {
        format!("{}/{}", self.folder, segment_name(id))
    }

    /// A segment of so many bytes that is in the bucket.
    pub(super) fn file(self: &Arc<Self>, id: u32, bytes: u64) -> Arc<dyn ReadAt> {
        Arc::new(ColdFile { cold: Arc::clone(self), id, bytes })
    }

    /// Whether segments can be moved to it, as far as is known.
    pub(super) fn is_well(&self) -> bool {
        self.health.lock().unmoved.is_none()
    }

    /// Whether it failed and was not looked at since.
    pub(super) fn has_trouble(&self) -> bool {
        self.health.lock().next_try.is_some()
    }

    /// Why segments cannot be moved to it.
    pub(super) fn trouble(&self) -> Option<String> {
        let health = self.health.lock();
        health.unmoved.as_ref().map(|why| format!("{} takes nothing: {why}", self.name()))
    }

    pub(super) fn call(&self, room: Option<u64>) {
        let mut health = self.health.lock();
        health.asked.called = true;
        health.asked.room = room.or(health.asked.room);
        self.changed.notify_all();
    }

    /// Waits for a call, or until a bucket that has failed is to be looked at again; `None` when
    /// the engine closes.
    pub(super) fn next_call(&self, is_closing: impl Fn() -> bool) -> Option<Asked> {
        let mut health = self.health.lock();
        loop {
            if is_closing() {
                return None;
            }
            let is_due = health.next_try.is_some_and(|at| at <= Instant::now());
            if is_due || health.asked.called && health.unmoved.is_none() {
                let mut asked = std::mem::take(&mut health.asked);
                asked.is_retry = is_due;
                return Some(asked);
            }
            self.wait(&mut health);
        }
    }

    fn wait(&self, health: &mut MutexGuard<'_, Health>) {
        match health.next_try {
            Some(at) => drop(self.changed.wait_until(health, at)),
            None => self.changed.wait(health),
        }
    }

    /// Looks at the bucket again: the segments that it has, and their bytes. Where it answers, it is
    /// read again.
    pub(super) fn look(&self) -> Result<BTreeMap<u32, u64>> {
        let listed = self.bucket.list(&self.folder).map_err(|error| self.fault("list", error));
        let mut health = self.health.lock();
        match listed {
            Ok(listed) => {
                health.next_try = None;
                if health.unreadable.take().is_some() {
                    tracing::info!(bucket = self.name(), "values in the bucket are read again");
                }
                let found = listed.into_iter();
                Ok(found.filter_map(|(name, len)| Some((segment_id(&name)?, len))).collect())
            }
            Err(error) => {
                health.unreadable = Some(error.to_string());
                health.pause();
                Err(error)
            }
        }
    }

    /// Removes what the bucket has of this store beside `segments`, and sees that it has those.
    /// Afterwards it counts as well. The caller is the only one who changes the bucket.
    pub(super) fn tidy(&self, segments: &BTreeMap<u32, u64>) -> Result<()> {
        let found = self.look()?;
        for (id, bytes) in segments {
            let why = match found.get(id) {
                Some(len) if len == bytes => continue,
                Some(len) => format!("has {len} bytes there instead of {bytes}"),
                None => "is not there".to_owned(),
            };
            let text = format!(
                "{} was moved to a bucket, and in {} it {why}; give the bucket that it was moved to",
                self.object(*id),
                self.name()
            );
            return Err(Error::new(Kind::Invalid, text));
        }
        for id in found.keys().filter(|id| !segments.contains_key(id)) {
            self.remove(*id)?;
        }
        let mut health = self.health.lock();
        if health.unmoved.take().is_none() {
            health.failures = 0;
        }
        Ok(())
    }

    /// Removes a segment from the bucket.
    pub(super) fn remove(&self, id: u32) -> Result<()> {
        let object = self.object(id);
        self.bucket
            .remove(&object)
            .map_err(|error| self.fault(&format!("remove {object} of"), error))
    }

    pub(super) fn fault(&self, action: &str, error: io::Error) -> Error {
        Error::io(format!("cannot {action} {}", self.name()), error)
    }

    /// A segment was moved.
    pub(super) fn has_worked(&self) {
        self.health.lock().failures = 0;
    }

    /// Nothing is moved until the bucket was looked at again.
    pub(super) fn has_failed(&self, why: &str) {
        let mut health = self.health.lock();
        health.unmoved = Some(why.to_owned());
        health.pause();
    }

    /// Reads fail at once until the bucket was looked at again: they may come from a thread that
    /// serves others, and each would wait as long as the bucket's time limit.
    fn cannot_read(&self, why: &str) {
        let mut health = self.health.lock();
        if health.unreadable.replace(why.to_owned()).is_none() {
            tracing::warn!(why, "values in the bucket cannot be read");
            health.pause();
            self.changed.notify_all();
        }
    }
}

impl Health {
    /// Sets when it is looked at again, unless that is set.
    fn pause(&mut self) {
        if self.next_try.is_some_and(|at| at > Instant::now()) {
            return;
        }
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures += 1;
        self.next_try = Some(Instant::now() + pause);
    }
}

/// A segment in the bucket.
#[derive(Debug)]
struct ColdFile {
    cold: Arc<Cold>,
    id: u32,
    bytes: u64,
}

impl ReadAt for ColdFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if let Some(why) = &self.cold.health.lock().unreadable {
            return Err(io::Error::new(io::ErrorKind::NotConnected, why.clone()));
        }
        if offset.saturating_add(buffer.len() as u64) > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read = self.cold.bucket.read(&self.cold.object(self.id), offset, buffer);
        read.map_err(|error| {
            let text = format!("{}: {error}", self.cold.name());
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) {
                self.cold.cannot_read(&text);
            }
            io::Error::new(error.kind(), text)
        })
    }
}
