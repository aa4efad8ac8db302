//! How the coordinator's events outlive it.
//!
//! Owns the file `journal.redb` and the thread that writes it. May not know what events mean.
//! Invariant: [`Journal::synced`] returns for an event only once it survives a power cut.
//!
//! Layout: table `events` maps a sequence number to one postcard event; table `meta` holds
//! `format`, `spec` (JSON) and `snapshot` (the sequence number it covers, 8 bytes little-endian,
//! then the postcard state). A snapshot removes the events that it covers.
//!
//! Group commit: while one transaction is synced the next events queue up, and all of them become
//! the next transaction. The queue is bounded by the callers: each waits for its own events, and
//! the server bounds its connections.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::watch;

use super::state::{Durable, Event};
use crate::error::{Error, Kind, Result};
use crate::spec::AppSpec;

const FILE: &str = "journal.redb";
const FORMAT: &[u8] = b"cirrus coordinator journal 1";
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Events between snapshots: replaying so many takes well under a second.
const SNAPSHOT_EVERY: u64 = 65_536;
/// The journal is read once and then only written.
const CACHE_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    /// `None` once closed.
    queue: Mutex<Option<Queue>>,
    synced: watch::Receiver<Synced>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What an earlier coordinator left.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) snapshot: Option<Durable>,
    /// After the snapshot, in order.
    pub(crate) events: Vec<Event>,
}

#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<Entry>,
    /// The sequence number of the last event that was queued.
    last: u64,
    last_snapshot: u64,
}

#[derive(Debug)]
enum Entry {
    Event(u64, Event),
    /// The state right after the event of this number.
    Snapshot(u64, Box<Durable>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Synced {
    Through(u64),
    Failed(String),
}

impl Journal {
    /// Opens or creates the journal in `dir` and starts its thread. Refuses a damaged file, one
    /// that another process has open, and one of another spec.
    pub(crate) fn open(dir: &Path, spec: &AppSpec) -> Result<(Self, Recovered)> {
        let path = dir.join(FILE);
        fs::create_dir_all(dir)
            .map_err(|error| Error::io(format!("cannot create {}", dir.display()), error))?;
        let database = open_database(&path)?;
        sync_dir(dir)?;
        let stored = load(&database, spec).map_err(|fault| fault.of(&path))?;
        let (stored, fresh) = match stored {
            Some(stored) => (stored, false),
            None => (Stored::default(), true),
        };
        if fresh {
            initialise(&database, spec).map_err(|fault| fault.of(&path))?;
        }
        let (sender, receiver) = mpsc::channel();
        let (synced_sender, synced) = watch::channel(Synced::Through(stored.last));
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || write_all(&database, &receiver, &synced_sender))
            .map_err(|error| Error::io("cannot start the journal's thread", error))?;
        let queue = Queue { sender, last: stored.last, last_snapshot: stored.snapshot_at };
        let journal =
            Self { queue: Mutex::new(Some(queue)), synced, writer: Mutex::new(Some(writer)) };
        Ok((journal, stored.recovered))
    }

    /// Queues events, in the order of the calls, and answers what to wait for with
    /// [`Journal::synced`]: these events and all before them.
    pub(crate) fn append(&self, events: Vec<Event>) -> u64 {
        let mut queue = self.queue.lock();
        // A closed journal syncs nothing any more; waiting for the next number says so.
        let Some(queue) = queue.as_mut() else { return u64::MAX };
        for event in events {
            queue.last += 1;
            // A failed send means that the thread ended, and `synced` says why.
            let _ = queue.sender.send(Entry::Event(queue.last, event));
        }
        queue.last
    }

    /// Whether enough events were queued since the last snapshot.
    pub(crate) fn wants_snapshot(&self) -> bool {
        let queue = self.queue.lock();
        queue.as_ref().is_some_and(|queue| queue.last - queue.last_snapshot >= SNAPSHOT_EVERY)
    }

    /// Queues a snapshot of the state right after the last queued event.
    pub(crate) fn snapshot(&self, durable: Durable) {
        if let Some(queue) = self.queue.lock().as_mut() {
            queue.last_snapshot = queue.last;
            let _ = queue.sender.send(Entry::Snapshot(queue.last, Box::new(durable)));
        }
    }

    /// Returns once everything up to `sequence` is durable, or with [`Kind::Io`] when it never
    /// will be. Dropping the future changes nothing.
    pub(crate) async fn synced(&self, sequence: u64) -> Result<()> {
        let mut synced = self.synced.clone();
        let reached = |synced: &Synced| match synced {
            Synced::Through(through) => *through >= sequence,
            Synced::Failed(_) => true,
        };
        match synced.wait_for(reached).await.as_deref() {
            Ok(Synced::Through(_)) => Ok(()),
            Ok(Synced::Failed(why)) => Err(failed(why)),
            Err(_) => Err(failed("it is closed")),
        }
    }

    /// Returns when the journal cannot be written any more, and why.
    pub(crate) async fn failure(&self) -> Error {
        let mut synced = self.synced.clone();
        match synced.wait_for(|synced| matches!(synced, Synced::Failed(_))).await.as_deref() {
            Ok(Synced::Failed(why)) => failed(why),
            Ok(Synced::Through(_)) | Err(_) => failed("it is closed"),
        }
    }

    /// Writes what is queued and ends the thread.
    pub(crate) fn close(&self) {
        drop(self.queue.lock().take());
        if let Some(writer) = self.writer.lock().take() {
            // A panic of the thread was told to every waiter already.
            let _ = writer.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

fn failed(why: &str) -> Error {
    Error::new(Kind::Io, format!("the journal cannot be written: {why}"))
}

#[derive(Debug, Default)]
struct Stored {
    recovered: Recovered,
    last: u64,
    snapshot_at: u64,
}

/// Why a journal cannot be used.
#[derive(Debug)]
enum Fault {
    Damaged(String),
    OtherFormat,
    OtherSpec(String),
}

impl Fault {
    fn of(self, path: &Path) -> Error {
        let path = path.display();
        match self {
            Self::Damaged(what) => Error::corrupt(format!(
                "journal {path} is damaged ({what}); put back a copy of it, or start the \
                 application anew in another directory"
            )),
            Self::OtherFormat => Error::input(format!(
                "{path} was written by another version of cirrus; go on with that version, or \
                 start anew in another directory"
            )),
            Self::OtherSpec(what) => Error::input(format!(
                "journal {path} belongs to {what}; go on with that application unchanged, or \
                 start anew in another directory"
            )),
        }
    }
}

/// Everything that goes wrong while reading pages means that the file is not what was written.
impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Damaged(error.into().to_string())
    }
}

fn open_database(path: &Path) -> Result<Database> {
    let mut builder = Database::builder();
    // A page that was altered must not be trusted, and reading the whole journal is cheap.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder.create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Error::input(format!(
            "journal {} is in use: another coordinator of this application runs; end it first",
            path.display()
        )),
        DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() != std::io::ErrorKind::InvalidData =>
        {
            Error::io(format!("cannot open journal {}", path.display()), error)
        }
        error => Fault::from(error).of(path),
    })
}

/// A new file's name must survive a power cut as well as its content.
fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::io(format!("cannot sync {}", dir.display()), error))
}

fn load(database: &Database, spec: &AppSpec) -> Result<Option<Stored>, Fault> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if meta.get("format")?.is_none_or(|format| format.value() != FORMAT) {
        return Err(Fault::OtherFormat);
    }
    check_spec(meta.get("spec")?.map(|json| json.value().to_vec()), spec)?;
    let mut stored = Stored::default();
    if let Some(snapshot) = meta.get("snapshot")? {
        let Some((at, state)) = snapshot.value().split_first_chunk::<8>() else {
            return Err(Fault::Damaged("the snapshot is cut".into()));
        };
        stored.snapshot_at = u64::from_le_bytes(*at);
        stored.recovered.snapshot = Some(decode("the snapshot", state)?);
    }
    stored.last = stored.snapshot_at;
    for entry in transaction.open_table(EVENTS)?.iter()? {
        let (sequence, event) = entry?;
        let (sequence, expected) = (sequence.value(), stored.last + 1);
        if sequence != expected {
            return Err(Fault::Damaged(format!("event {expected} is missing")));
        }
        let what = format!("event {sequence}");
        stored.recovered.events.push(decode(&what, event.value())?);
        stored.last = sequence;
    }
    Ok(Some(stored))
}

fn decode<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Fault> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(Fault::Damaged(format!("{what} is followed by foreign bytes"))),
        Err(error) => Err(Fault::Damaged(format!("{what}: {error}"))),
    }
}

fn check_spec(json: Option<Vec<u8>>, spec: &AppSpec) -> Result<(), Fault> {
    let stored: AppSpec = serde_json::from_slice(&json.unwrap_or_default())
        .map_err(|error| Fault::Damaged(format!("the application's description: {error}")))?;
    if stored == *spec {
        return Ok(());
    }
    let whose = format!("application `{}`, run `{}`", stored.name, stored.run);
    let same_run = stored.name == spec.name && stored.run == spec.run;
    Err(Fault::OtherSpec(if same_run {
        format!("{whose}, which has changed since in its {}", changed_part(&stored, spec))
    } else {
        whose
    }))
}

fn changed_part(stored: &AppSpec, spec: &AppSpec) -> &'static str {
    if stored.pools != spec.pools {
        "pools"
    } else if stored.channels != spec.channels {
        "channels"
    } else if stored.tasks != spec.tasks {
        "tasks"
    } else {
        "splits"
    }
}

fn initialise(database: &Database, spec: &AppSpec) -> Result<(), Fault> {
    let json = serde_json::to_vec(spec)
        .map_err(|error| Fault::Damaged(format!("the application's description: {error}")))?;
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("spec", json.as_slice())?;
        transaction.open_table(EVENTS)?;
    }
    transaction.commit()?;
    Ok(())
}

fn write_all(database: &Database, queue: &mpsc::Receiver<Entry>, synced: &watch::Sender<Synced>) {
    while let Ok(first) = queue.recv() {
        let group: Vec<Entry> = std::iter::once(first).chain(queue.try_iter()).collect();
        let outcome = match write_group(database, &group) {
            Ok(through) => Synced::Through(through),
            Err(error) => Synced::Failed(error),
        };
        let failed = matches!(outcome, Synced::Failed(_));
        synced.send_replace(outcome);
        if failed {
            return;
        }
    }
}

/// One durable transaction; answers the last sequence number in it.
fn write_group(database: &Database, group: &[Entry]) -> Result<u64, String> {
    let mut through = 0;
    let text = |error: redb::Error| error.to_string();
    let write = |through: &mut u64| -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            let mut events = transaction.open_table(EVENTS)?;
            for entry in group {
                match entry {
                    Entry::Event(sequence, event) => {
                        events.insert(sequence, encode(event)?.as_slice())?;
                        *through = *sequence;
                    }
                    Entry::Snapshot(sequence, durable) => {
                        let mut bytes = sequence.to_le_bytes().to_vec();
                        bytes.extend(encode(durable)?);
                        transaction.open_table(META)?.insert("snapshot", bytes.as_slice())?;
                        events.retain_in::<u64, _>(..=*sequence, |_, _| false)?;
                        *through = *sequence;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    };
    write(&mut through).map_err(text)?;
    Ok(through)
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, redb::Error> {
    postcard::to_stdvec(value).map_err(|error| redb::Error::Io(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::example;
    use crate::split::SplitSpec;

    fn spec() -> AppSpec {
        example(1000, SplitSpec::default())
    }

    fn sealed(count: u64) -> Event {
        Event::SetSealed { set: "train".into(), count }
    }

    fn wait(journal: &Journal, sequence: u64) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(journal.synced(sequence))
    }

    fn open_error(dir: &Path, spec: &AppSpec) -> Error {
        Journal::open(dir, spec).map(|_| ()).unwrap_err()
    }

    #[test]
    fn synced_events_are_there_without_a_clean_end() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, recovered) = Journal::open(dir.path(), &spec()).unwrap();
        assert!(recovered.events.is_empty());
        let last = journal.append((0..100).map(sealed).collect());
        wait(&journal, last).unwrap();
        // What a kill -9 at this moment would leave.
        let crashed = tempfile::tempdir().unwrap();
        fs::copy(dir.path().join(FILE), crashed.path().join(FILE)).unwrap();
        let (_, recovered) = Journal::open(crashed.path(), &spec()).unwrap();
        assert_eq!(recovered.events, (0..100).map(sealed).collect::<Vec<_>>());
    }

    #[test]
    fn a_snapshot_replaces_the_events_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), &spec()).unwrap();
        journal.append((0..SNAPSHOT_EVERY - 1).map(sealed).collect());
        assert!(!journal.wants_snapshot());
        journal.append(vec![sealed(7)]);
        assert!(journal.wants_snapshot());
        journal.snapshot(Durable::default());
        assert!(!journal.wants_snapshot());
        let last = journal.append(vec![sealed(8)]);
        assert_eq!(last, SNAPSHOT_EVERY + 1);
        journal.close();
        let (journal, recovered) = Journal::open(dir.path(), &spec()).unwrap();
        assert_eq!(recovered.snapshot, Some(Durable::default()));
        assert_eq!(recovered.events, [sealed(8)]);
        assert_eq!(journal.append(vec![sealed(9)]), last + 1);
    }

    #[test]
    fn a_journal_has_one_owner_and_one_spec() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), &spec()).unwrap();
        let error = open_error(dir.path(), &spec()).to_string();
        assert!(error.contains("another coordinator"), "{error}");
        drop(journal);
        let mut other = spec();
        other.tasks[0].replicas = 9;
        let error = open_error(dir.path(), &other);
        assert_eq!(error.kind(), Kind::Input);
        assert!(error.to_string().contains("`photos`, run `one`"), "{error}");
        assert!(error.to_string().contains("changed since in its tasks"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), &spec()).unwrap();
        journal.append((0..5000).map(sealed).collect());
        journal.close();
        drop(journal);
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        let (mut silent, mut refused) = (Vec::new(), 0);
        for at in (0..whole.len()).step_by(whole.len() / 97) {
            let mut damaged = whole.clone();
            let end = (at + 64).min(whole.len());
            damaged[at..end].iter_mut().for_each(|byte| *byte ^= 0xa5);
            fs::write(&path, damaged).unwrap();
            match Journal::open(dir.path(), &spec()) {
                Ok((_, recovered)) if recovered.events.len() == 5000 => {}
                Ok((_, recovered)) => silent.push((at, recovered.events.len())),
                Err(error) => {
                    assert!(error.to_string().contains("journal.redb"), "{error}");
                    refused += 1;
                }
            }
        }
        assert_eq!(silent, [], "events vanished without a word");
        assert!(refused > 10, "{refused}");
        fs::write(&path, b"not a journal").unwrap();
        assert_eq!(open_error(dir.path(), &spec()).kind(), Kind::Corrupt);
    }

    #[test]
    fn a_closed_journal_promises_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), &spec()).unwrap();
        journal.close();
        let sequence = journal.append(vec![sealed(1)]);
        assert_eq!(wait(&journal, sequence).unwrap_err().kind(), Kind::Io);
    }
}
