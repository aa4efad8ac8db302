//! Checkpoints in the run's folder, which outlive the run's memory.
//!
//! Owns `checkpoints/<channel>/<generation>.<batches>`. May not know what is in them. Invariant: the
//! file of the recorded checkpoint is there, whole, until that of a later one is recorded.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use bytes::Bytes;

use crate::api::CheckpointRecord;
use crate::error::{Error, Result};
use crate::rundir::{RunDir, sync_dir};

/// What a file is called until it is whole.
const PART: &str = ".part";

#[derive(Debug)]
pub(super) struct CheckpointFiles {
    folder: PathBuf,
}

impl CheckpointFiles {
    /// The files of a channel; creates their folder.
    pub(super) fn open(run: &RunDir, channel: &str) -> Result<Self> {
        let folder = run.checkpoints().join(channel);
        fs::create_dir_all(&folder)
            .map_err(|error| Error::io(format!("cannot create {}", folder.display()), error))?;
        sync_dir(run.path())?;
        sync_dir(&run.checkpoints())?;
        Ok(Self { folder })
    }

    /// Returns when the state outlives a power cut. What is older than `recorded`, the checkpoint
    /// that is recorded until now, is removed.
    pub(super) fn save(
        &self,
        key: &str,
        state: &[u8],
        recorded: Option<&CheckpointRecord>,
    ) -> Result<()> {
        let path = self.folder.join(name(key));
        let part = self.folder.join(format!("{}{PART}", name(key)));
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(state)?;
            file.sync_all()?;
            fs::rename(&part, &path)
        };
        write().map_err(|error| Error::io(format!("cannot write {}", path.display()), error))?;
        sync_dir(&self.folder)?;
        if let Some(recorded) = recorded.and_then(|recorded| age(name(&recorded.key))) {
            self.prune(recorded);
        }
        Ok(())
    }

    /// The state of a recorded checkpoint.
    pub(super) fn load(&self, record: &CheckpointRecord) -> Result<Bytes> {
        let path = self.folder.join(name(&record.key));
        let state = fs::read(&path).map_err(|error| {
            Error::io(format!("cannot read the checkpoint {}", path.display()), error)
        })?;
        if cirrus_store::checksum_of(0, &state) != record.checksum {
            return Err(Error::corrupt(format!(
                "checkpoint {} is not what was saved; start the application anew",
                path.display()
            )));
        }
        Ok(state.into())
    }

    /// Removes what is older. A consumer that was replaced knows an older record than its successor,
    /// so it never removes what that one needs.
    fn prune(&self, recorded: (u64, u64)) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let older = entry.file_name().to_str().and_then(age).is_some_and(|age| age < recorded);
            if older && let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!("cannot remove {}: {error}", entry.path().display());
            }
        }
    }
}

/// The last part of a checkpoint's key.
fn name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}

/// Generation and batches: of two checkpoints the later one's is larger.
fn age(name: &str) -> Option<(u64, u64)> {
    let (generation, cursor) = name.strip_suffix(PART).unwrap_or(name).split_once('.')?;
    Some((generation.parse().ok()?, cursor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Generation;
    use crate::coordinator::keys::checkpoint_key;

    fn record(generation: u64, cursor: u64, state: &[u8]) -> CheckpointRecord {
        let key = checkpoint_key("batches", Generation(generation), cursor);
        let checksum = cirrus_store::checksum_of(0, state);
        let bytes = state.len() as u64;
        CheckpointRecord { cursor, beyond: Vec::new(), key, version: 1, bytes, checksum }
    }

    fn names(files: &CheckpointFiles) -> Vec<String> {
        let entries = fs::read_dir(&files.folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_two_are_there_and_whole() {
        let run = tempfile::tempdir().unwrap();
        let files = CheckpointFiles::open(&RunDir::at(run.path().into()), "batches").unwrap();
        let mut recorded: Option<CheckpointRecord> = None;
        for cursor in [8, 16, 24, 104] {
            let state = vec![7; usize::try_from(cursor).unwrap()];
            let next = record(1, cursor, &state);
            files.save(&next.key, &state, recorded.as_ref()).unwrap();
            for known in recorded.iter().chain([&next]) {
                assert_eq!(files.load(known).unwrap().len() as u64, known.cursor);
            }
            recorded = Some(next);
        }
        assert_eq!(names(&files), ["1.104", "1.24"]);
        // One that was killed while it wrote, its successor, and one that does not know of it.
        fs::write(files.folder.join("1.112.part"), "half").unwrap();
        let (last, later) = (recorded.unwrap(), record(2, 112, b"later"));
        files.save(&later.key, b"later", Some(&last)).unwrap();
        assert_eq!(names(&files), ["1.104", "1.112.part", "2.112"]);
        files.save(&record(2, 120, b"").key, b"", Some(&later)).unwrap();
        files.save(&record(1, 112, b"late").key, b"late", Some(&last)).unwrap();
        assert_eq!(names(&files), ["1.112", "2.112", "2.120"]);
    }

    #[test]
    fn what_is_not_as_it_was_saved_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let files = CheckpointFiles::open(&RunDir::at(run.path().into()), "batches").unwrap();
        let saved = record(3, 8, b"state");
        assert_eq!(files.load(&saved).unwrap_err().kind(), crate::Kind::Io);
        files.save(&saved.key, b"state", None).unwrap();
        fs::write(files.folder.join("3.8"), b"stats").unwrap();
        let error = files.load(&saved).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Corrupt);
        assert!(error.to_string().contains("3.8"), "{error}");
    }
}
