//! Job files: an application and its arguments, in a file that can be kept.
//!
//! Owns the format: `app = "NAME"` and a table `[args]` whose keys are the application's flags.
//! May not know which flags there are. Invariant: a job file means exactly the flags it spells.

use std::ffi::OsString;
use std::process::ExitCode;

use serde::Deserialize;

use crate::apps::Named;
use crate::failure::Failure;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    app: String,
    #[serde(default)]
    args: toml::Table,
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
    if !path.ends_with(".toml") {
        return Ok(named);
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::input(format!("cannot read job file {path}: {error}")))?;
    let job: Job = toml::from_str(&text).map_err(|error| {
        let problem = error.message().replace('\n', " ");
        let line = error.span().map_or(1, |span| {
            text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
        });
        Failure::input(format!(
            "job file {path}, line {line}: {problem}; it has `app = \"images\"` and a table \
             [args] of flags, such as epochs = 2"
        ))
    })?;
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
