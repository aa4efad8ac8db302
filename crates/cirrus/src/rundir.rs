//! Where a run keeps its files, and how a later command finds it.
//!
//! Owns the layout `<state>/<app>/<run>/{run.json, lock, logs/, coordinator/, …}`. May not know
//! what is in the files of others. Invariant: a run whose lock can be taken is over.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Runs of an application that are kept; older ones are removed when a new one starts.
const RUNS_KEPT: usize = 10;

/// A run's folder.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    path: PathBuf,
}

/// What a later command needs to know about a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    pub(crate) run: String,
    pub(crate) pid: u32,
    pub(crate) coordinator: SocketAddr,
}

/// Held by the process that leads a run, for as long as it lives.
#[derive(Debug)]
pub(crate) struct RunLock(#[expect(dead_code, reason = "held, never read")] File);

impl RunDir {
    /// A new folder for a run of `app`, and its lock.
    pub(crate) fn create(app: &str) -> Result<(String, Self, RunLock)> {
        let root = root(app)?;
        create_dir(&root).map_err(|error| {
            let text = format!("{error}; set CIRRUS_STATE_DIR to a folder that can be written");
            Error::input(text)
        })?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Sorts by time; the process makes runs that start together distinct.
        let run = format!("{:011}-{}", since.as_millis() / 100, std::process::id());
        let dir = Self { path: root.join(&run) };
        create_dir(&dir.path)?;
        create_dir(&dir.logs())?;
        let lock = File::create(dir.lock()).map_err(|error| unwritable(&dir.lock(), error))?;
        lock.lock().map_err(|error| unwritable(&dir.lock(), error))?;
        prune(&root)?;
        Ok((run, dir, RunLock(lock)))
    }

    /// The folder of a run of `app` that ended before it was done, and its lock; of the latest run
    /// if none is named.
    pub(crate) fn resume(app: &str, run: Option<&str>) -> Result<(String, Self, RunLock)> {
        let (run, dir) = Self::find(app, run)?;
        let lock = File::open(dir.lock()).map_err(|error| unreadable(&dir.lock(), error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::input(format!(
                    "run {run} of `{app}` goes on; end it with `down` before it is resumed"
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unreadable(&dir.lock(), error)),
        }
        if dir.summary().exists() {
            return Err(Error::input(format!(
                "run {run} of `{app}` is done: there is nothing to resume"
            )));
        }
        // Nobody is where its coordinator was: who asks now waits for the new one.
        match fs::remove_file(dir.run_record()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(unwritable(&dir.run_record(), error));
            }
            Ok(()) | Err(_) => {}
        }
        Ok((run, dir, RunLock(lock)))
    }

    /// What the run was told, with what it was told when it was resumed.
    pub(crate) fn args_of(app: &str, run: Option<&str>) -> Result<Vec<String>> {
        let (run, dir) = Self::find(app, run)?;
        if !dir.args().exists() {
            return Err(Error::input(format!(
                "run {run} of `{app}` is done, or had not begun: there is nothing to resume"
            )));
        }
        read_json(&dir.args())
    }

    fn find(app: &str, run: Option<&str>) -> Result<(String, Self)> {
        let Some(run) = run else {
            let (dir, _) = Self::latest(app)?;
            return Ok((dir.name(), dir));
        };
        let mut runs: Vec<_> = runs(&root(app)?)?.into_iter().map(Self::at).collect();
        match runs.iter().position(|dir| dir.name() == run) {
            Some(place) => Ok((run.to_owned(), runs.swap_remove(place))),
            None => {
                runs.retain(|dir| dir.args().exists());
                let names: Vec<String> = runs.iter().map(Self::name).collect();
                let names = match names.is_empty() {
                    true => "none can be resumed".to_owned(),
                    false => format!("not done are {}", names.join(", ")),
                };
                Err(Error::not_found(format!("`{app}` has no run {run} here: {names}")))
            }
        }
    }

    /// The run's own.
    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The folder of a run that this process is part of.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The latest run of `app`, and whether it is over.
    pub(crate) fn latest(app: &str) -> Result<(Self, bool)> {
        let runs = runs(&root(app)?)?;
        let latest = runs.into_iter().next_back().ok_or_else(|| {
            Error::not_found(format!("`{app}` has not run here; start it with its command `run`"))
        })?;
        let over = is_over(&latest);
        Ok((Self { path: latest }, over))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }

    pub(crate) fn coordinator(&self) -> PathBuf {
        self.path.join("coordinator")
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.path.join("app.json")
    }

    /// The arguments of `run`.
    pub(crate) fn args(&self) -> PathBuf {
        self.path.join("args.json")
    }

    /// The figures of a run that is done.
    pub(crate) fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Leaves word of where the run can be reached.
    pub(crate) fn write_record(&self, record: &RunRecord) -> Result<()> {
        write_json(&self.run_record(), record)
    }

    /// Where the run can be reached.
    pub(crate) fn record(&self) -> Result<RunRecord> {
        match self.run_record().try_exists() {
            Ok(false) => {
                Err(Error::input(format!("run {} is starting; ask again in a moment", self.name())))
            }
            Ok(true) | Err(_) => read_json(&self.run_record()),
        }
    }

    fn run_record(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// Blocks until the process that leads the run has ended.
    pub(crate) fn wait_until_over(&self) -> Result<()> {
        let lock = File::open(self.lock()).map_err(|error| unreadable(&self.lock(), error))?;
        lock.lock().map_err(|error| unreadable(&self.lock(), error))
    }

    /// Where checkpoints outlive the run's memory.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Removes what only a run needs that is not done.
    pub(crate) fn clean(&self) {
        // What is left is removed with the whole run later.
        let _ = fs::remove_dir_all(self.coordinator());
        let _ = fs::remove_dir_all(self.checkpoints());
        let _ = fs::remove_file(self.args());
    }
}

/// Writes JSON so that a reader sees all of it or nothing.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::internal(format!("cannot write {path:?}")).with_source(error))?;
    write_whole(path, &text)
}

/// Writes a file so that a reader, or a crash, sees all of it or nothing.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    // Readable by whom the umask says, as any file that a program writes.
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|error| unwritable(path, error))?;
    file.write_all(bytes).map_err(|error| unwritable(path, error))?;
    file.as_file().sync_all().map_err(|error| unwritable(path, error))?;
    file.persist(path).map_err(|error| unwritable(path, error.error))?;
    Ok(())
}

/// Makes the names in a folder outlive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::io(format!("cannot sync {}", dir.display()), error))
}

/// Reads what [`write_json`] wrote.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(|error| unreadable(path, error))?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::corrupt(format!("{} is not what Cirrus writes", path.display())).with_source(error)
    })
}

fn root(app: &str) -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("CIRRUS_STATE_DIR")
        .or_else(|| set("XDG_STATE_HOME").map(|state| state.join("cirrus")))
        .or_else(|| set("HOME").map(|home| home.join(".local/state/cirrus")));
    match state {
        Some(state) => Ok(state.join(app)),
        None => Err(Error::input("no place for runs: set CIRRUS_STATE_DIR or HOME")),
    }
}

fn runs(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(root, error)),
    };
    let mut runs = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(root, error))?.path();
        if path.is_dir() {
            runs.push(path);
        }
    }
    runs.sort();
    Ok(runs)
}

fn is_over(run: &Path) -> bool {
    match File::open(run.join("lock")).map(|lock| lock.try_lock()) {
        Ok(Err(TryLockError::WouldBlock)) => false,
        Ok(Ok(()) | Err(TryLockError::Error(_))) | Err(_) => true,
    }
}

fn prune(root: &Path) -> Result<()> {
    let runs = runs(root)?;
    let old = runs.len().saturating_sub(RUNS_KEPT);
    for run in runs.iter().take(old).filter(|run| is_over(run)) {
        fs::remove_dir_all(run).map_err(|error| unwritable(run, error))?;
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| unwritable(path, error))
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("cannot write {}", path.display()), error)
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("cannot read {}", path.display()), error)
}
