//! The images job: train a network on images, the way a user of Cirrus would write it.
//!
//! Owns the application `images`: `load` fills the sets, `decode` makes batches of them, `train`
//! learns. May not use anything of Cirrus that an application cannot. Invariant: data, order and
//! first weights follow the seed.

mod decode;
mod load;
mod record;
mod train;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cirrus::{App, ByteSize, Settings, SplitSpec};
use serde::{Deserialize, Serialize};

use crate::datasets;
use crate::fetch::{Terminal, default_cache_dir};
pub use train::Consumer;

/// The arguments of the job.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Images to learn from: cifar10, photos, or a folder with one folder of images per class
    #[arg(long, value_name = "NAME|DIR", default_value = "cifar10")]
    pub data: String,
    /// How many times to go over the images
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,
    /// Learn from the first N images only, and judge by a fifth as many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Processes that decode
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpu_tasks: u32,
    /// What order, crops, flips and first weights are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Side of the network's square input, in pixels; by default 32 for cifar10, 64 otherwise
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(8..=1024))]
    pub size: Option<u32>,
    /// What takes the batches: cnn, or sink:RATE to take RATE images a second and learn nothing
    #[arg(long, value_name = "cnn|sink:RATE", default_value = "cnn")]
    pub trainer: Consumer,
    /// Capacity of the memory node that holds images and batches
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub memory: ByteSize,
    /// Where to save the model; by default in the run's folder
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

impl Args {
    fn pixels(&self) -> usize {
        let default = if self.data == "cifar10" { 32 } else { 64 };
        self.size.map_or(default, |size| size as usize)
    }
}

/// One decoded image on its way to the trainer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Image {
    label: u16,
    /// RGB, row by row.
    pixels: Bytes,
}

/// The sets and channels of the job.
const TRAIN: &str = "train";
const TEST: &str = "test";
const BATCHES: &str = "batches";

/// The job as an application.
pub fn app() -> App<Args> {
    App::new("images")
        .about("Train a network on images: load, decode and train as separate tasks")
        .args::<Args>()
        .channel::<Image>(BATCHES, "256MiB")
        .task(load::load::task().writes(TRAIN).writes(TEST))
        .task(decode::decode::task().reads(TRAIN).writes(BATCHES))
        .task(train::train::task().reads(BATCHES).reads(TEST))
        .configure(configure)
        .prepare(prepare)
}

fn configure(args: &Args, settings: &mut Settings) {
    settings.memory("data", args.memory);
    settings.replicas("decode", args.cpu_tasks);
    let (seed, epochs, batch) = (args.seed, args.epochs, args.batch);
    settings.splits(TRAIN, SplitSpec { seed, epochs, batch, ..SplitSpec::default() });
}

/// Fetches the data set where a person can see how far it is. A model that could not be saved is
/// refused before it is trained.
fn prepare(args: &Args) -> cirrus::Result<()> {
    if let Some(path) = &args.model {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).map_err(|error| {
            let text = format!("--model {}: cannot write there", path.display());
            cirrus::Error::input(text).with_source(error)
        })?;
    }
    open(args, &Terminal::default()).map(|_| ())
}

fn open(
    args: &Args,
    progress: &dyn crate::fetch::Progress,
) -> cirrus::Result<Box<dyn datasets::DataSet>> {
    Ok(datasets::open(&args.data, args.seed, &default_cache_dir()?, progress)?)
}
