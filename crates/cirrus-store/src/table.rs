//! What is a table of parameters, and what is asked of one?
//!
//! Owns the words that nodes and clients share: a table's description, a step, what comes back. Knows
//! neither sockets nor where parameters lie.
//! Invariant: a row's first values are a pure function of the description and the row's number.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::rule::{Optimizer, Penalty};

/// The most columns of a table: a row of them, with all that any rule keeps, is 1 MiB.
pub const COLUMNS_MAX: u32 = 65_536;

/// Who reads and leaves nothing: it has no seat, and nobody waits for it.
pub const OBSERVER: u64 = 0;

/// A part of a table: rows of as many coordinates each, and the rule that changes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// The first row that lies here.
    pub first_row: u32,
    /// How many lie here.
    pub rows: u32,
    /// Coordinates of a row.
    pub columns: u32,
    /// What rows begin with.
    pub initial: Initial,
    /// What gradients do to them.
    pub optimizer: Optimizer,
    /// What large values cost.
    pub penalty: Penalty,
    /// By how many steps a worker may be ahead of the slowest when it reads: 0 is bulk-synchronous
    /// (Valiant 1990), a number stale-synchronous (Ho and others 2013), `None` asynchronous.
    pub staleness: Option<u32>,
    /// A worker that has said nothing for so many milliseconds is waited for no more.
    pub seat_ms: u32,
    /// Grows whenever the table goes back to what it was; steps of an older one are refused.
    pub generation: u64,
}

impl TableSpec {
    /// The same, if a table can be so; [`Kind::Invalid`] names what cannot.
    pub fn validated(self) -> Result<Self> {
        let refused = |text: String| Err(Error::new(Kind::Invalid, text));
        if self.rows == 0 || self.first_row.checked_add(self.rows).is_none() {
            return refused(format!("{} rows from row {} on", self.rows, self.first_row));
        }
        if self.columns == 0 || self.columns > COLUMNS_MAX {
            return refused(format!("{} columns; a table has 1 to {COLUMNS_MAX}", self.columns));
        }
        if matches!(self.optimizer, Optimizer::Ftrl(_)) && self.initial != Initial::Zero {
            let text = "FTRL computes values from gradients alone: its rows begin at 0; take \
                        another optimizer, or Initial::Zero";
            return refused(text.to_owned());
        }
        let Penalty { l1, l2 } = self.penalty;
        if !(l1 >= 0.0 && l2 >= 0.0 && l1.is_finite() && l2.is_finite()) {
            return refused(format!("penalties of {l1} and {l2}; they are 0 or more"));
        }
        self.optimizer.check().map_err(|text| Error::new(Kind::Invalid, text))?;
        Ok(self)
    }
}

/// What rows begin with, before a gradient comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initial {
    /// All zero.
    #[default]
    Zero,
    /// Normal with mean 0, drawn from (seed, row, column).
    Normal {
        /// Its standard deviation.
        deviation: f32,
        /// Columns before this one begin at 0.
        from_column: u32,
        /// What it is drawn from.
        seed: u64,
    },
    /// Gamma with this shape and scale, drawn from (seed, row, column).
    Gamma {
        /// Its shape, 1 or more.
        shape: f32,
        /// Its scale.
        scale: f32,
        /// What it is drawn from.
        seed: u64,
    },
}

impl Initial {
    /// Fills in the first values of a row.
    #[expect(clippy::cast_possible_truncation, reason = "draws of many digits are rounded")]
    pub fn fill(self, row: u32, values: &mut [f32]) {
        match self {
            Self::Zero => values.fill(0.0),
            Self::Normal { deviation, from_column, seed } => {
                let from = values.len().min(from_column as usize);
                let (zeros, drawn) = values.split_at_mut(from);
                zeros.fill(0.0);
                let mut draws = Draws::new(seed, row);
                for value in drawn {
                    *value = (f64::from(deviation) * draws.normal()) as f32;
                }
            }
            Self::Gamma { shape, scale, seed } => {
                let mut draws = Draws::new(seed, row);
                for value in values {
                    *value = (f64::from(scale) * draws.gamma(f64::from(shape).max(1.0))) as f32;
                }
            }
        }
    }
}

/// Numbers drawn from a row's own seed: SplitMix64 (Steele, Lea and Flood 2014).
struct Draws(u64);

impl Draws {
    fn new(seed: u64, row: u32) -> Self {
        let mut draws = Self(seed ^ u64::from(row).wrapping_mul(0xD134_2543_DE82_EF95));
        draws.next();
        draws
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, and up to 1.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Box and Muller 1958.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Marsaglia and Tsang, "A simple method for generating gamma variables", 2000; `shape` is 1 or
    /// more.
    fn gamma(&mut self, shape: f64) -> f64 {
        let (d, mut drawn) = (shape - 1.0 / 3.0, None);
        while drawn.is_none() {
            let normal = self.normal();
            let cubed = (1.0 + normal / (9.0 * d).sqrt()).powi(3);
            let accepts = cubed > 0.0
                && self.uniform().ln() < 0.5 * normal * normal + d - d * cubed + d * cubed.ln();
            drawn = accepts.then_some(d * cubed);
        }
        drawn.unwrap_or(d)
    }
}

/// One round trip with a part of a table: gradients go in, values come out.
///
/// Its payload is the rows that gradients are for (u32 each), the gradients row by row, and the rows
/// that are wanted, all little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// The sender's generation of the table.
    pub generation: u64,
    /// Who sends it; [`OBSERVER`] only reads.
    pub worker: u64,
    /// How many steps the worker has done, this one's gradients included.
    pub clock: u32,
    /// Which step the wanted values are for: they wait until the slowest worker is near enough.
    pub read_for: u32,
    /// Which minibatch the gradients are of, of which split: applied once.
    pub split: u64,
    /// Its place in the split; the first is 0.
    pub minibatch: u32,
    /// The learning rate.
    pub rate: f32,
    /// Whether there is a minibatch to apply; without rows it only counts as one.
    pub pushes: bool,
    /// Whether gradients are bfloat16.
    pub half: bool,
    /// Rows that gradients are for.
    pub pushed: u32,
    /// Whether these are all rows of the part, in their order, and not named.
    pub pushes_all: bool,
    /// Rows that are wanted.
    pub wanted: u32,
    /// Whether these are all rows of the part, in their order, and not named.
    pub wants_all: bool,
    /// How long values may be waited for, in milliseconds.
    pub timeout_ms: u32,
}

/// What a step is answered with, beside the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// The clock of the slowest worker when the values were read.
    pub slowest: u32,
    /// Whether the minibatch had been applied before.
    pub repeated: bool,
}

/// What else is asked of a table; travels as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// Makes the table, or finds that it is there and the same.
    Open(TableSpec),
    /// Gives the worker a seat, at least at `clock`: others wait for it from now on.
    Join {
        /// Its name, not [`OBSERVER`].
        worker: u64,
        /// Where it stands elsewhere.
        clock: u32,
    },
    /// Takes the seat back.
    Leave {
        /// Its name.
        worker: u64,
    },
    /// The worker lives.
    Beat {
        /// Its name.
        worker: u64,
    },
    /// Which minibatches of a split are applied.
    Mark {
        /// The split.
        split: u64,
    },
    /// How the table stands.
    Stand,
}

/// How a table stands: the answer to every [`Call`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stand {
    /// Its generation.
    pub generation: u64,
    /// The clock of the slowest worker with a seat; for who has just joined, its own.
    pub clock: u32,
    /// Workers with a seat.
    pub workers: u32,
    /// For [`Call::Mark`]: the minibatches of the split that are applied, from the first on.
    pub mark: u32,
    /// Minibatches that were applied here.
    pub applied: u64,
    /// Those that came again and were not.
    pub repeated: u64,
    /// Rows that are kept.
    pub rows: u64,
    /// Bytes of memory that they take.
    pub bytes: u64,
}

/// A float as bfloat16: its upper half, rounded to the nearest, ties to even.
#[inline]
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let upper = (bits >> 16) as u16;
    if value.is_nan() {
        // Rounding could carry into the exponent, and the sign.
        return upper | 0x40;
    }
    let (lower, odd) = (bits & 0xFFFF, upper & 1);
    let up = lower > 0x8000 || (lower == 0x8000 && odd == 1);
    upper.wrapping_add(u16::from(up))
}

/// The float that a bfloat16 stands for.
#[inline]
pub fn from_bf16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Ftrl;

    fn spec() -> TableSpec {
        TableSpec {
            first_row: 0,
            rows: 10,
            columns: 4,
            initial: Initial::Zero,
            optimizer: Optimizer::Sgd,
            penalty: Penalty::default(),
            staleness: Some(0),
            seat_ms: 1000,
            generation: 1,
        }
    }

    #[test]
    fn tables_that_cannot_be_are_named() {
        assert!(spec().validated().is_ok());
        let normal = Initial::Normal { deviation: 0.1, from_column: 1, seed: 1 };
        let ftrl = Optimizer::Ftrl(Ftrl::default());
        for (wrong, says) in [
            (TableSpec { rows: 0, ..spec() }, "0 rows"),
            (TableSpec { first_row: u32::MAX, ..spec() }, "rows from row 4294967295"),
            (TableSpec { columns: 0, ..spec() }, "0 columns"),
            (TableSpec { columns: 65_537, ..spec() }, "65537 columns"),
            (TableSpec { initial: normal, optimizer: ftrl, ..spec() }, "FTRL"),
            (TableSpec { penalty: Penalty { l1: -1.0, l2: 0.0 }, ..spec() }, "-1"),
            (TableSpec { penalty: Penalty { l1: 0.0, l2: f32::NAN }, ..spec() }, "NaN"),
        ] {
            let error = wrong.validated().unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn halves_are_rounded_to_the_nearest_and_stay_not_a_number() {
        for (value, half) in [(0.0, 0), (1.0, 0x3F80), (-2.0, 0xC000), (f32::INFINITY, 0x7F80)] {
            assert_eq!(to_bf16(value), half);
            assert_eq!(from_bf16(half), value);
        }
        // 1 + 1/256 lies in the middle, between 1 and 1 + 1/128: to the even one.
        assert_eq!(to_bf16(1.0 + 1.0 / 256.0), 0x3F80);
        assert_eq!(to_bf16(1.0 + 3.0 / 256.0), 0x3F82);
        assert_eq!(to_bf16(1.0 + 1.1 / 256.0), 0x3F81);
        assert_eq!(to_bf16(f32::MAX), 0x7F80);
        assert!(from_bf16(to_bf16(f32::NAN)).is_nan());
        assert!(from_bf16(to_bf16(f32::from_bits(0x7FFF_FFFF))).is_nan());
        assert!(from_bf16(to_bf16(f32::from_bits(0x7F80_0001))).is_nan());
    }

    #[test]
    fn first_values_follow_from_seed_row_and_column_and_have_their_moments() {
        let normal = Initial::Normal { deviation: 0.5, from_column: 1, seed: 7 };
        let gamma = Initial::Gamma { shape: 100.0, scale: 0.01, seed: 7 };
        for (initial, mean, deviation, from) in [(normal, 0.0, 0.5, 1), (gamma, 1.0, 0.1, 0)] {
            let (mut row, mut again) = ([9.0; 17], [9.0; 17]);
            let mut all = Vec::new();
            for number in 0..2_000 {
                initial.fill(number, &mut row);
                initial.fill(number, &mut again);
                assert_eq!(row, again);
                assert!(row[..from].iter().all(|value| *value == 0.0));
                all.extend(row[from..].iter().map(|value| f64::from(*value)));
            }
            let count = all.len() as f64;
            let found = all.iter().sum::<f64>() / count;
            let spread =
                (all.iter().map(|value| (value - found).powi(2)).sum::<f64>() / count).sqrt();
            assert!((found - mean).abs() < 4.0 * deviation / count.sqrt(), "{initial:?}: {found}");
            assert!((spread / deviation - 1.0).abs() < 0.02, "{initial:?}: {spread}");
        }
        let (mut one, mut other) = ([0.0; 4], [0.0; 4]);
        normal.fill(1, &mut one);
        Initial::Normal { deviation: 0.5, from_column: 1, seed: 8 }.fill(1, &mut other);
        assert_ne!(one, other);
    }
}
