//! `cirrus plan pool`: the paper's question.
//!
//! Owns which mixes are planned and compared. May not know how. Invariant: who would pay for bursts
//! is told so beside the price.

use std::path::PathBuf;
use std::str::FromStr;

use cirrus::plan::{self, Catalog, Mix, compare, pool_figure};
use cirrus::{ByteSize, Cores, print};
use serde_json::json;

use super::{Prices, json_with};
use crate::commands::objects::write_whole;
use crate::failure::Failure;

/// The most offers of a mix that are compared with it one by one.
const ALONE_MAX: usize = 8;

/// Arguments of `pool`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pool {
    /// Processors, such as 100 or 0.5
    #[arg(long, value_name = "N")]
    cpu: Cores,
    /// Memory, such as 100GiB
    #[arg(long, value_name = "SIZE")]
    memory: ByteSize,
    /// Accelerators of any kind
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpus: u32,
    #[command(flatten)]
    prices: Prices,
    /// Offers to choose from [default: all]; given again, another mix to plan and compare
    #[arg(long, value_name = "OFFER,...")]
    only: Vec<Names>,
    /// Rent parts of machines, too: the figure that papers quote, nothing to buy
    #[arg(long)]
    fractional: bool,
    /// The processors are used all the time, and not now and then
    #[arg(long)]
    sustained: bool,
    /// Draw what the mixes cost, in bursts and sustained, as an SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print JSON, a mix a line
    #[arg(long)]
    json: bool,
}

/// Names of offers with commas between them.
#[derive(Debug, Clone)]
struct Names(Vec<String>);

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names: Vec<String> = Vec::new();
        for name in text.split(',').map(str::trim) {
            if name.is_empty() {
                return Err("expected names of offers, such as r4.large,t2.nano".to_owned());
            }
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Ok(Self(names))
    }
}

impl Pool {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let wrong = |error: plan::PoolError| Failure::input(error.to_string());
        let pool = plan::Pool::new(self.cpu, self.memory)
            .with_gpus(self.gpus)
            .with_fractional(self.fractional)
            .with_sustained(self.sustained);
        let mixes = self.mixes()?;
        let plans = mixes.iter().map(|mix| pool.plan(mix)).collect::<Result<Vec<_>, _>>();
        let plans = plans.map_err(wrong)?;
        let compared = compared(&mixes)?;
        if let Some(path) = &self.plot {
            let figure = pool_figure(&pool, &compared).map_err(wrong)?;
            write_whole(path, figure.as_bytes())?;
        }
        let costs = match compared.len() > 1 || self.sustained {
            true => compare(&pool, &compared).map_err(wrong)?,
            false => Vec::new(),
        };
        if self.json {
            for plan in &plans {
                print(&json_with(plan, self.demand(&costs))?)?;
            }
            return Ok(());
        }
        plans.iter().try_for_each(|plan| print(&plan.to_string()))?;
        if !costs.is_empty() {
            print(&table(&costs))?;
        }
        Ok(())
    }

    fn mixes(&self) -> Result<Vec<Catalog>, Failure> {
        if self.only.is_empty() {
            return Ok(vec![self.prices.catalog()?]);
        }
        self.only.iter().map(|Names(names)| self.prices.only(names)).collect()
    }

    fn demand(&self, costs: &[Mix]) -> [(&'static str, serde_json::Value); 8] {
        [
            ("catalog", json!(self.prices.catalog)),
            ("vcpu", json!(f64::from(self.cpu.as_milli()) / 1000.0)),
            ("memory", json!(self.memory.to_string())),
            ("memory_bytes", json!(self.memory.bytes())),
            ("sustained", json!(self.sustained)),
            ("fractional", json!(self.fractional)),
            // What divides at will stands nowhere in particular.
            ("placements", json!([])),
            ("mixes", json!(costs)),
        ]
    }
}

/// The mixes that were asked for; beside a single small one, each of its offers alone.
fn compared(mixes: &[Catalog]) -> Result<Vec<Catalog>, Failure> {
    let [mix] = mixes else { return Ok(mixes.to_vec()) };
    let mut names: Vec<&str> = mix.offers().iter().map(|offer| &*offer.sku).collect();
    names.dedup();
    let mut compared = Vec::new();
    if (2..=ALONE_MAX).contains(&names.len()) {
        for name in names {
            let alone = mix.only(&[name.to_owned()]);
            compared.push(alone.map_err(|error| Failure::fault(error.to_string()))?);
        }
    }
    compared.push(mix.clone());
    Ok(compared)
}

fn table(costs: &[Mix]) -> String {
    let mut text = format!("{:<40}{:>15}{:>15}", "mix", "$/h in bursts", "$/h sustained");
    for it in costs {
        let sustained = it.sustained_usd_hour.map_or("-".to_owned(), |cost| format!("{cost:.3}"));
        text += &format!("\n{:<40}{:>15.3}{sustained:>15}", it.mix, it.usd_hour);
    }
    text
}
