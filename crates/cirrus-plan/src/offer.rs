//! What can be rented.
//!
//! Owns [`Offer`] and what it holds for tasks. Knows no demand and no file.
//! What is not known is `None`, and is never taken for zero or for plenty.

use std::fmt;

use cirrus_units::{ByteRate, ByteSize};

use crate::demand::Gpu;
use crate::money::{Usd, UsdPerHour};

/// One type of machine, or of function, and its price.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// Who rents it out.
    pub provider: String,
    /// Where.
    pub region: String,
    /// Where in the region; empty: anywhere in it.
    pub zone: String,
    /// Its name at the provider.
    pub sku: String,
    /// Processors, in bursts.
    pub cpu: Microcores,
    /// Processors, all the time.
    pub sustained: Microcores,
    /// Main memory as it is sold.
    pub memory: ByteSize,
    /// Main memory that is left for tasks.
    pub allocatable: ByteSize,
    /// Accelerators, with their kind.
    pub gpu: Option<Gpu>,
    /// Network bandwidth, all the time.
    pub network: Option<ByteRate>,
    /// Network bandwidth, in bursts.
    pub network_burst: Option<ByteRate>,
    /// Its price on demand, without charges.
    pub price: UsdPerHour,
    /// Its price when it may be taken away at short notice.
    pub spot: Option<UsdPerHour>,
    /// What a processor costs beyond what it sustains, where that can be bought.
    pub surplus: Option<UsdPerHour>,
    /// What each machine costs beside its price: root disk, public address.
    pub charges: UsdPerHour,
    /// What a GiB of disk costs a month; `None`: there is none to be had.
    pub disk: Option<Usd>,
    /// What a GiB to another zone costs, both sides together.
    pub transfer: Option<Usd>,
    /// How many of it can be rented.
    pub quota: Option<u32>,
    /// After how long it is taken away.
    pub run_minutes_max: Option<u32>,
    /// Whether others can connect to it.
    pub inbound: bool,
    /// The day of its price: `2026-09-06`.
    pub as_of: String,
    /// Where its price is from.
    pub source: String,
    /// Columns that were entered by hand and that nobody has checked.
    pub unverified: Vec<String>,
}

impl Offer {
    /// Whether it holds long-lived tasks that others connect to; a function does not.
    pub fn is_machine(&self) -> bool {
        self.run_minutes_max.is_none() && self.inbound
    }

    /// Who rents it out, and where: `aws us-east-1`.
    pub fn place(&self) -> String {
        let parts = [&*self.provider, &*self.region, &*self.zone];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The share of its processors that it sustains.
    pub fn sustained_share(&self) -> f64 {
        self.sustained.as_cores() / self.cpu.as_cores()
    }
}

impl fmt::Display for Offer {
    /// `t2.nano (aws us-east-1)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.sku, self.place())
    }
}

/// Millionths of a processor: functions are sold in shares finer than thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microcores(pub u64);

impl Microcores {
    /// As a number of processors.
    #[expect(clippy::cast_precision_loss, reason = "exact below nine billion processors")]
    pub const fn as_cores(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl From<cirrus_units::Cores> for Microcores {
    fn from(cores: cirrus_units::Cores) -> Self {
        Self(u64::from(cores.as_milli()) * 1000)
    }
}

impl fmt::Display for Microcores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_cores().fmt(f)
    }
}
