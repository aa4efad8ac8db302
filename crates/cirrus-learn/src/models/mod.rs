//! What does a model compute from a minibatch and the parameters that it touches?
//!
//! Owns [`Model`], the one trait of all, and [`Minibatch`]. Knows neither files nor where parameters lie.
//! Invariant: gradients are a pure function of the minibatch and the values of its rows.

mod logistic;

use std::fmt::Debug;
use std::sync::Arc;

pub use cirrus_store::table::Initial;

pub use logistic::Logistic;

use crate::examples::Examples;

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

/// Examples that are learnt from together, and the rows that they touch.
#[derive(Clone, Debug)]
pub struct Minibatch {
    examples: Examples,
    rows: Arc<[u32]>,
    positions: Vec<u32>,
}

impl Minibatch {
    /// Finds the rows that the examples touch.
    pub fn new(examples: Examples, model: &dyn Model) -> Self {
        let shape = model.shape();
        if shape.dense {
            let positions = examples.indices().to_vec();
            return Self { examples, rows: (0..shape.rows).collect(), positions };
        }
        let mut rows: Vec<u32> = examples.indices().to_vec();
        rows.extend(model.common_rows());
        rows.sort_unstable();
        rows.dedup();
        let place = |row: &u32| rows.binary_search(row).unwrap_or_default();
        let positions = examples.indices().iter().map(|row| place(row) as u32).collect();
        Self { examples, rows: rows.into(), positions }
    }

    /// The examples.
    pub fn examples(&self) -> &Examples {
        &self.examples
    }

    /// The rows that they touch, ascending, each once.
    pub fn rows(&self) -> &Arc<[u32]> {
        &self.rows
    }

    /// For each feature of each example, where its row is among [`Minibatch::rows`].
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }
}

/// What is learnt.
pub trait Model: Debug + Send + Sync {
    /// The table that it needs.
    fn shape(&self) -> Shape;

    /// Rows that every minibatch touches beside its features', such as a bias's.
    fn common_rows(&self) -> Vec<u32> {
        Vec::new()
    }

    /// The sum of the examples' losses; of its mean, the gradients, row by row.
    fn gradients(&self, minibatch: &Minibatch, values: &[f32], gradients: &mut [f32]) -> f64;

    /// Numbers that it predicts for an example.
    fn outputs(&self) -> usize;

    /// Appends what it predicts for each example.
    fn predict(&self, minibatch: &Minibatch, values: &[f32], predictions: &mut Vec<f32>);
}
