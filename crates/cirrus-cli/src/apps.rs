//! The applications that the program holds.
//!
//! Owns the list: adding one is a line here. May not know what they do. Invariant: an application
//! is found by the name that it has itself.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::failure::Failure;

/// Every application: its name, and its command line.
type Main = fn(Vec<OsString>) -> ExitCode;
const APPS: [(&str, Main); 1] = [("images", |args| cirrus_learn::images::app().main_from(args))];

/// An application and what it is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// An application (images), or for run and plan a job file (*.toml)
    #[arg(value_name = "APP")]
    pub(crate) app: String,
    /// What the application is told; `cirrus run APP --help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
}

impl Named {
    /// Hands the rest of the command line to the application.
    pub(crate) fn main(self, verb: &str) -> Result<ExitCode, Failure> {
        let mut args = vec![OsString::from(&self.app), OsString::from(verb)];
        args.extend(self.args);
        main(&self.app, args)
    }
}

/// `cirrus VERB APP ARGS…` with an application that exists goes to it word for word, so that its
/// own `--help` and errors are shown.
pub(crate) fn named_on_command_line() -> Option<Result<ExitCode, Failure>> {
    let mut args = std::env::args_os().skip(1);
    let (verb, app) = (args.next()?, args.next()?);
    let verbs = ["run", "plan", "status", "logs", "down"];
    let (verb, app) = (verb.to_str()?, app.to_str()?);
    if !verbs.contains(&verb) || !APPS.iter().any(|(name, _)| *name == app) {
        return None;
    }
    Some(Named { app: app.to_owned(), args: args.collect() }.main(verb))
}

/// Runs an application's command line.
pub(crate) fn main(app: &str, args: Vec<OsString>) -> Result<ExitCode, Failure> {
    match APPS.iter().find(|(name, _)| *name == app) {
        Some((_, main)) => Ok(main(args)),
        None => {
            let names: Vec<&str> = APPS.iter().map(|(name, _)| *name).collect();
            Err(Failure::input(format!(
                "there is no application `{app}`; there is {}",
                names.join(", ")
            )))
        }
    }
}
