//! Prints what docs/cost.md shows, and draws its figures: `cargo run -p cirrus-plan --example cost
//! -- docs`.

#![expect(clippy::print_stdout, reason = "it is there to print")]

use std::error::Error;
use std::path::Path;

use cirrus_plan::{Catalog, Pipeline, Pool, pool_figure};

/// The paper's evaluation: stage costs as they are stated in docs/cost.md.
const IMAGES: &str = r#"{
  "samples": 1281167,
  "working_set": 42949672960,
  "stages": [
    {"name": "decode", "cpu_seconds": 0.010, "bytes_in": 0, "bytes_out": 0, "memory": 536870912}
  ],
  "trainer": {"device_seconds": 0.001, "cpu_seconds": 0.0005, "bytes_in": 0,
              "memory": 8589934592, "devices": 1, "gpu": "k80"}
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let paper = Catalog::built_in("paper").ok_or("no catalogue is called paper")?;
    let pool = Pool::new("100".parse()?, "100GiB".parse()?);
    let mut mixes = Vec::new();
    for skus in [&["m4.large"][..], &["r4.large", "lambda-128"], &["r4.large", "t2.nano"]] {
        mixes.push(paper.only(&skus.iter().map(ToString::to_string).collect::<Vec<_>>())?);
    }
    for mix in &mixes {
        println!("{}", pool.plan(mix)?);
    }
    println!("{}", pool.clone().with_sustained(true).plan(&mixes[2])?);
    let images: Pipeline = serde_json::from_str(IMAGES)?;
    let plan = images.plan(&paper)?;
    println!("{plan}");
    if let Some(folder) = std::env::args().nth(1) {
        let folder = Path::new(&folder);
        std::fs::write(folder.join("pool.svg"), pool_figure(&pool, &mixes)?)?;
        std::fs::write(folder.join("pipeline.svg"), plan.figure())?;
    }
    Ok(())
}
