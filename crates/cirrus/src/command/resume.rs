//! Going on with a run that ended before it was done.
//!
//! Owns what the arguments of such a run are. May not start anything. Invariant: a run goes on with
//! what it was told, and with what it is told now where that does not change its batches.

use std::ffi::OsString;

use crate::error::{Error, Result};
use crate::rundir::{RunDir, read_json};
use crate::spec::AppSpec;

const FLAG: &str = "--resume";

/// The words of a command line.
pub(super) enum Words {
    Given(Vec<OsString>),
    /// Those that the run was told, then those that it is told now, which win.
    Resumed(Vec<OsString>),
}

/// What to read the arguments from.
pub(super) fn words(app: &str, args: Vec<OsString>) -> Result<Words> {
    let texts: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    let named = texts.iter().find_map(|text| text.strip_prefix("--resume="));
    let place = texts.iter().position(|text| *text == FLAG);
    if texts.get(1) != Some(&"run") || (named.is_none() && place.is_none()) {
        return Ok(Words::Given(args));
    }
    let after = place.and_then(|place| texts.get(place + 1));
    let run = named.or(after.copied()).filter(|run| !run.is_empty() && !run.starts_with('-'));
    let mut words: Vec<OsString> =
        RunDir::args_of(app, run)?.into_iter().map(OsString::from).collect();
    words.extend(args.into_iter().skip(2));
    Ok(Words::Resumed(words))
}

/// Refuses arguments under which the run would make other batches.
pub(super) fn check_unchanged(dir: &RunDir, spec: &AppSpec) -> Result<()> {
    let before: AppSpec = read_json(&dir.spec())?;
    match before.changed_part(spec) {
        None => Ok(()),
        Some(part) => Err(Error::input(format!(
            "run {} of `{}` had other {part}: resume it without the argument that changes them, or \
             start anew",
            spec.run, spec.name
        ))),
    }
}
