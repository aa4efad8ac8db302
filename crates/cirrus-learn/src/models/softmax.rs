//! Softmax regression: one of several classes.

use super::{Initial, Minibatch, Model, Placed, Shape};
use crate::metrics::Measures;

/// A weight for each feature and class, and biases in the last row.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// Features; indices are below this.
    pub features: u32,
    /// Classes; labels are below this.
    pub classes: u32,
}

impl Softmax {
    /// Leaves the probabilities of the classes; returns the loss.
    #[expect(clippy::cast_possible_truncation, reason = "a label is a small number")]
    fn probabilities(&self, example: &Placed<'_>, values: &[f32], classes: &mut [f32]) -> f64 {
        let count = classes.len();
        classes.copy_from_slice(&values[values.len() - count..]);
        for (row, x) in example.features() {
            let weights = &values[row * count..(row + 1) * count];
            classes.iter_mut().zip(weights).for_each(|(score, weight)| *score += weight * x);
        }
        let most = classes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let label = example.label as usize;
        let of_label = classes.get(label).copied().unwrap_or(f32::NAN) - most;
        let mut sum = 0.0;
        for score in classes.iter_mut() {
            *score = (*score - most).exp();
            sum += *score;
        }
        classes.iter_mut().for_each(|score| *score /= sum);
        f64::from(sum).ln() - f64::from(of_label)
    }
}

impl Model for Softmax {
    fn shape(&self) -> Shape {
        let (rows, columns) = (self.features + 1, self.classes);
        Shape { rows, columns, dense: false, initial: Initial::Zero }
    }

    fn common_rows(&self) -> Vec<u32> {
        vec![self.features]
    }

    #[expect(clippy::cast_possible_truncation, reason = "a label is a small number")]
    fn gradients(&self, minibatch: &Minibatch, values: &[f32], gradients: &mut [f32]) -> f64 {
        let count = self.classes as usize;
        let share = 1.0 / minibatch.len().max(1) as f32;
        let (mut loss, mut classes) = (0.0, vec![0.0; count]);
        let bias = gradients.len() - count;
        for example in minibatch.iter() {
            loss += self.probabilities(&example, values, &mut classes);
            if let Some(label) = classes.get_mut(example.label as usize) {
                *label -= 1.0;
            }
            classes.iter_mut().for_each(|off| *off *= share);
            for (row, x) in example.features() {
                let row = &mut gradients[row * count..(row + 1) * count];
                row.iter_mut().zip(&classes).for_each(|(gradient, off)| *gradient += off * x);
            }
            let row = &mut gradients[bias..];
            row.iter_mut().zip(&classes).for_each(|(gradient, off)| *gradient += off);
        }
        loss
    }

    fn outputs(&self) -> usize {
        self.classes as usize
    }

    fn predict(&self, minibatch: &Minibatch, values: &[f32], predictions: &mut Vec<f32>) {
        let mut classes = vec![0.0; self.classes as usize];
        for example in minibatch.iter() {
            self.probabilities(&example, values, &mut classes);
            predictions.extend_from_slice(&classes);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a label is a small number")]
    fn measure(&self, minibatch: &Minibatch, values: &[f32], measures: &mut Measures) {
        let mut classes = vec![0.0; self.classes as usize];
        for example in minibatch.iter() {
            let loss = self.probabilities(&example, values, &mut classes);
            let most = classes.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            measures
                .add_class(loss, most.is_some_and(|(class, _)| class == example.label as usize));
        }
    }
}
