//! The task that puts examples into memory.
//!
//! Owns `load`: blocks of examples, to learn from and to judge by. Knows no formats.
//! Invariant: an example is in one of both sets, and which follows from the data and the seed.

use cirrus::{Context, SetWriter};

use super::board::{Board, runtime};
use super::{Args, Facts, Kind, TEST, TRAIN};
use crate::error::{Error, Result};
use crate::examples::Examples;
use crate::examples::source::{self, Side};
use crate::fetch::{Silent, default_cache_dir};

/// Stores all examples in blocks.
#[expect(clippy::cast_possible_truncation, reason = "a mean of many digits is rounded")]
#[cirrus::task(cpu = 1, memory = "1GiB")]
pub(super) fn load(ctx: Context, args: Args) -> cirrus::Result<()> {
    let mut train = Blocks::new(ctx.write_set(TRAIN)?, args.block());
    let mut test = Blocks::new(ctx.write_set(TEST)?, args.block());
    let mut failed = None;
    let held_out = if args.test_data.is_some() { 0.0 } else { args.held_out };
    let cache_dir = default_cache_dir()?;
    let mut labels = Labels { kind: args.kind, ..Labels::default() };
    let mut unknown = 0_u64;
    let mut read = |data: &str, options: &source::Options, all: Option<Side>, rows: u32| {
        let mut each = |side: Side, label: f32, features: &[(u32, f32)]| {
            if ctx.is_cancelled() {
                return Err(Error::new(crate::ErrorKind::Cancelled, "loading"));
            }
            let side = all.unwrap_or(side);
            if features.iter().any(|(index, _)| *index >= rows) {
                unknown += 1;
                return Ok(());
            }
            labels.check(label, side)?;
            let blocks = if side == Side::Test { &mut test } else { &mut train };
            blocks.push(label, features).map_err(|error| {
                failed = Some(error);
                Error::input("the store failed")
            })
        };
        let read = source::read(data, options, &cache_dir, &Silent, &mut each);
        match failed.take() {
            Some(error) => Err(error),
            None => Ok(read?),
        }
    };
    let mut options = args.options(held_out);
    let mut found = read(&args.data, &options, None, u32::MAX)?;
    if let Some(data) = &args.test_data {
        // Whom the examples to learn from do not name, nothing is known of.
        options.names.clone_from(&found.names);
        let rows = if found.names.is_some() { found.features } else { u32::MAX };
        let more = read(data, &options, Some(Side::Test), rows)?;
        if found.names.is_none() {
            found.features = found.features.max(more.features);
        }
        found.bad_rows += more.bad_rows;
        found.samples.extend(more.samples);
    }
    if train.count == 0 {
        let text = format!("--data {}: there is no example to learn from", args.data);
        return Err(cirrus::Error::input(text));
    }
    ctx.report("examples", train.count)?;
    if unknown > 0 {
        ctx.report("test_unknown", unknown)?;
    }
    if found.bad_rows > 0 {
        ctx.report("bad_rows", found.bad_rows)?;
        ctx.report("bad_rows_first", &found.samples)?;
    }
    let facts = Facts {
        features: found.features,
        users: found.users,
        classes: labels.classes,
        mean: (labels.sum / train.count as f64) as f32,
        examples: train.count,
    };
    test.seal()?;
    train.seal()?;
    let board = Board::new(&ctx)?;
    runtime()?.block_on(async {
        if let Some(names) = &found.names {
            board.tell_names(names).await?;
        }
        // Whoever knows the facts may count on all else.
        board.tell_facts(&facts).await
    })
}

/// What labels there are, of examples to learn from.
#[derive(Debug, Default)]
struct Labels {
    kind: Kind,
    sum: f64,
    /// Above every label, if all are whole numbers from 0 on.
    classes: u32,
}

/// More classes than this are numbers taken for classes.
const CLASSES_MAX: f32 = 10_000.0;

impl Labels {
    #[expect(clippy::cast_possible_truncation, reason = "labels of classes are small")]
    fn check(&mut self, label: f32, side: Side) -> Result<()> {
        let is_class = label >= 0.0 && label.fract() == 0.0 && label < CLASSES_MAX;
        let expected = match self.kind {
            Kind::Logistic if label != 0.0 && label != 1.0 => "0 or 1",
            Kind::Softmax if !is_class => "the number of a class, from 0 on",
            _ => {
                if side == Side::Train {
                    self.sum += f64::from(label);
                }
                // What is no class makes them numbers for good.
                let above = if is_class { label as u32 + 1 } else { u32::MAX };
                self.classes = self.classes.max(above);
                return Ok(());
            }
        };
        let text = format!("a label is {label}; {} takes {expected}", self.kind.name());
        Err(Error::input(text))
    }
}

struct Blocks {
    set: SetWriter,
    block: Examples,
    len: usize,
    count: u64,
}

impl Blocks {
    fn new(set: SetWriter, len: u32) -> Self {
        Self { set, block: Examples::default(), len: len as usize, count: 0 }
    }

    fn push(&mut self, label: f32, features: &[(u32, f32)]) -> cirrus::Result<()> {
        self.count += 1;
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
