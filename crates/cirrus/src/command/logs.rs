//! The `logs` command.
//!
//! Owns how the logs of a run are printed and followed. May not know what is in them. Invariant: a
//! line is printed whole, and once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::write_while_read;
use crate::error::{Error, Result};
use crate::rundir::RunDir;

/// How often a log that is followed is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn print_logs(app: &str, process: Option<&str>, follow: bool) -> Result<()> {
    let (dir, mut over) = RunDir::latest(app)?;
    let mut printed: BTreeMap<PathBuf, u64> = BTreeMap::new();
    loop {
        let logs = logs(&dir, process)?;
        let several = logs.len() > 1;
        for (name, path) in logs {
            let from = printed.entry(path.clone()).or_default();
            match print_from(&path, several.then_some(&name), *from)? {
                Some(end) => *from = end,
                None => return Ok(()),
            }
        }
        if !follow || over {
            return Ok(());
        }
        std::thread::sleep(FOLLOW_INTERVAL);
        // What was written before the end is printed in one more round.
        over = RunDir::latest(app)?.1;
    }
}

fn logs(dir: &RunDir, process: Option<&str>) -> Result<Vec<(String, PathBuf)>> {
    let folder = dir.logs();
    let entries = fs::read_dir(&folder)
        .map_err(|error| Error::io(format!("cannot read {}", folder.display()), error))?;
    let mut logs: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_stem()?.to_str()?.to_owned(), path))
        })
        .collect();
    logs.sort();
    let Some(wanted) = process else { return Ok(logs) };
    let names: Vec<String> = logs.iter().map(|(name, _)| name.clone()).collect();
    logs.retain(|(name, _)| name == wanted);
    match logs.is_empty() {
        false => Ok(logs),
        true => Err(Error::input(format!(
            "the latest run has no process `{wanted}`; it has {}",
            names.join(", ")
        ))),
    }
}

/// Prints the whole lines from `from` on; where they end, or nothing when nobody reads any more.
fn print_from(path: &Path, name: Option<&String>, mut from: u64) -> Result<Option<u64>> {
    let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(failed)? > 0 && line.ends_with(b"\n") {
        from += line.len() as u64;
        let text = String::from_utf8_lossy(&line);
        let is_read = write_while_read(|out| match name {
            Some(name) => writeln!(out, "{name} | {}", text.trim_end()),
            None => writeln!(out, "{}", text.trim_end()),
        })?;
        if !is_read {
            return Ok(None);
        }
        line.clear();
    }
    Ok(Some(from))
}
