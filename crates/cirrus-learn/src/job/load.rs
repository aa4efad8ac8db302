//! The task that puts examples into memory.
//!
//! Owns `load`: blocks of examples, for training and for judging. Knows no formats.
//! Invariant: an example is in one of both sets, and which follows from the data and the seed.

use cirrus::{Context, SetWriter};

use super::{Args, TEST, TRAIN, data};
use crate::examples::Examples;

/// Stores all examples in blocks.
#[cirrus::task(cpu = 1, memory = "1GiB")]
pub(super) fn load(ctx: Context, args: Args) -> cirrus::Result<()> {
    let mut train = Blocks::new(ctx.write_set(TRAIN)?, args.block());
    let mut test = Blocks::new(ctx.write_set(TEST)?, args.block());
    let mut failed = Ok(());
    let mut n = 0_u32;
    data::synthetic(200_000, args.seed, |label, features| {
        n += 1;
        let blocks = if n % 10 == 0 { &mut test } else { &mut train };
        if failed.is_ok() {
            failed = blocks.push(label, features);
        }
    });
    failed?;
    test.seal()?;
    train.seal()
}

struct Blocks {
    set: SetWriter,
    block: Examples,
    len: usize,
}

impl Blocks {
    fn new(set: SetWriter, len: u32) -> Self {
        Self { set, block: Examples::default(), len: len as usize }
    }

    fn push(&mut self, label: f32, features: &[(u32, f32)]) -> cirrus::Result<()> {
        self.block.push(label, features.iter().copied());
        if self.block.len() >= self.len {
            self.set.push(self.block.to_record())?;
            self.block.clear();
        }
        Ok(())
    }

    fn seal(mut self) -> cirrus::Result<()> {
        if !self.block.is_empty() {
            self.set.push(self.block.to_record())?;
        }
        self.set.seal().map(|_| ())
    }
}
