//! Which offers there are.
//!
//! Owns [`Catalog`] and the four that are built in. Knows no demand; `read` knows the format.
//! No two offers of a catalogue have the same provider, region, zone and name.

mod read;

use crate::money::UsdPerHour;
use crate::offer::Offer;
pub use read::CatalogError;
use read::TEXT_MAX;

/// Offers under a name.
///
/// ```
/// use cirrus_plan::Catalog;
/// let paper = Catalog::built_in("paper").expect("it is one of `BUILT_IN`");
/// assert_eq!(paper.only(&["t2.nano".to_string()])?.offers()[0].price.to_string(), "0.0059");
/// # Ok::<(), cirrus_plan::UnknownOffer>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    name: String,
    offers: Vec<Offer>,
}

const BUILT_IN: [(&str, &str); 4] = [
    ("paper", include_str!("../../../catalogs/paper.csv")),
    ("aws", include_str!("../../../catalogs/aws.csv")),
    ("azure", include_str!("../../../catalogs/azure.csv")),
    ("gcp", include_str!("../../../catalogs/gcp.csv")),
];

impl Catalog {
    /// The longest text of a catalogue, in bytes.
    pub const TEXT_BYTES_MAX: usize = TEXT_MAX;

    /// The names of the catalogues that are built in.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|&(name, _)| name)
    }

    /// The catalogue that is built in under this name.
    pub fn built_in(name: &str) -> Option<Self> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(Self::read(name, text).expect("the tests read every catalogue that is built in"))
    }

    /// Reads a catalogue; catalogs/README.md has the format.
    ///
    /// # Errors
    /// At the first line that is wrong, by its number.
    pub fn read(name: &str, text: &str) -> Result<Self, CatalogError> {
        Ok(Self { name: name.into(), offers: read::offers(text)? })
    }

    /// The catalogue's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its offers, in the order of the file.
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// The oldest and the newest day of its prices.
    pub fn days(&self) -> Option<(&str, &str)> {
        let days = || self.offers.iter().map(|offer| offer.as_of.as_str());
        Some((days().min()?, days().max()?))
    }

    /// The same catalogue with these offers only, in this order; with no name, all of it.
    ///
    /// # Errors
    /// When a name is nobody's.
    pub fn only(&self, skus: &[String]) -> Result<Self, UnknownOffer> {
        let known = |sku: &&String| self.offers.iter().any(|offer| offer.sku == **sku);
        if let Some(sku) = skus.iter().find(|sku| !known(sku)) {
            return Err(UnknownOffer { sku: sku.clone(), catalog: self.name.clone() });
        }
        let mut offers = Vec::new();
        for sku in skus {
            offers.extend(self.offers.iter().filter(|offer| offer.sku == *sku).cloned());
        }
        if skus.is_empty() {
            offers.clone_from(&self.offers);
        }
        Ok(Self { name: self.name.clone(), offers })
    }

    /// The same catalogue with the offers that `keep` keeps.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&Offer) -> bool) -> Self {
        let offers = self.offers.iter().filter(|offer| keep(offer)).cloned().collect();
        Self { name: self.name.clone(), offers }
    }

    /// Takes `percent` off the price on demand of offers whose name starts with `prefix`, as a
    /// contract with the provider may say. Prices are rounded up.
    #[must_use]
    pub fn discounted(mut self, prefix: &str, percent: u8) -> Self {
        let kept = u64::from(100u8.saturating_sub(percent));
        for offer in self.offers.iter_mut().filter(|offer| offer.sku.starts_with(prefix)) {
            let micros = u128::from(offer.price.as_micros()) * u128::from(kept);
            let micros = u64::try_from(micros.div_ceil(100)).unwrap_or(u64::MAX);
            offer.price = UsdPerHour::micros(micros);
        }
        self
    }

    /// Whether functions count in a pool: the paper counts them, and sums up what cannot run
    /// for long.
    pub(crate) fn pools_functions(&self) -> bool {
        self.name == "paper"
    }
}

/// A name that no offer of the catalogue has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownOffer {
    sku: String,
    catalog: String,
}

impl std::fmt::Display for UnknownOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sku, catalog } = self;
        write!(
            f,
            "`{sku}` is no offer of the catalogue `{catalog}`; `cirrus catalog show {catalog}` \
             lists them"
        )
    }
}

impl std::error::Error for UnknownOffer {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sole(catalog: &str, sku: &str) -> Offer {
        let catalog = Catalog::built_in(catalog).unwrap();
        let found: Vec<&Offer> = catalog.offers().iter().filter(|o| o.sku == sku).collect();
        assert_eq!(found.len(), 1, "{sku}");
        found[0].clone()
    }

    #[test]
    fn every_built_in_catalogue_is_read_and_dated() {
        let counts: Vec<usize> = Catalog::built_in_names()
            .map(|name| Catalog::built_in(name).unwrap().offers().len())
            .collect();
        assert_eq!(counts, [75, 600, 147, 120]);
        let days = |name| Catalog::built_in(name).unwrap().days().map(|(a, b)| format!("{a} {b}"));
        assert_eq!(days("paper").unwrap(), "2017-04-04 2017-04-04");
        assert_eq!(days("gcp").unwrap(), "2025-03-02 2026-09-06");
        assert_eq!(Catalog::built_in("oci"), None);
    }

    #[test]
    fn the_papers_prices_are_its_table() {
        for (sku, micros) in [
            ("m4.large", 108_000),
            ("t2.nano", 5900),
            ("r4.large", 133_000),
            ("p2.xlarge", 900_000),
            ("lambda-128", 7488),
        ] {
            let offer = sole("paper", sku);
            assert_eq!(offer.price.as_micros(), micros, "{sku}");
            assert_eq!((offer.charges, offer.allocatable), (UsdPerHour::default(), offer.memory));
        }
        let p2 = sole("paper", "p2.xlarge");
        assert_eq!((p2.cpu.0, p2.memory), (4_000_000, cirrus_units::ByteSize::gib(61)));
        assert_eq!(p2.gpu.unwrap().to_string(), "1 k80 GPU");
        assert!(!sole("paper", "lambda-128").is_machine());
    }

    #[test]
    fn todays_prices_keep_clear_of_the_sources_traps() {
        // 0.0 means missing, and r4.large at 0.146 is its price of dedicated tenancy.
        for name in Catalog::built_in_names() {
            for offer in Catalog::built_in(name).unwrap().offers() {
                assert!(offer.price.as_micros() > 0, "{offer}");
                assert_ne!(offer.spot, Some(UsdPerHour::default()), "{offer}");
            }
        }
        assert_eq!(sole("aws", "r4.large").price.as_micros(), 133_000);
        let t3 = sole("aws", "t3.xlarge");
        assert_eq!((t3.price.as_micros(), t3.as_of.as_str()), (166_400, "2026-09-06"));
        assert!(t3.unverified.contains(&"sustained".to_string()), "{:?}", t3.unverified);
        assert!(t3.allocatable < t3.memory && t3.charges > UsdPerHour::default());
        assert_eq!(sole("aws", "p5.48xlarge").spot, None);
        // A whole family's prices differ by what its sizes have, never by tenancy.
        let aws = Catalog::built_in("aws").unwrap();
        let ratios = aws.offers().iter().filter(|o| o.sku.starts_with("m7i."));
        let ratios: Vec<u64> =
            ratios.map(|o| o.price.as_micros() * 1_000 / (o.cpu.0 / 1000)).collect();
        assert!(
            ratios.len() > 3
                && ratios.iter().max() <= ratios.iter().min().map(|r| r + r / 50).as_ref(),
            "{ratios:?}"
        );
    }

    #[test]
    fn a_discount_is_rounded_up_and_meets_the_named_only() {
        let paper = Catalog::built_in("paper").unwrap().discounted("t2.", 33);
        let price = |sku: &str| paper.only(&[sku.to_string()]).unwrap().offers()[0].price;
        assert_eq!(price("t2.nano").as_micros(), 3953);
        assert_eq!(price("m4.large").as_micros(), 108_000);
        let error = paper.only(&["t9.nano".into()]).unwrap_err().to_string();
        assert!(error.starts_with("`t9.nano` is no offer of the catalogue `paper`"), "{error}");
    }
}
