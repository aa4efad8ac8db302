//! Job files: an application and its arguments, in a file that can be kept.
//!
//! Owns the format: `app = "NAME"` and a table `[args]` whose keys are the application's flags; what
//! its stages cost may stand beside (`cirrus plan pipeline`). May not know which flags there are.
//! Invariant: a job file means exactly the flags it spells.

use std::ffi::OsString;
use std::process::ExitCode;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::apps::Named;
use crate::failure::Failure;
use crate::toml_file;

const HINT: &str = "it has `app = \"images\"` and a table [args] of flags, such as epochs = 2";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    app: String,
    #[serde(default)]
    args: toml::Table,
    /// For `cirrus plan pipeline`.
    #[serde(default, rename = "pipeline")]
    _pipeline: IgnoredAny,
}

/// Whether this is the name of a job file, and no application's.
pub(crate) fn is_file(name: &str) -> bool {
    name.ends_with(".toml")
}

/// Runs an application, or the job in a file.
pub(crate) fn run(named: Named) -> Result<ExitCode, Failure> {
    expanded(named)?.main("run")
}

/// Plans an application, or the job in a file.
pub(crate) fn plan(named: Named) -> Result<ExitCode, Failure> {
    expanded(named)?.main("plan")
}

/// Flags on the command line come after those of the file, and win.
fn expanded(named: Named) -> Result<Named, Failure> {
    let path = &named.app();
    if !is_file(path) {
        return Ok(named);
    }
    let job: Job = toml_file::read("job file", path, HINT)?;
    let mut args = Vec::new();
    for (flag, value) in &job.args {
        let flag_given = format!("--{flag}");
        let given = |arg: &OsString| {
            arg.to_str()
                .is_some_and(|arg| arg == flag_given || arg.starts_with(&format!("{flag_given}=")))
        };
        if !named.args().iter().any(given) {
            args.push(OsString::from(format!("{flag_given}={}", text_of(path, flag, value)?)));
        }
    }
    args.extend_from_slice(named.args());
    Ok(Named::new(job.app, args))
}

fn text_of(path: &str, flag: &str, value: &toml::Value) -> Result<String, Failure> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => Err(Failure::input(format!(
            "job file {path}: `{flag}` is {value}; expected a text or a number"
        ))),
    }
}
