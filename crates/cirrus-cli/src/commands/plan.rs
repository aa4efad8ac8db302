//! `cirrus plan`: the cheapest machines for what is demanded.
//!
//! Owns what all plans have in common: whose prices they are made of. May not know how a plan is
//! found. Invariant: nothing is rented.

mod pipeline;
mod pool;
mod tasks;

use std::ffi::OsString;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use cirrus::catalogs;
use cirrus::plan::Catalog;
use clap::Subcommand;
use indicatif::ProgressBar;

use crate::apps::{self, Named};
use crate::failure::Failure;
use crate::job;

/// What to plan.
#[derive(Debug, Subcommand)]
pub(crate) enum Plan {
    /// The cheapest mix for sums of processors and memory that divide at will
    Pool(pool::Pool),
    /// The cheapest machines for the tasks of a file, and which task goes where
    Tasks(tasks::Tasks),
    /// The cheapest machines that keep GPUs busy, from a file of what a sample costs each stage
    Pipeline(pipeline::Pipeline),
    /// An application, or a job file.
    #[command(external_subcommand)]
    App(Vec<OsString>),
}

impl Plan {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let done = |()| ExitCode::SUCCESS;
        match self {
            Self::Pool(pool) => pool.run().map(done),
            Self::Tasks(tasks) => tasks.run().map(done),
            Self::Pipeline(pipeline) => pipeline.run().map(done),
            Self::App(words) => job::plan(known(words.into())?),
        }
    }
}

/// The application or job file, if it is one.
fn known(named: Named) -> Result<Named, Failure> {
    match named.is_known() {
        true => Ok(named),
        false => Err(Failure::input(format!(
            "there is nothing called `{}` to plan; there is pool, tasks, pipeline, an application \
             ({}) or a job file (*.toml)",
            named.app(),
            apps::names()
        ))),
    }
}

/// Whose prices.
#[derive(Debug, clap::Args)]
struct Prices {
    /// A catalogue of `cirrus catalog list`, or a file
    #[arg(long, value_name = "NAME|FILE", default_value = "aws")]
    catalog: String,
    /// Take PERCENT off the price on demand of offers whose names begin so; may be repeated
    #[arg(long, value_name = "PREFIX=PERCENT")]
    discount: Vec<Discount>,
}

impl Prices {
    fn catalog(&self) -> Result<Catalog, Failure> {
        let mut catalog = catalogs::open(&self.catalog)?;
        for Discount { prefix, percent } in &self.discount {
            if !catalog.offers().iter().any(|offer| offer.sku.starts_with(prefix)) {
                return Err(Failure::input(format!(
                    "--discount {prefix}={percent}: no offer of the catalogue `{0}` begins so; \
                     `cirrus catalog show {0}` lists them",
                    self.catalog
                )));
            }
            catalog = catalog.discounted(prefix, *percent);
        }
        Ok(catalog)
    }

    /// The offers of these names; all if none is named.
    fn only(&self, names: &[String]) -> Result<Catalog, Failure> {
        self.catalog()?.only(names).map_err(|error| Failure::input(error.to_string()))
    }
}

/// What a contract takes off a price.
#[derive(Debug, Clone)]
struct Discount {
    prefix: String,
    percent: u8,
}

impl FromStr for Discount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').map(|(prefix, percent)| (prefix, percent.parse()));
        match parts {
            Some((prefix, Ok(percent))) if percent <= 99 => {
                Ok(Self { prefix: prefix.to_owned(), percent })
            }
            _ => Err("expected PREFIX=PERCENT with 0 to 99 percent, such as m5.=20".to_owned()),
        }
    }
}

/// Does what takes seconds, and shows a person that it goes on.
fn patiently<T>(message: &'static str, work: impl FnOnce() -> T) -> T {
    let spinner = ProgressBar::new_spinner().with_message(message);
    spinner.enable_steady_tick(Duration::from_millis(120));
    let done = work();
    spinner.finish_and_clear();
    done
}

/// A plan as JSON, with more beside it.
fn json_with(
    plan: &impl serde::Serialize,
    more: impl IntoIterator<Item = (&'static str, serde_json::Value)>,
) -> Result<String, Failure> {
    let fault = |error| Failure::fault(format!("cannot write the plan as JSON: {error}"));
    let mut value = serde_json::to_value(plan).map_err(fault)?;
    for (key, it) in more {
        value[key] = it;
    }
    Ok(value.to_string())
}
