//! Reads a set epoch by epoch: over the network once, and then from the process's own cache.

use cirrus::store::cache::Freshness;
use cirrus::{App, Context, Result};

const RECORDS: u64 = 10_000;
const EPOCHS: u32 = 3;

#[cirrus::task(cpu = 1, memory = "64MiB")]
fn load(ctx: Context) -> Result<()> {
    let mut records = ctx.write_set("records")?;
    for n in 0..RECORDS {
        records.push(vec![u8::try_from(n % 251).expect("less than 251"); 1000])?;
    }
    records.seal().map(|_| ())
}

#[cirrus::task(cpu = 1, memory = "64MiB")]
fn train(ctx: Context) -> Result<()> {
    let (cache, records) = (ctx.cache("data")?, ctx.set("records")?);
    for epoch in 1..=EPOCHS {
        let before = cache.counters().fetches;
        let mut bytes = 0;
        for record in records.records() {
            bytes += record?.len();
        }
        ctx.report(&format!("epoch {epoch}, bytes"), bytes)?;
        ctx.report(&format!("epoch {epoch}, fetched"), cache.counters().fetches - before)?;
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    App::new("epochs")
        .memory("data", "64MiB")
        .cache("data", "32MiB", Freshness::Immutable)
        .task(load::task().writes("records"))
        .task(train::task().reads("records"))
        .main()
}
