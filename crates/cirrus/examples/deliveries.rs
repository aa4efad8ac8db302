//! Three ways to take the batches of a channel: in order, as they are ready, and without a state.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use cirrus::{App, ByteSize, Context, Error, Result, Settings, SplitSpec};

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum Delivery {
    /// Every batch once, in order
    Ordered,
    /// Every batch once, as they are ready
    Unordered,
    /// Every batch at least once: nothing is kept but how far it went
    AtLeastOnce,
}

#[derive(Debug, Clone, clap::Args)]
struct Args {
    /// How batches are delivered
    #[arg(long, value_enum, default_value = "ordered")]
    delivery: Delivery,
    /// How many numbers there are
    #[arg(long, default_value_t = 20_000)]
    numbers: u64,
    /// How many of them lie in an object
    #[arg(long, default_value_t = 1)]
    packing: u32,
    /// Processes that square them
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    workers: u32,
    /// How many bytes of squares may wait for the one who takes them
    #[arg(long, default_value = "8MiB")]
    room: ByteSize,
    /// Microseconds that it takes to square one
    #[arg(long, default_value_t = 0)]
    work: u64,
    /// Microseconds that it takes to take a batch
    #[arg(long, default_value_t = 0)]
    pause: u64,
}

#[cirrus::task(cpu = 1, memory = "64MiB")]
fn load(ctx: Context, args: Args) -> Result<()> {
    let mut numbers = ctx.write_set("numbers")?.packing(args.packing)?;
    for n in 0..args.numbers {
        numbers.push(n.to_le_bytes().to_vec())?;
    }
    numbers.seal().map(|_| ())
}

#[cirrus::task(cpu = 1, memory = "64MiB", replicas = 1..=8)]
fn square(ctx: Context, args: Args) -> Result<()> {
    ctx.splits("numbers")?.map_into("squares", |record, _| {
        std::thread::sleep(Duration::from_micros(args.work));
        let bytes = record.bytes.as_ref().try_into();
        let number = bytes.map(u64::from_le_bytes);
        number.map(|n| n * n).map_err(|_| Error::input("a record is not eight bytes"))
    })
}

/// Keeps the number of every batch that it took, and the sum of all squares.
#[cirrus::task(cpu = 1, memory = "64MiB")]
fn take(ctx: Context, args: Args) -> Result<()> {
    let mut batches = ctx.batches::<u64>("squares")?;
    let corrupt = |error: postcard::Error| Error::corrupt("a checkpoint").with_source(error);
    let restored = batches.restored().map(|bytes| postcard::from_bytes(bytes)).transpose();
    let (mut sum, mut taken): (u64, BTreeSet<u64>) = match args.delivery {
        Delivery::Ordered | Delivery::Unordered => restored.map_err(corrupt)?.unwrap_or_default(),
        Delivery::AtLeastOnce => Default::default(),
    };
    if args.delivery == Delivery::AtLeastOnce {
        batches = batches.at_least_once();
    }
    // What was taken, for whoever wants to see it: a line a batch, once more after a failure.
    let path = ctx.run_dir().join("taken");
    let failed = |error| Error::io(format!("cannot write {}", path.display()), error);
    let mut log = File::options().create(true).append(true).open(&path).map_err(failed)?;
    let state = |sum: u64, taken: &BTreeSet<u64>| -> Result<bytes::Bytes> {
        let bytes = postcard::to_stdvec(&(sum, taken));
        Ok(bytes.map_err(|error| Error::internal("a state").with_source(error))?.into())
    };
    while let Some(batch) = batches.next()? {
        sum = sum.wrapping_add(batch.items.iter().sum());
        if !taken.insert(batch.number) {
            return Err(Error::internal(format!("batch {} came twice", batch.number)));
        }
        // In one write, so that a kill leaves whole lines.
        log.write_all(format!("{}\n", batch.number).as_bytes()).map_err(failed)?;
        std::thread::sleep(Duration::from_micros(args.pause));
        if args.delivery != Delivery::AtLeastOnce {
            batches.checkpoint_when_due(|| state(sum, &taken))?;
        }
    }
    if args.delivery != Delivery::AtLeastOnce {
        batches.checkpoint(state(sum, &taken)?)?;
    }
    ctx.report("sum", sum)?;
    ctx.report("batches", taken.len())
}

fn configure(args: &Args, settings: &mut Settings) {
    settings.memory("data", ByteSize::mib(64));
    settings.replicas("square", args.workers);
    let splits = SplitSpec { batch: 16, batches_per_split: 4, ..SplitSpec::default() };
    settings.splits("numbers", splits);
    settings.channel_capacity("squares", args.room);
    if args.delivery == Delivery::Unordered {
        settings.unordered("squares");
    }
}

fn main() -> std::process::ExitCode {
    App::new("deliveries")
        .about("Take the batches of a channel in three ways")
        .args::<Args>()
        .channel::<u64>("squares", "8MiB")
        .task(load::task().writes("numbers"))
        .task(square::task().reads("numbers").writes("squares"))
        .task(take::task().reads("squares"))
        .configure(configure)
        .main()
}
