//! Logistic regression of sparse features, for labels 0 and 1.

use super::{Initial, Minibatch, Model, Shape};

/// A weight for each feature, and a bias in the last row.
#[derive(Clone, Copy, Debug)]
pub struct Logistic {
    /// Features; indices are below this.
    pub features: u32,
}

impl Logistic {
    fn scores<'m>(
        minibatch: &'m Minibatch,
        values: &'m [f32],
    ) -> impl Iterator<Item = (f32, f32, std::ops::Range<usize>)> + 'm {
        let bias = values.last().copied().unwrap_or_default();
        let mut from = 0;
        minibatch.examples().iter().map(move |example| {
            let range = from..from + example.indices.len();
            from = range.end;
            let places = &minibatch.positions()[range.clone()];
            let dot: f32 = places
                .iter()
                .zip(example.values)
                .map(|(place, x)| values[*place as usize] * x)
                .sum();
            (example.label, bias + dot, range)
        })
    }
}

impl Model for Logistic {
    fn shape(&self) -> Shape {
        Shape { rows: self.features + 1, columns: 1, dense: false, initial: Initial::Zero }
    }

    fn common_rows(&self) -> Vec<u32> {
        vec![self.features]
    }

    fn gradients(&self, minibatch: &Minibatch, values: &[f32], gradients: &mut [f32]) -> f64 {
        gradients.fill(0.0);
        let share = 1.0 / minibatch.examples().len().max(1) as f32;
        let (mut loss, last) = (0.0, gradients.len() - 1);
        for (label, score, range) in Self::scores(minibatch, values) {
            let signed = if label > 0.5 { score } else { -score };
            loss += f64::from((-signed.abs()).exp().ln_1p() + (-signed).max(0.0));
            let off = (1.0 / (1.0 + (-score).exp()) - label) * share;
            gradients[last] += off;
            let values = &minibatch.examples().values()[range.clone()];
            for (place, x) in minibatch.positions()[range].iter().zip(values) {
                gradients[*place as usize] += off * x;
            }
        }
        loss
    }

    fn outputs(&self) -> usize {
        1
    }

    fn predict(&self, minibatch: &Minibatch, values: &[f32], predictions: &mut Vec<f32>) {
        let scores = Self::scores(minibatch, values);
        predictions.extend(scores.map(|(_, score, _)| 1.0 / (1.0 + (-score).exp())));
    }
}
