//! The task that turns encoded images into batches.
//!
//! Owns `decode`. May not know who trains on them. Invariant: the pixels depend only on the record
//! and on (seed, epoch, record).

use cirrus::Context;

use super::{Args, BATCHES, Image, TRAIN, record};
use crate::datasets::Sample;
use crate::error::{Error, Result};
use crate::image::{Augment, Pixels, decode as decode_pixels};

/// Decodes, crops, resizes and flips.
#[cirrus::task(cpu = 1, memory = "512MiB", replicas = 1..=64)]
pub(super) fn decode(ctx: Context, args: Args) -> cirrus::Result<()> {
    let mut augment = Augment::new(args.pixels())?;
    ctx.splits(TRAIN)?.map_into(BATCHES, |record, rng| {
        let sample = record::decode(record.bytes)?;
        let pixels = augment.train(&pixels_of(&sample)?, rng)?.into();
        Ok(Image { label: sample.label, pixels })
    })
}

/// The pixels of a sample; an error names its file.
pub(super) fn pixels_of(sample: &Sample) -> Result<Pixels> {
    decode_pixels(&sample.encoded).map_err(|error| {
        let text = format!("image {} is corrupt: {error}; repair or remove it", sample.name);
        Error::new(error.kind(), text)
    })
}
