//! How the coordinator's events outlive it.
//!
//! Owns the file `journal.redb` and the thread that writes it. May not know what events mean.
//! Invariant: an event passes the journal's gate only once it survives a power cut.
//!
//! Layout: table `events` maps a sequence number to one postcard event; table `meta` holds
//! `format`, `spec` (JSON) and `snapshot` (the sequence number it covers, 8 bytes little-endian,
//! then the postcard state). A snapshot removes the events that it covers.
//!
//! Group commit: while one transaction is synced the next events queue up, and all of them become
//! the next transaction. The queue is bounded by the callers: each waits for its own events, and
//! the server bounds its connections.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::gate::{Gate, GateKeeper, Log, Recovered};
use super::state::{Durable, Event};
use crate::error::{Error, Result};
use crate::rundir::sync_dir;
use crate::spec::AppSpec;

const FILE: &str = "journal.redb";
const FORMAT: &[u8] = b"cirrus coordinator journal 2";
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
    gate: Gate,
    writer: Mutex<Option<JoinHandle<()>>>,
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

impl Journal {
    /// Opens or creates the journal in `dir` and starts its thread. Refuses a damaged file, one
    /// that another process has open, and one of another spec.
    pub(crate) fn open(dir: &Path, spec: &AppSpec) -> Result<(Self, Recovered)> {
        let path = dir.join(FILE);
        fs::create_dir_all(dir)
            .map_err(|error| Error::io(format!("cannot create {}", dir.display()), error))?;
        let database = open_database(&path)?;
        // A new file's name must survive a power cut as well as its content.
        sync_dir(dir)?;
        Self::start(database, spec).map_err(|fault| fault.of(&path))
    }

    /// Goes on with what `database` holds, or begins anew in it if it is empty.
    fn start(database: Database, spec: &AppSpec) -> Result<(Self, Recovered), Fault> {
        let stored = match load(&database, spec)? {
            Some(stored) => stored,
            None => {
                initialise(&database, spec)?;
                Stored::default()
            }
        };
        let (sender, receiver) = mpsc::channel();
        let (keeper, gate) = Gate::new(stored.last);
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || write_all(&database, &receiver, &keeper))
            .map_err(Fault::NoThread)?;
        let queue = Queue { sender, last: stored.last, last_snapshot: stored.snapshot_at };
        let journal =
            Self { queue: Mutex::new(Some(queue)), gate, writer: Mutex::new(Some(writer)) };
        Ok((journal, stored.recovered))
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

impl Log for Journal {
    fn append(&self, events: Vec<Event>) -> u64 {
        let mut queue = self.queue.lock();
        // A closed journal syncs nothing any more; waiting for the next number says so.
        let Some(queue) = queue.as_mut() else { return u64::MAX };
        for event in events {
            queue.last += 1;
            // A failed send means that the thread ended, and the gate says why.
            let _ = queue.sender.send(Entry::Event(queue.last, event));
        }
        queue.last
    }

    fn wants_snapshot(&self) -> bool {
        let queue = self.queue.lock();
        queue.as_ref().is_some_and(|queue| queue.last - queue.last_snapshot >= SNAPSHOT_EVERY)
    }

    fn snapshot(&self, durable: Durable) {
        if let Some(queue) = self.queue.lock().as_mut() {
            queue.last_snapshot = queue.last;
            let _ = queue.sender.send(Entry::Snapshot(queue.last, Box::new(durable)));
        }
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
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
    NoThread(std::io::Error),
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
            Self::NoThread(error) => Error::io(format!("cannot start the thread of {path}"), error),
        }
    }
}

/// Everything that goes wrong while reading pages means that the file is not what was written.
impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Damaged(error.into().to_string())
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    // A page that was altered must not be trusted, and reading the whole journal is cheap.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn open_database(path: &Path) -> Result<Database> {
    builder().create(path).map_err(|error| match error {
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
    let whose = format!("application `{}`, run `{}`", stored.name, stored.run);
    if stored.name != spec.name || stored.run != spec.run {
        return Err(Fault::OtherSpec(whose));
    }
    match stored.changed_part(spec) {
        None => Ok(()),
        Some(part) => {
            Err(Fault::OtherSpec(format!("{whose}, which has changed since in its {part}")))
        }
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

fn write_all(database: &Database, queue: &mpsc::Receiver<Entry>, keeper: &GateKeeper) {
    while let Ok(first) = queue.recv() {
        let group: Vec<Entry> = std::iter::once(first).chain(queue.try_iter()).collect();
        match write_group(database, &group) {
            Ok(through) => keeper.synced(through),
            Err(error) => return keeper.failed(error),
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
mod power;
#[cfg(test)]
mod tests;
