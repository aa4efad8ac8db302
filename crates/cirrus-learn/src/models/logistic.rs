//! Logistic regression of sparse features, for labels 0 and 1.

use super::{Initial, Minibatch, Model, Placed, Shape};
use crate::metrics::{Measures, log_loss, sigmoid};

/// A weight for each feature, and a bias in the last row.
#[derive(Clone, Copy, Debug)]
pub struct Logistic {
    /// Features; indices are below this.
    pub features: u32,
}

fn score(example: &Placed<'_>, values: &[f32]) -> f32 {
    let bias = values.last().copied().unwrap_or_default();
    bias + example.features().map(|(row, x)| values[row] * x).sum::<f32>()
}

impl Model for Logistic {
    fn shape(&self) -> Shape {
        Shape { rows: self.features + 1, columns: 1, dense: false, initial: Initial::Zero }
    }

    fn common_rows(&self) -> Vec<u32> {
        vec![self.features]
    }

    fn gradients(&self, minibatch: &Minibatch, values: &[f32], gradients: &mut [f32]) -> f64 {
        let share = 1.0 / minibatch.len().max(1) as f32;
        let (mut loss, mut bias) = (0.0, 0.0);
        for example in minibatch.iter() {
            let score = score(&example, values);
            loss += log_loss(example.label, score);
            let off = (sigmoid(score) - example.label) * share;
            bias += off;
            example.features().for_each(|(row, x)| gradients[row] += off * x);
        }
        if let Some(last) = gradients.last_mut() {
            *last += bias;
        }
        loss
    }

    fn outputs(&self) -> usize {
        1
    }

    fn predict(&self, minibatch: &Minibatch, values: &[f32], predictions: &mut Vec<f32>) {
        predictions.extend(minibatch.iter().map(|example| sigmoid(score(&example, values))));
    }

    fn measure(&self, minibatch: &Minibatch, values: &[f32], measures: &mut Measures) {
        for example in minibatch.iter() {
            measures.add_score(example.label, score(&example, values));
        }
    }
}
