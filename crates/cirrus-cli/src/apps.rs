//! The applications that the program holds.
//!
//! Owns the list: adding one is a line here. May not know what they do. Invariant: an application
//! is found by the name that it has itself.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::failure::Failure;
use crate::job;

/// Every application: its name, and its command line.
type Main = fn(Vec<OsString>) -> ExitCode;
const APPS: [(&str, Main); 2] = [
    ("images", |args| cirrus_learn::images::app().main_from(args)),
    ("train", |args| cirrus_learn::job::app().main_from(args)),
];

/// An application and what it is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// An application (images, train), or for run and plan a job file (*.toml), and what it is told;
    /// `cirrus run images --help` lists that
    // One argument, because clap would keep `--help` to itself if it came between two.
    #[arg(required = true, trailing_var_arg = true, value_name = "APP [ARGS]")]
    words: Vec<OsString>,
}

impl From<Vec<OsString>> for Named {
    fn from(words: Vec<OsString>) -> Self {
        Self { words }
    }
}

impl Named {
    /// This application, told this.
    pub(crate) fn new(app: String, args: Vec<OsString>) -> Self {
        Self { words: [vec![OsString::from(app)], args].concat() }
    }

    /// The application or job file.
    pub(crate) fn app(&self) -> String {
        self.words.first().map(|app| app.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether there is such an application, or it is the name of a job file.
    pub(crate) fn is_known(&self) -> bool {
        let app = self.app();
        job::is_file(&app) || APPS.iter().any(|(name, _)| *name == app)
    }

    /// What it is told.
    pub(crate) fn args(&self) -> &[OsString] {
        self.words.get(1..).unwrap_or_default()
    }

    /// Hands the rest of the command line to the application.
    pub(crate) fn main(self, verb: &str) -> Result<ExitCode, Failure> {
        let app = self.app();
        let mut args = vec![OsString::from(&app), OsString::from(verb)];
        args.extend_from_slice(self.args());
        main(&app, args)
    }
}

/// Runs an application's command line.
pub(crate) fn main(app: &str, args: Vec<OsString>) -> Result<ExitCode, Failure> {
    match APPS.iter().find(|(name, _)| *name == app) {
        Some((_, main)) => Ok(main(args)),
        None => {
            Err(Failure::input(format!("there is no application `{app}`; there are {}", names())))
        }
    }
}

/// The names of all, in a row.
pub(crate) fn names() -> String {
    APPS.map(|(name, _)| name).join(", ")
}
