//! Catalogues as text.
//!
//! Owns the format that catalogs/README.md describes. Knows no price of its own.
//! Every limit is checked before what it guards is kept.

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroU32;

use cirrus_units::{ByteRate, ByteSize};

use crate::demand::Gpu;
use crate::money::{Usd, UsdPerHour, micros};
use crate::offer::{Microcores, Offer};

const COLUMNS: [&str; 24] = [
    "provider",
    "region",
    "zone",
    "sku",
    "vcpu",
    "sustained",
    "memory_gib",
    "allocatable",
    "gpus",
    "gpu_kind",
    "network_gbit",
    "network_burst_gbit",
    "usd_hour",
    "spot_usd_hour",
    "surplus_usd_vcpu_hour",
    "charges_usd_hour",
    "disk_usd_gib_month",
    "transfer_usd_gib",
    "quota",
    "run_minutes_max",
    "inbound",
    "as_of",
    "source",
    "unverified",
];
const REQUIRED: [&str; 6] = ["sku", "vcpu", "memory_gib", "usd_hour", "as_of", "source"];

/// The longest catalogue, in bytes.
pub(super) const TEXT_MAX: usize = 16 << 20;
/// The most offers of a catalogue.
const OFFERS_MAX: usize = 20_000;
/// The longest cell, in bytes.
const CELL_MAX: usize = 256;
/// The most of anything that one machine has, in millionths: a million of it.
const AMOUNT_MAX: u64 = 1_000_000_000_000;

/// Why a text is no catalogue. Displays as one line that names the place and the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogError {
    line: usize,
    column: String,
    value: String,
    problem: String,
}

impl CatalogError {
    /// The number of the wrong line; the first is 1.
    pub fn line(&self) -> usize {
        self.line
    }

    fn whole(line: usize, problem: impl Into<String>) -> Self {
        Self { line, column: String::new(), value: String::new(), problem: problem.into() }
    }
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, value, problem } = self;
        match column.as_str() {
            "" => write!(f, "line {line}: {problem}"),
            column => write!(f, "line {line}, column {column}: `{value}` {problem}"),
        }
    }
}

impl std::error::Error for CatalogError {}

pub(super) fn offers(text: &str) -> Result<Vec<Offer>, CatalogError> {
    if text.len() > TEXT_MAX {
        return Err(CatalogError::whole(1, format!("the text is longer than {TEXT_MAX} bytes")));
    }
    // Spreadsheets begin a file with a mark of its byte order.
    let mut lines = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim_end()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let Some((line, head)) = lines.next() else {
        return Err(CatalogError::whole(1, "is empty; expected a line with the columns' names"));
    };
    let columns = columns(line, head)?;
    let (mut offers, mut seen) = (Vec::new(), HashSet::new());
    for (line, text) in lines {
        if offers.len() == OFFERS_MAX {
            return Err(CatalogError::whole(line, format!("is beyond {OFFERS_MAX} offers")));
        }
        let row = Row::new(line, &columns, text)?;
        let offer = row.offer()?;
        let name = [&offer.provider, &offer.region, &offer.zone, &offer.sku].map(String::clone);
        if !seen.insert(name) {
            return Err(row.error("sku", "is there twice in the same place"));
        }
        offers.push(offer);
    }
    match offers.is_empty() {
        true => Err(CatalogError::whole(line, "has no offers below it; expected one a line")),
        false => Ok(offers),
    }
}

fn columns(line: usize, head: &str) -> Result<Vec<&str>, CatalogError> {
    let names: Vec<&str> = head.split(',').map(str::trim).collect();
    for (at, name) in names.iter().enumerate() {
        if !COLUMNS.contains(name) {
            let problem =
                format!("unknown column `{name}`; expected some of {}", COLUMNS.join(","));
            return Err(CatalogError::whole(line, problem));
        }
        if names[..at].contains(name) {
            return Err(CatalogError::whole(line, format!("column `{name}` is there twice")));
        }
    }
    match REQUIRED.iter().find(|name| !names.contains(name)) {
        Some(name) => Err(CatalogError::whole(line, format!("column `{name}` is missing"))),
        None => Ok(names),
    }
}

/// One line, cut into cells.
struct Row<'a> {
    line: usize,
    columns: &'a [&'a str],
    cells: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn new(line: usize, columns: &'a [&'a str], text: &'a str) -> Result<Self, CatalogError> {
        let found = text.split(',').count();
        let expected = columns.len();
        if text.contains('"') {
            return Err(CatalogError::whole(line, "has a quote; cells are written without them"));
        }
        if found != expected {
            let problem = format!("has {found} cells; expected {expected}, as in the first line");
            return Err(CatalogError::whole(line, problem));
        }
        let row = Self { line, columns, cells: text.split(',').map(str::trim).collect() };
        if let Some(at) = row.cells.iter().position(|cell| cell.contains(char::is_control)) {
            let problem = format!("column {}: has a control character", columns[at]);
            return Err(CatalogError::whole(line, problem));
        }
        match row.cells.iter().position(|cell| cell.len() > CELL_MAX) {
            Some(at) => Err(row.error(columns[at], format!("is longer than {CELL_MAX} bytes"))),
            None => Ok(row),
        }
    }

    fn offer(&self) -> Result<Offer, CatalogError> {
        let cpu = self.amount("vcpu")?.ok_or_else(|| self.error("vcpu", "is missing"))?;
        let memory =
            self.amount("memory_gib")?.ok_or_else(|| self.error("memory_gib", "is missing"))?;
        let price = self.money("usd_hour", UsdPerHour::micros)?;
        if cpu == 0 {
            return Err(self.error("vcpu", "is no number of processors; expected more than 0"));
        }
        Ok(Offer {
            provider: self.cell("provider").into(),
            region: self.cell("region").into(),
            zone: self.cell("zone").into(),
            sku: self.required("sku")?.into(),
            cpu: Microcores(cpu),
            sustained: Microcores(self.share("sustained", cpu)?),
            memory: ByteSize::new(bytes(memory)),
            allocatable: ByteSize::new(self.share("allocatable", bytes(memory))?),
            gpu: self.gpu()?,
            network: self.rate("network_gbit")?,
            network_burst: self.rate("network_burst_gbit")?,
            price: price.ok_or_else(|| self.error("usd_hour", "is no price: 0 means missing"))?,
            spot: self.money("spot_usd_hour", UsdPerHour::micros)?,
            surplus: self.money("surplus_usd_vcpu_hour", UsdPerHour::micros)?,
            charges: UsdPerHour::micros(self.amount("charges_usd_hour")?.unwrap_or(0)),
            disk: self.money("disk_usd_gib_month", Usd::micros)?,
            transfer: self.money("transfer_usd_gib", Usd::micros)?,
            quota: self.whole("quota")?,
            run_minutes_max: self.whole("run_minutes_max")?,
            inbound: self.inbound()?,
            as_of: self.day()?,
            source: self.required("source")?.into(),
            unverified: self.unverified()?,
        })
    }

    /// The text of a column; empty when the catalogue has not got it.
    fn cell(&self, column: &str) -> &'a str {
        self.columns.iter().position(|name| *name == column).map_or("", |at| self.cells[at])
    }

    fn error(&self, column: &str, problem: impl Into<String>) -> CatalogError {
        let value = self.cell(column).chars().take(40).collect();
        CatalogError { line: self.line, column: column.into(), value, problem: problem.into() }
    }

    fn required(&self, column: &str) -> Result<&'a str, CatalogError> {
        match self.cell(column) {
            "" => Err(self.error(column, "is missing")),
            text => Ok(text),
        }
    }

    /// Millionths; `None` for an empty cell.
    fn amount(&self, column: &str) -> Result<Option<u64>, CatalogError> {
        let text = self.cell(column);
        if text.is_empty() {
            return Ok(None);
        }
        match micros(text) {
            Ok(amount) if amount <= AMOUNT_MAX => Ok(Some(amount)),
            Ok(_) => Err(self.error(column, "is too large; expected at most 1000000")),
            Err(problem) => Err(self.error(column, format!("{problem}; expected such as 0.25"))),
        }
    }

    /// A price; 0 is how sources write that they have none.
    fn money<T>(&self, column: &str, new: fn(u64) -> T) -> Result<Option<T>, CatalogError> {
        Ok(self.amount(column)?.filter(|&micros| micros > 0).map(new))
    }

    /// A share of `whole`, rounded down; an empty cell is all of it.
    fn share(&self, column: &str, whole: u64) -> Result<u64, CatalogError> {
        let share = self.amount(column)?.unwrap_or(1_000_000);
        if share > 1_000_000 {
            return Err(self.error(column, "is no share; expected 0 to 1"));
        }
        let part = u128::from(whole) * u128::from(share) / 1_000_000;
        Ok(u64::try_from(part).unwrap_or(whole))
    }

    fn rate(&self, column: &str) -> Result<Option<ByteRate>, CatalogError> {
        Ok(self.amount(column)?.map(|gbit| ByteRate::per_second(gbit * 125)))
    }

    fn whole(&self, column: &str) -> Result<Option<u32>, CatalogError> {
        match self.cell(column) {
            "" => Ok(None),
            text => match text.parse() {
                Ok(count) => Ok(Some(count)),
                Err(_) => Err(self.error(column, "is no count; expected such as 32")),
            },
        }
    }

    fn gpu(&self) -> Result<Option<Gpu>, CatalogError> {
        let kind = self.cell("gpu_kind");
        let Some(count) = self.whole("gpus")?.and_then(NonZeroU32::new) else {
            return match kind {
                "" => Ok(None),
                _ => Err(self.error("gpu_kind", "is given without a count in `gpus`")),
            };
        };
        if kind.is_empty() || kind.chars().any(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
        {
            return Err(self.error("gpu_kind", "is no kind; expected such as h100"));
        }
        if count.get() > 1024 {
            return Err(self.error("gpus", "is too large; expected at most 1024"));
        }
        Ok(Some(Gpu::new(count).of_kind(kind)))
    }

    fn inbound(&self) -> Result<bool, CatalogError> {
        match self.cell("inbound") {
            "" | "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(self.error("inbound", "is neither yes nor no")),
        }
    }

    fn day(&self) -> Result<String, CatalogError> {
        let text = self.required("as_of")?;
        let number = |range| text.get(range).and_then(|part: &str| part.parse::<u32>().ok());
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let dashes = text.match_indices('-').map(|(at, _)| at);
        let known = text.len() == 10
            && digits == 8
            && dashes.eq([4, 7])
            && number(5..7).is_some_and(|month| (1..=12).contains(&month))
            && number(8..10).is_some_and(|day| (1..=31).contains(&day));
        if known {
            Ok(text.into())
        } else {
            Err(self.error("as_of", "is no day; expected such as 2026-09-06"))
        }
    }

    fn unverified(&self) -> Result<Vec<String>, CatalogError> {
        let names = self.cell("unverified").split_whitespace();
        match names.clone().find(|name| !COLUMNS.contains(name)) {
            Some(name) => Err(self.error("unverified", format!("names no column: {name}"))),
            None => Ok(names.map(String::from).collect()),
        }
    }
}

/// Millionths of a GiB in bytes, rounded down.
fn bytes(micro_gib: u64) -> u64 {
    u64::try_from((u128::from(micro_gib) << 30) / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "sku,vcpu,memory_gib,usd_hour,as_of,source";

    #[test]
    fn what_is_not_said_is_not_made_up() {
        let text = format!("# mine\n\n{HEAD}\nbox,2,7.5,0.1,2026-11-01,invoice\n");
        let offer = &offers(&text).unwrap()[0];
        assert_eq!((offer.cpu.0, offer.sustained.0), (2_000_000, 2_000_000));
        assert_eq!(offer.allocatable, ByteSize::mib(7680));
        assert_eq!((offer.spot, offer.network, offer.disk, offer.quota), (None, None, None, None));
        assert!(offer.is_machine() && offer.unverified.is_empty());
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_a_name() {
        let text = format!("\u{feff}{HEAD}\nbox,2,8,0.1,2026-11-01,x\n");
        assert_eq!(offers(&text).unwrap()[0].sku, "box");
    }

    #[test]
    fn a_zero_price_is_a_missing_one() {
        let text = format!("{HEAD},spot_usd_hour\nbox,2,8,0.1,2026-11-01,x,0.0\n");
        assert_eq!(offers(&text).unwrap()[0].spot, None);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        let row = |text: &str| {
            format!("# first\n{HEAD},gpus,gpu_kind,sustained,inbound,unverified\n{text}\n")
        };
        for (text, problem) in [
            (String::new(), "line 1: is empty"),
            ("sku,price\n".into(), "line 1: unknown column `price`"),
            ("sku,sku\n".into(), "line 1: column `sku` is there twice"),
            ("sku,vcpu\n".into(), "line 1: column `memory_gib` is missing"),
            (row("a,2,8,0.1"), "line 3: has 4 cells; expected 11"),
            (row("\"a\",2,8,0.1,2026-11-01,x,,,,,"), "line 3: has a quote"),
            (row(",2,8,0.1,2026-11-01,x,,,,,"), "line 3, column sku: `` is missing"),
            (row("a,0,8,0.1,2026-11-01,x,,,,,"), "column vcpu: `0` is no number of processors"),
            (row("a,two,8,0.1,2026-11-01,x,,,,,"), "column vcpu: `two` is no decimal number"),
            (row("a\u{1b}[31m,2,8,0.1,2026-11-01,x,,,,,"), "line 3: column sku: has a control"),
            (format!("{HEAD}\n"), "line 1: has no offers below it"),
            (row("a,2,9999999,0.1,2026-11-01,x,,,,,"), "`9999999` is too large"),
            (
                row("a,2,8,0.0,2026-11-01,x,,,,,"),
                "column usd_hour: `0.0` is no price: 0 means missing",
            ),
            (row("a,2,8,0.0000001,2026-11-01,x,,,,,"), "has more than six decimals"),
            (row("a,2,8,0.1,1.11.2026,x,,,,,"), "column as_of: `1.11.2026` is no day"),
            (row("a,2,8,0.1,2026-13-01,x,,,,,"), "is no day"),
            (row("a,2,8,0.1,2026-11-01,,,,,,"), "column source: `` is missing"),
            (row("a,2,8,0.1,2026-11-01,x,1,,,,"), "column gpu_kind: `` is no kind"),
            (row("a,2,8,0.1,2026-11-01,x,,h100,,,"), "without a count"),
            (row("a,2,8,0.1,2026-11-01,x,1,H100,,,"), "`H100` is no kind"),
            (row("a,2,8,0.1,2026-11-01,x,9999,h100,,,"), "column gpus: `9999` is too large"),
            (row("a,2,8,0.1,2026-11-01,x,,,1.5,,"), "column sustained: `1.5` is no share"),
            (row("a,2,8,0.1,2026-11-01,x,,,,maybe,"), "`maybe` is neither yes nor no"),
            (row("a,2,8,0.1,2026-11-01,x,,,,,colour"), "names no column: colour"),
            (
                row("a,2,8,0.1,2026-11-01,x,,,,,\na,2,8,0.1,2026-11-01,x,,,,,"),
                "line 4, column sku: `a` is there twice",
            ),
        ] {
            let error = offers(&text).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn limits_hold_before_anything_is_kept() {
        let long = format!("{HEAD}\n{},2,8,0.1,2026-11-01,x\n", "a".repeat(CELL_MAX + 1));
        assert!(offers(&long).unwrap_err().to_string().contains("longer than 256 bytes"));
        let mut many = format!("{HEAD}\n");
        for at in 0..=OFFERS_MAX {
            many.push_str(&format!("a{at},2,8,0.1,2026-11-01,x\n"));
        }
        assert_eq!(offers(&many).unwrap_err().line(), OFFERS_MAX + 2);
        let huge = " ".repeat(TEXT_MAX + 1);
        assert!(offers(&huge).unwrap_err().to_string().contains("the text is longer"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read_but_never_panics(text in "[a0-9.,#\n-]{0,80}") {
            let _ = offers(&text);
            let _ = offers(&format!("{HEAD}\n{text}"));
        }
    }
}
