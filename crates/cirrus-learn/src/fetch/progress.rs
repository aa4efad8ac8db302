//! How does a person see that something long is going on?
//!
//! Owns what is drawn on stderr. Knows nothing of what is measured.
//! Invariant: stdout is never touched, and without a terminal there is one line at the start
//! and one at the end.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// So many items.
    Items(u64),
}

/// Told about work that takes more than two seconds; one piece of work at a time.
pub trait Progress: Send + Sync {
    /// Work called `label` begins.
    fn start(&self, label: &str, total: Amount);
    /// So much of the total is done; more than the total counts as the total.
    fn advance_to(&self, done: u64);
    /// The work is done. Not called when it failed.
    fn finish(&self);
}

/// Tells nobody: for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _label: &str, _total: Amount) {}
    fn advance_to(&self, _done: u64) {}
    fn finish(&self) {}
}

/// Draws a bar on stderr where that is a terminal, and prints two lines where it is not.
#[derive(Debug, Default)]
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress for Terminal {
    fn start(&self, label: &str, total: Amount) {
        let (total, template) = match total {
            Amount::Bytes(total) => (total, "{msg} {wide_bar} {bytes}/{total_bytes} {eta}"),
            Amount::Items(total) => (total, "{msg} {wide_bar} {pos}/{len} {eta}"),
        };
        let bar = ProgressBar::no_length().with_message(label.to_owned());
        bar.set_length(total);
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        } else {
            eprintln!("{label} ...");
        }
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn advance_to(&self, done: u64) {
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.set_position(done.min(bar.length().unwrap_or(done)));
        }
    }

    fn finish(&self) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
            eprintln!("{}: done in {:.1} s", bar.message(), bar.elapsed().as_secs_f32());
        }
    }
}
