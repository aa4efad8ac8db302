//! redb's bytes, through the seam of files.
//!
//! Owns what redb believes to have written after the disk failed. Knows nothing of tables.
//! Invariant: once a call failed no byte more reaches the disk, so the file is what a crash at that
//! call would have left; readers go on, out of the file and the bytes kept here. (redb itself
//! answers no read any more after a failed write.)

use std::io::{self, IoSlice};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::segments::disk::DiskFile;

/// What was to be written after the first failure: the rest of one transaction.
#[derive(Debug, Default)]
pub(super) struct Shadow(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    why: String,
    len: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl Shadow {
    /// Why nothing is written any more, if that is so.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.lock().as_ref().map(|kept| kept.why.clone())
    }
}

#[derive(Debug)]
pub(super) struct Backend {
    file: Arc<dyn DiskFile>,
    shadow: Arc<Shadow>,
    durable: bool,
}

impl Backend {
    pub(super) fn new(file: Arc<dyn DiskFile>, shadow: Arc<Shadow>, durable: bool) -> Self {
        Self { file, shadow, durable }
    }

    /// Carries out a change of the file, or, once one failed, only of what is kept.
    fn change(
        &self,
        on_disk: impl FnOnce() -> io::Result<()>,
        kept: impl FnOnce(&mut Kept),
    ) -> io::Result<()> {
        let mut shadow = self.shadow.0.lock();
        if shadow.is_none() {
            let Err(error) = on_disk() else { return Ok(()) };
            let len = self.file.len()?;
            *shadow = Some(Kept { why: error.to_string(), len, writes: Vec::new() });
        }
        if let Some(state) = shadow.as_mut() {
            kept(state);
        }
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        match self.shadow.0.lock().as_ref() {
            Some(kept) => Ok(kept.len),
            None => self.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shadow = self.shadow.0.lock();
        let Some(kept) = shadow.as_ref() else {
            drop(shadow);
            return self.file.read_exact_at(out, offset);
        };
        if offset + out.len() as u64 > kept.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let on_disk = self.file.len()?.saturating_sub(offset);
        let there = out.len().min(usize::try_from(on_disk).unwrap_or(usize::MAX));
        self.file.read_exact_at(&mut out[..there], offset)?;
        for (at, bytes) in &kept.writes {
            overlay(out, offset, *at, bytes);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|| self.file.set_len(len), |kept| kept.len = len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.durable {
            return Ok(());
        }
        self.change(|| self.file.sync_data(), |_| ())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(
            || self.file.write_all_at(&mut [IoSlice::new(data)], offset),
            |kept| {
                kept.len = kept.len.max(offset + data.len() as u64);
                kept.writes.push((offset, data.to_vec()));
            },
        )
    }
}

/// Copies into `out`, which begins at `offset`, what `bytes`, which begin at `at`, have of it.
fn overlay(out: &mut [u8], offset: u64, at: u64, bytes: &[u8]) {
    let start = offset.max(at);
    let end = (offset + out.len() as u64).min(at + bytes.len() as u64);
    let place = |from: u64| usize::try_from(start - from).unwrap_or(usize::MAX);
    if let Some(len) = end.checked_sub(start).and_then(|len| usize::try_from(len).ok()) {
        let (to, from) = (place(offset), place(at));
        out[to..to + len].copy_from_slice(&bytes[from..from + len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::disk::Disk;
    use crate::segments::sim::{Plan, SimDisk};

    #[test]
    fn readers_go_on_after_a_failed_write() {
        let disk = SimDisk::default();
        let shadow = Arc::new(Shadow::default());
        let backend = Backend::new(disk.create("file").unwrap(), Arc::clone(&shadow), true);
        backend.write(0, b"abcdefgh").unwrap();
        disk.set_plan(Plan { fail_from: Some(1), ..Plan::default() });
        backend.write(2, b"XY").unwrap();
        backend.set_len(12).unwrap();
        backend.sync_data().unwrap();
        assert!(shadow.failure().is_some());
        let mut all = [0; 12];
        backend.read(0, &mut all).unwrap();
        assert_eq!(&all, b"abXYefgh\0\0\0\0");
        assert!(backend.read(8, &mut all).is_err());
    }
}
