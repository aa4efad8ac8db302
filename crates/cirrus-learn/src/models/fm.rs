//! Factorisation machines (Rendle 2010): a weight for each feature, and for each pair the product of its
//! factors, in time linear in features and factors.

use super::{Initial, Minibatch, Model, Placed, Shape};
use crate::metrics::{Measures, log_loss, sigmoid};

/// What the score is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One of two classes, by the logistic loss.
    Class,
    /// A number, by the squared loss.
    Number,
}

/// A weight and factors for each feature, and a bias in the last row.
#[derive(Clone, Copy, Debug)]
pub struct FactorizationMachine {
    /// Features; indices are below this.
    pub features: u32,
    /// Factors of each.
    pub factors: u32,
    /// What the score is for.
    pub target: Target,
    /// Standard deviation of the first factors.
    pub deviation: f32,
    /// What they are drawn from.
    pub seed: u64,
}

impl FactorizationMachine {
    /// The score; leaves the sums of factors over the features in `sums`.
    fn score(&self, example: &Placed<'_>, values: &[f32], sums: &mut [f32]) -> f32 {
        let columns = sums.len() + 1;
        sums.fill(0.0);
        let (mut score, mut squares) = (values[values.len() - columns], 0.0);
        for (row, x) in example.features() {
            let row = &values[row * columns..(row + 1) * columns];
            score += row[0] * x;
            for (sum, factor) in sums.iter_mut().zip(&row[1..]) {
                let product = factor * x;
                *sum += product;
                squares += product * product;
            }
        }
        let of_sums: f32 = sums.iter().map(|sum| sum * sum).sum();
        score + 0.5 * (of_sums - squares)
    }

    fn loss(&self, label: f32, score: f32) -> (f64, f32) {
        match self.target {
            Target::Class => (log_loss(label, score), sigmoid(score) - label),
            Target::Number => {
                let off = score - label;
                (f64::from(off) * f64::from(off), off)
            }
        }
    }
}

impl Model for FactorizationMachine {
    fn shape(&self) -> Shape {
        let Self { deviation, seed, .. } = *self;
        let initial = Initial::Normal { deviation, from_column: 1, seed };
        let (rows, columns) = (self.features + 1, self.factors + 1);
        Shape { rows, columns, dense: false, initial }
    }

    fn common_rows(&self) -> Vec<u32> {
        vec![self.features]
    }

    fn gradients(&self, minibatch: &Minibatch, values: &[f32], gradients: &mut [f32]) -> f64 {
        let columns = self.factors as usize + 1;
        let share = 1.0 / minibatch.len().max(1) as f32;
        let mut sums = vec![0.0; self.factors as usize];
        let (mut loss, bias) = (0.0, values.len() - columns);
        for example in minibatch.iter() {
            let score = self.score(&example, values, &mut sums);
            let (of_example, off) = self.loss(example.label, score);
            loss += of_example;
            let off = off * share;
            gradients[bias] += off;
            for (row, x) in example.features() {
                let range = row * columns..(row + 1) * columns;
                let (row, gradients) = (&values[range.clone()], &mut gradients[range]);
                let off = off * x;
                gradients[0] += off;
                let factors = gradients[1..].iter_mut().zip(&row[1..]).zip(&sums);
                for ((gradient, factor), sum) in factors {
                    *gradient += off * (sum - factor * x);
                }
            }
        }
        loss
    }

    fn outputs(&self) -> usize {
        1
    }

    fn predict(&self, minibatch: &Minibatch, values: &[f32], predictions: &mut Vec<f32>) {
        let mut sums = vec![0.0; self.factors as usize];
        for example in minibatch.iter() {
            let score = self.score(&example, values, &mut sums);
            predictions.push(match self.target {
                Target::Class => sigmoid(score),
                Target::Number => score,
            });
        }
    }

    fn measure(&self, minibatch: &Minibatch, values: &[f32], measures: &mut Measures) {
        let mut sums = vec![0.0; self.factors as usize];
        for example in minibatch.iter() {
            let score = self.score(&example, values, &mut sums);
            match self.target {
                Target::Class => measures.add_score(example.label, score),
                Target::Number => measures.add_rating(example.label, score),
            }
        }
    }
}
