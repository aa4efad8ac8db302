//! Which images are there to learn from?
//!
//! Owns the data sets that can be named, one file each. Knows nothing of decoding for training,
//! of models, or of where samples are stored.
//! Invariant: a data set gives the same samples under the same names in the same order every
//! time.

mod cifar10;
mod folder;
mod photos;

use std::path::Path;

use bytes::Bytes;

pub use cifar10::Cifar10;
pub use folder::Folder;
pub use photos::{Photos, PhotosOptions};

use crate::error::Result;
use crate::fetch::Progress;

/// The data sets that [`open`] knows by name.
pub const NAMES: [&str; 2] = [cifar10::NAME, photos::NAME];

/// Which samples: those to learn from, or those to judge by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To judge by.
    Test,
}

impl Split {
    /// Its name in samples and paths: `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// One image with its class, still encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Index into [`DataSet::classes`].
    pub label: u16,
    /// Unique within the data set.
    pub name: String,
    /// A JPEG or a PNG.
    pub encoded: Bytes,
}

/// A set of labelled images.
pub trait DataSet: Send + Sync {
    /// What people call it.
    fn name(&self) -> &str;

    /// Its classes; a label is an index into them.
    fn classes(&self) -> &[String];

    /// How many samples a split has.
    fn samples(&self, split: Split) -> usize;

    /// Gives the samples of `split`, at most `limit`, to `sink`, in the same order each time.
    ///
    /// # Errors
    /// What `sink` returns, at once; or what makes a sample unreadable.
    fn for_each(
        &self,
        split: Split,
        limit: Option<usize>,
        sink: &mut dyn FnMut(Sample) -> Result<()>,
    ) -> Result<()>;
}

/// Opens the data set called `name`, one of [`NAMES`], or else the folder of that path. What a data
/// set makes itself (the crops and noise of the photographs) follows `seed`.
///
/// # Errors
/// Those of [`fetch`](crate::fetch::fetch) for a named one, those of [`Folder::open`] for a
/// folder.
pub fn open(
    name: &str,
    seed: u64,
    cache_dir: &Path,
    progress: &dyn Progress,
) -> Result<Box<dyn DataSet>> {
    match name {
        cifar10::NAME => Ok(Box::new(Cifar10::open(cache_dir, progress)?)),
        photos::NAME => {
            let options = PhotosOptions { seed, ..PhotosOptions::default() };
            Ok(Box::new(Photos::open(options, cache_dir, progress)?))
        }
        folder => Ok(Box::new(Folder::open(Path::new(folder))?)),
    }
}
