//! `cirrus catalog`: the prices that plans are made of.
//!
//! Owns how catalogues are shown. May not know their format. Invariant: text fits 80 columns, and
//! what is cut there is in the JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cirrus::plan::{Catalog, Offer};
use cirrus::{catalogs, print};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::failure::Failure;

/// What to do with catalogues.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the catalogues that there are
    List(List),
    /// List the offers of a catalogue, the cheapest first
    Show(Show),
    /// Check a file of one's own and keep it as a catalogue
    Import(Import),
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Import(import) => import.run(),
        }
    }
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Print JSON, a catalogue a line
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let built_in = Catalog::built_in_names().map(|name| (name.to_owned(), None));
        let imported = catalogs::imported()?.into_iter().map(|(name, path)| (name, Some(path)));
        if !self.json {
            print(&format!("{:<16}{:>8}  {:<25}from", "catalogue", "offers", "prices of"))?;
        }
        for (name, path) in built_in.chain(imported) {
            let catalog = catalogs::open(&name)?;
            let mut sources: BTreeMap<&str, usize> = BTreeMap::new();
            for offer in catalog.offers() {
                *sources.entry(&offer.source).or_insert(0) += 1;
            }
            if self.json {
                let days = catalog.days();
                let line = json!({
                    "catalog": name,
                    "offers": catalog.offers().len(),
                    "oldest": days.map(|(oldest, _)| oldest),
                    "newest": days.map(|(_, newest)| newest),
                    "offers_by_source": sources,
                    "file": path,
                });
                print(&line.to_string())?;
            } else {
                let from = match path {
                    Some(path) => path.display().to_string(),
                    None => sources_of(&sources),
                };
                let (days, offers) = (days(&catalog), catalog.offers().len());
                print(&format!("{name:<16}{offers:>8}  {days:<25}{from}"))?;
            }
        }
        Ok(())
    }
}

/// The source of most offers, and how many others there are.
fn sources_of(sources: &BTreeMap<&str, usize>) -> String {
    let main = sources.iter().max_by_key(|(_, count)| **count).map_or("", |(source, _)| source);
    match sources.len().saturating_sub(1) {
        0 => main.to_owned(),
        more => format!("{main}, {more} more"),
    }
}

/// `2017-04-04`, or from the oldest day to the newest.
fn days(catalog: &Catalog) -> String {
    match catalog.days() {
        Some((oldest, newest)) if oldest == newest => oldest.to_owned(),
        Some((oldest, newest)) => format!("{oldest}..{newest}"),
        None => "no day".to_owned(),
    }
}

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// A catalogue's name, or a file
    #[arg(value_name = "NAME|FILE")]
    catalog: String,
    /// These offers only
    #[arg(long, value_name = "OFFER,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Offers with accelerators only, or with those of a kind
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "")]
    gpu: Option<String>,
    /// Print JSON with every column, an offer a line
    #[arg(long)]
    json: bool,
}

impl Show {
    fn run(self) -> Result<(), Failure> {
        let all = catalogs::open(&self.catalog)?;
        let catalog = all.only(&self.only).map_err(|error| Failure::input(error.to_string()))?;
        let catalog = match self.gpu.as_deref() {
            None => catalog,
            Some(kind) => with_gpu(&catalog, kind)?,
        };
        let mut offers: Vec<&Offer> = catalog.offers().iter().collect();
        offers.sort_by(|a, b| a.price.cmp(&b.price).then_with(|| a.sku.cmp(&b.sku)));
        if self.json {
            return Ok(offers.iter().try_for_each(|offer| print(&json_of(offer).to_string()))?);
        }
        let (shown, count) = (offers.len(), all.offers().len());
        print(&format!("{}: {shown} of {count} offers, prices of {}", self.catalog, days(&all)))?;
        print("vCPU: in bursts; lasting: all the time; GiB: what is left for tasks")?;
        let width = offers.iter().map(|offer| offer.sku.len()).max().unwrap_or(0).max(5);
        // In a catalogue of one place it says nothing.
        let regions: BTreeSet<&str> = all.offers().iter().map(|offer| &*offer.region).collect();
        let region = |offer: &Offer| match regions.len() {
            1 => String::new(),
            _ => format!(" {}", offer.region),
        };
        print(&format!(
            "\n{:<width$}{:>8}{:>8}{:>9}{:>8}{:>9}{:>8}",
            "offer", "vCPU", "lasting", "GiB", "GPUs", "$/h", "spot"
        ))?;
        for offer in offers {
            let line = format!("{:<width$}{}{}", offer.sku, amounts(offer), region(offer));
            print(line.trim_end())?;
        }
        Ok(())
    }
}

fn with_gpu(catalog: &Catalog, kind: &str) -> Result<Catalog, Failure> {
    let gpu_of = |offer: &Offer| offer.gpu.as_ref().and_then(|gpu| gpu.kind().map(str::to_owned));
    let kinds: BTreeSet<String> = catalog.offers().iter().filter_map(gpu_of).collect();
    if kinds.is_empty() || !(kind.is_empty() || kinds.contains(kind)) {
        let kinds: Vec<String> = kinds.into_iter().collect();
        return Err(Failure::input(format!(
            "no offer of the catalogue `{}` has a GPU {kind}; there are {}",
            catalog.name(),
            if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
        )));
    }
    let wanted = |offer: &Offer| gpu_of(offer).is_some_and(|it| kind.is_empty() || it == kind);
    Ok(catalog.filtered(wanted))
}

fn amounts(offer: &Offer) -> String {
    let gpus = offer
        .gpu
        .as_ref()
        .map_or(String::new(), |gpu| format!("{} {}", gpu.count(), gpu.kind().unwrap_or_default()));
    let spot = offer.spot.map_or(String::new(), |price| format!("{price:.4}"));
    format!(
        "{:>8.2}{:>8.2}{:>9.2}{gpus:>8}{:>9.4}{spot:>8}",
        offer.cpu.as_cores(),
        offer.sustained.as_cores(),
        gib(offer.allocatable.bytes()),
        offer.price
    )
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people; 53 bits are plenty")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

/// Every column; sizes for people and in bytes.
fn json_of(offer: &Offer) -> Value {
    let rate = |rate: Option<cirrus::ByteRate>| rate.map(cirrus::ByteRate::bytes_per_second);
    json!({
        "provider": offer.provider,
        "region": offer.region,
        "zone": offer.zone,
        "offer": offer.sku,
        "vcpu": offer.cpu.as_cores(),
        "sustained_vcpu": offer.sustained.as_cores(),
        "memory": offer.memory.to_string(),
        "memory_bytes": offer.memory.bytes(),
        "allocatable": offer.allocatable.to_string(),
        "allocatable_bytes": offer.allocatable.bytes(),
        "gpus": offer.gpu.as_ref().map_or(0, |gpu| gpu.count()),
        "gpu_kind": offer.gpu.as_ref().and_then(|gpu| gpu.kind()),
        "network_bytes_second": rate(offer.network),
        "network_burst_bytes_second": rate(offer.network_burst),
        "usd_hour": offer.price,
        "spot_usd_hour": offer.spot,
        "surplus_usd_vcpu_hour": offer.surplus,
        "charges_usd_hour": offer.charges,
        "disk_usd_gib_month": offer.disk,
        "transfer_usd_gib": offer.transfer,
        "quota": offer.quota,
        "run_minutes_max": offer.run_minutes_max,
        "inbound": offer.inbound,
        "as_of": offer.as_of,
        "source": offer.source,
        "unverified": offer.unverified,
    })
}

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// A file in the format of catalogs/README.md
    file: PathBuf,
    /// The name to keep it under [default: the file's, without .csv]
    #[arg(long)]
    name: Option<String>,
}

impl Import {
    fn run(self) -> Result<(), Failure> {
        let stem = || self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = self.name.clone().unwrap_or_else(stem);
        let (catalog, place) = catalogs::import(&self.file, &name)?;
        Ok(print(&format!(
            "{name}: {} offers, prices of {}, kept in {}",
            catalog.offers().len(),
            days(&catalog),
            place.display()
        ))?)
    }
}
