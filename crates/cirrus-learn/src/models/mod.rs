//! What does a model compute from a minibatch and the parameters that it touches?
//!
//! Owns [`Model`], the one trait of all, and [`Minibatch`]. Knows neither files nor where parameters lie.
//! Invariant: gradients are a pure function of the minibatch and the values of its rows.
//!
//! A model of one's own is a type with four functions:
//!
//! ```
//! use cirrus_learn::examples::Examples;
//! use cirrus_learn::metrics::Measures;
//! use cirrus_learn::models::{Initial, Minibatch, Model, Shape};
//!
//! /// Counts that follow a Poisson distribution, whose logarithm is a sum of weights.
//! #[derive(Debug)]
//! struct Poisson {
//!     features: u32,
//! }
//!
//! impl Model for Poisson {
//!     fn shape(&self) -> Shape {
//!         Shape { rows: self.features, columns: 1, dense: false, initial: Initial::Zero }
//!     }
//!
//!     fn gradients(&self, batch: &Minibatch, values: &[f32], gradients: &mut [f32]) -> f64 {
//!         let share = 1.0 / batch.len() as f32;
//!         let mut loss = 0.0;
//!         for example in batch.iter() {
//!             let log: f32 = example.features().map(|(row, x)| values[row] * x).sum();
//!             loss += f64::from(log.exp() - example.label * log);
//!             let off = (log.exp() - example.label) * share;
//!             example.features().for_each(|(row, x)| gradients[row] += off * x);
//!         }
//!         loss
//!     }
//!
//!     fn outputs(&self) -> usize {
//!         1
//!     }
//!
//!     fn predict(&self, batch: &Minibatch, values: &[f32], predictions: &mut Vec<f32>) {
//!         let log = |features: &mut dyn Iterator<Item = (usize, f32)>| -> f32 {
//!             features.map(|(row, x)| values[row] * x).sum()
//!         };
//!         predictions.extend(batch.iter().map(|example| log(&mut example.features()).exp()));
//!     }
//!
//!     fn measure(&self, batch: &Minibatch, values: &[f32], measures: &mut Measures) {
//!         let mut predictions = Vec::new();
//!         self.predict(batch, values, &mut predictions);
//!         for (example, predicted) in batch.iter().zip(predictions) {
//!             measures.add_rating(example.label, predicted);
//!         }
//!     }
//! }
//!
//! // One example with feature 3, twice, of which 2 were counted.
//! let (poisson, mut examples) = (Poisson { features: 10 }, Examples::default());
//! examples.push(2.0, [(3, 2.0)]);
//! let batch = Minibatch::new(examples, &poisson);
//! let mut gradients = vec![0.0; batch.rows().len()];
//! poisson.gradients(&batch, &[0.0], &mut gradients);
//! assert_eq!(gradients, [-2.0]);
//! ```

mod factorization;
mod fm;
mod lda;
mod logistic;
mod softmax;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

pub use cirrus_store::rule::Penalty;
pub use cirrus_store::table::Initial;

pub use factorization::Factorization;
pub use fm::{FactorizationMachine, Target};
pub use lda::Lda;
pub use logistic::Logistic;
pub use softmax::Softmax;

use crate::examples::Examples;
use crate::metrics::Measures;

/// The table of parameters that a model needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Rows: features, and whatever else the model keeps.
    pub rows: u32,
    /// Coordinates of a row.
    pub columns: u32,
    /// Whether every step touches all rows.
    pub dense: bool,
    /// What rows begin with.
    pub initial: Initial,
}

/// What is learnt.
pub trait Model: Debug + Send + Sync {
    /// The table that it needs.
    fn shape(&self) -> Shape;

    /// Rows that every minibatch touches beside its features', such as a bias's: each above all features.
    fn common_rows(&self) -> Vec<u32> {
        Vec::new()
    }

    /// The sum of the examples' losses. Adds what is to be pushed to `gradients`, which are zero: of each row
    /// of the minibatch, in the order of [`Minibatch::rows`], as many as there are columns.
    fn gradients(&self, minibatch: &Minibatch, values: &[f32], gradients: &mut [f32]) -> f64;

    /// What the update rule adds to these gradients, of what is asked for: all of it, unless the model says
    /// otherwise.
    fn penalty(&self, asked: Penalty) -> Penalty {
        asked
    }

    /// Numbers that it predicts for an example.
    fn outputs(&self) -> usize;

    /// Appends what it predicts for each example.
    fn predict(&self, minibatch: &Minibatch, values: &[f32], predictions: &mut Vec<f32>);

    /// Judges held-out examples.
    fn measure(&self, minibatch: &Minibatch, values: &[f32], measures: &mut Measures);
}

/// Examples that are learnt from together, and the rows that they touch.
#[derive(Clone, Debug)]
pub struct Minibatch {
    examples: Examples,
    rows: Arc<[u32]>,
    /// Of each feature of each example, the place of its row in `rows`.
    places: Vec<u32>,
}

/// An example of a minibatch.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'m> {
    /// 0 or 1 of two classes, the number of a class, or a rating.
    pub label: f32,
    places: &'m [u32],
    values: &'m [f32],
}

impl<'m> Placed<'m> {
    /// Its features: the place of each one's row, and what it is.
    #[inline]
    pub fn features(&self) -> impl ExactSizeIterator<Item = (usize, f32)> + Clone + use<'m> {
        self.places.iter().zip(self.values).map(|(place, value)| (*place as usize, *value))
    }
}

impl Minibatch {
    /// Finds the rows that the examples touch.
    #[expect(clippy::cast_possible_truncation, reason = "a minibatch has fewer than 2^32 features")]
    pub fn new(examples: Examples, model: &dyn Model) -> Self {
        let shape = model.shape();
        if shape.dense {
            let places = examples.indices().to_vec();
            return Self { examples, rows: (0..shape.rows).collect(), places };
        }
        // Each with where it stands, so that one sort finds both the rows and their places.
        let mut entries: Vec<u64> = Vec::with_capacity(examples.indices().len());
        for (at, row) in examples.indices().iter().enumerate() {
            entries.push(u64::from(*row) << 32 | at as u64);
        }
        entries.sort_unstable();
        let mut rows: Vec<u32> = Vec::new();
        let mut places = vec![0; entries.len()];
        for entry in entries {
            let row = (entry >> 32) as u32;
            if rows.last() != Some(&row) {
                rows.push(row);
            }
            places[(entry & 0xFFFF_FFFF) as usize] = (rows.len() - 1) as u32;
        }
        rows.extend(model.common_rows());
        Self { examples, rows: rows.into(), places }
    }

    /// How many examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The rows that they touch, ascending, each once.
    pub fn rows(&self) -> &Arc<[u32]> {
        &self.rows
    }

    /// The examples in turn.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Placed<'_>> {
        let mut from = 0;
        self.examples.iter().map(move |example| {
            let places = &self.places[from..from + example.indices.len()];
            from += places.len();
            Placed { label: example.label, places, values: example.values }
        })
    }
}
