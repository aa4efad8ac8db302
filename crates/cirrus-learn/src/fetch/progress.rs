//! How does a person see that something long is going on?
//!
//! Owns what is drawn on stderr. Knows nothing of what is measured.
//! Invariant: stdout is never touched, and without a terminal nothing is said of work that takes
//! under two seconds, and two lines of any other.

use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal, what takes less than this is not spoken of.
const SILENT: Duration = Duration::from_secs(2);

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
    work: Mutex<Option<Work>>,
}

#[derive(Debug)]
struct Work {
    bar: ProgressBar,
    announced: bool,
}

impl Terminal {
    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Terminal {
    fn start(&self, label: &str, total: Amount) {
        let (total, template) = match total {
            Amount::Bytes(total) => (total, "{msg} {wide_bar} {bytes}/{total_bytes} {eta}"),
            Amount::Items(total) => (total, "{msg} {wide_bar} {pos}/{len} {eta}"),
        };
        let bar = ProgressBar::no_length().with_message(label.to_owned());
        bar.set_length(total);
        let announced = std::io::stderr().is_terminal();
        if announced {
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        *self.work() = Some(Work { bar, announced });
    }

    fn advance_to(&self, done: u64) {
        if let Some(work) = &mut *self.work() {
            if !work.announced && work.bar.elapsed() > SILENT {
                work.announced = true;
                eprintln!("{} ...", work.bar.message());
            }
            work.bar.set_position(done.min(work.bar.length().unwrap_or(done)));
        }
    }

    fn finish(&self) {
        if let Some(Work { bar, announced }) = self.work().take() {
            bar.finish_and_clear();
            if announced {
                eprintln!("{}: done in {:.1} s", bar.message(), bar.elapsed().as_secs_f32());
            }
        }
    }
}
