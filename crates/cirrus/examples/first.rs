//! Squares numbers on every processor and adds them up, each exactly once.

use cirrus::{App, Context, Result};

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[cirrus::task(cpu = 1, memory = "64MiB")]
fn load(ctx: Context) -> Result<()> {
    let mut numbers = ctx.write_set("numbers")?;
    for n in 0..100_000_u64 {
        numbers.push(n.to_le_bytes().to_vec())?;
    }
    numbers.seal().map(|_| ())
}

#[cirrus::task(cpu = 1, memory = "64MiB", replicas = 1..=8)]
fn square(ctx: Context) -> Result<()> {
    ctx.splits("numbers")?.map_into("squares", |record, _| Ok(number(&record.bytes).pow(2)))
}

#[cirrus::task(cpu = 1, memory = "64MiB")]
fn sum(ctx: Context) -> Result<()> {
    let mut batches = ctx.batches::<u64>("squares")?;
    let mut sum = batches.restored().map_or(0, |bytes| number(bytes));
    while let Some(batch) = batches.next()? {
        sum += batch.items.iter().sum::<u64>();
        batches.checkpoint_when_due(|| Ok(sum.to_le_bytes().to_vec().into()))?;
    }
    batches.checkpoint(sum.to_le_bytes().to_vec())?;
    ctx.report("sum", sum)
}

fn main() -> std::process::ExitCode {
    App::new("first")
        .memory("data", "64MiB")
        .channel::<u64>("squares", "8MiB")
        .task(load::task().writes("numbers"))
        .task(square::task().reads("numbers").writes("squares"))
        .task(sum::task().reads("squares"))
        .main()
}
