//! Latent Dirichlet allocation by online variational Bayes (Hoffman, Blei and Bach, "Online Learning for
//! Latent Dirichlet Allocation", 2010).
//!
//! And not collapsed Gibbs sampling: its step is a gradient step (from `lambda` towards what the
//! minibatch alone would make of it, at rate `rho`), so that servers, bounds on staleness and each
//! minibatch counting once are those of every other model; a sampler's state would be a topic of each word of each
//! document, which had to be kept beside the parameters.

use super::{Initial, Minibatch, Model, Penalty, Placed, Shape};
use crate::metrics::Measures;

/// For each word, how much it is of each topic: `lambda`. An example is a document: words, how often.
#[derive(Clone, Copy, Debug)]
pub struct Lda {
    /// Words; indices are below this.
    pub words: u32,
    /// Topics.
    pub topics: u32,
    /// Documents that there are, of which a minibatch is a sample.
    pub documents: u64,
    /// Prior of a document's topics.
    pub alpha: f32,
    /// Prior of a topic's words.
    pub eta: f32,
    /// What the first values are drawn from.
    pub seed: u64,
}

/// A document's topics stand when they change by less than this, or after so many rounds.
const CHANGE_MIN: f32 = 1e-3;
const ROUNDS_MAX: usize = 100;

impl Lda {
    /// The sums of `lambda` over all words, by topic.
    fn totals(&self, values: &[f32]) -> Vec<f64> {
        let topics = self.topics as usize;
        let mut totals = vec![0.0; topics];
        for row in values.chunks_exact(topics) {
            totals.iter_mut().zip(row).for_each(|(total, value)| *total += f64::from(*value));
        }
        totals
    }

    #[expect(clippy::cast_possible_truncation, reason = "a weight of many digits is rounded")]
    /// For each feature of a document, `exp E[log beta]` of its word by topic.
    fn word_weights(&self, example: &Placed<'_>, values: &[f32], totals: &[f64]) -> Vec<f32> {
        let topics = self.topics as usize;
        let of_totals: Vec<f64> = totals.iter().map(|total| digamma(*total)).collect();
        let words =
            example.features().flat_map(|(row, _)| &values[row * topics..(row + 1) * topics]);
        let of_totals = of_totals.iter().cycle();
        words
            .zip(of_totals)
            .map(|(value, of)| (digamma(f64::from(*value)) - of).exp() as f32)
            .collect()
    }

    /// A document's topics: `gamma`, and `exp E[log theta]`.
    fn topics_of(&self, counts: &[f32], weights: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let topics = self.topics as usize;
        let mut gamma = vec![1.0_f32; topics];
        let mut theta = vec![0.0; topics];
        exp_expected_log(&gamma, &mut theta);
        let mut next = vec![0.0; topics];
        for _ in 0..ROUNDS_MAX {
            next.fill(0.0);
            for (count, weights) in counts.iter().zip(weights.chunks_exact(topics)) {
                let norm: f32 = weights.iter().zip(&theta).map(|(w, t)| w * t).sum::<f32>() + 1e-30;
                let share = count / norm;
                next.iter_mut().zip(weights).for_each(|(next, weight)| *next += share * weight);
            }
            let mut change = 0.0;
            for ((gamma, next), theta) in gamma.iter_mut().zip(&next).zip(&theta) {
                let now = self.alpha + theta * next;
                change += (now - *gamma).abs();
                *gamma = now;
            }
            exp_expected_log(&gamma, &mut theta);
            if change < CHANGE_MIN * topics as f32 {
                break;
            }
        }
        (gamma, theta)
    }

    /// Minus the logarithm of the probability of words under a document's topics, and how many words.
    fn surprise(
        &self,
        gamma: &[f32],
        words: impl Iterator<Item = (usize, f32)>,
        values: &[f32],
        totals: &[f64],
    ) -> (f64, f64) {
        let topics = self.topics as usize;
        let sum: f64 = gamma.iter().map(|value| f64::from(*value)).sum();
        let (mut surprise, mut count) = (0.0, 0.0);
        for (row, times) in words {
            let row = &values[row * topics..(row + 1) * topics];
            let of_topics = gamma.iter().zip(row).zip(totals);
            let probability: f64 = of_topics
                .map(|((gamma, value), total)| f64::from(*gamma) / sum * f64::from(*value) / total)
                .sum();
            surprise -= f64::from(times) * probability.ln();
            count += f64::from(times);
        }
        (surprise, count)
    }
}

impl Model for Lda {
    fn shape(&self) -> Shape {
        let initial = Initial::Gamma { shape: 100.0, scale: 0.01, seed: self.seed };
        Shape { rows: self.words, columns: self.topics, dense: true, initial }
    }

    /// The rule takes `lambda` towards 0 at its rate, and the gradients towards what the minibatch would make of
    /// it: however old the values are that these were computed from, `lambda` is a mean of what minibatches made.
    fn penalty(&self, _: Penalty) -> Penalty {
        Penalty { l1: 0.0, l2: 1.0 }
    }

    fn gradients(&self, minibatch: &Minibatch, values: &[f32], gradients: &mut [f32]) -> f64 {
        let topics = self.topics as usize;
        let totals = self.totals(values);
        let scale = self.documents as f32 / minibatch.len().max(1) as f32;
        let mut loss = 0.0;
        gradients.iter_mut().for_each(|gradient| *gradient -= self.eta);
        for example in minibatch.iter() {
            let counts: Vec<f32> = example.features().map(|(_, count)| count).collect();
            let weights = self.word_weights(&example, values, &totals);
            let (gamma, theta) = self.topics_of(&counts, &weights);
            for ((row, count), weights) in example.features().zip(weights.chunks_exact(topics)) {
                let norm: f32 = weights.iter().zip(&theta).map(|(w, t)| w * t).sum::<f32>() + 1e-30;
                let share = scale * count / norm;
                let row = &mut gradients[row * topics..(row + 1) * topics];
                for ((gradient, weight), theta) in row.iter_mut().zip(weights).zip(&theta) {
                    *gradient -= share * weight * theta;
                }
            }
            loss += self.surprise(&gamma, example.features(), values, &totals).0;
        }
        loss
    }

    fn outputs(&self) -> usize {
        self.topics as usize
    }

    fn predict(&self, minibatch: &Minibatch, values: &[f32], predictions: &mut Vec<f32>) {
        let totals = self.totals(values);
        for example in minibatch.iter() {
            let counts: Vec<f32> = example.features().map(|(_, count)| count).collect();
            let weights = self.word_weights(&example, values, &totals);
            let (gamma, _) = self.topics_of(&counts, &weights);
            let sum: f32 = gamma.iter().sum();
            predictions.extend(gamma.iter().map(|value| value / sum));
        }
    }

    /// By document completion: topics from every second word, the perplexity of the others.
    fn measure(&self, minibatch: &Minibatch, values: &[f32], measures: &mut Measures) {
        let topics = self.topics as usize;
        let totals = self.totals(values);
        for example in minibatch.iter() {
            let weights = self.word_weights(&example, values, &totals);
            let known = example.features().zip(weights.chunks_exact(topics)).step_by(2);
            let (counts, weights): (Vec<f32>, Vec<&[f32]>) =
                known.map(|((_, count), weights)| (count, weights)).unzip();
            let (gamma, _) = self.topics_of(&counts, &weights.concat());
            let hidden = example.features().skip(1).step_by(2);
            let (surprise, count) = self.surprise(&gamma, hidden, values, &totals);
            measures.add_words(surprise, count);
        }
    }
}

/// `exp(digamma(value) - digamma(sum of all))` of each.
#[expect(clippy::cast_possible_truncation, reason = "a weight of many digits is rounded")]
fn exp_expected_log(gamma: &[f32], theta: &mut [f32]) {
    let sum: f64 = gamma.iter().map(|value| f64::from(*value)).sum();
    let of_sum = digamma(sum);
    for (theta, gamma) in theta.iter_mut().zip(gamma) {
        *theta = (digamma(f64::from(*gamma)) - of_sum).exp() as f32;
    }
}

/// The derivative of the logarithm of the gamma function, for arguments above 0: the recurrence up to 6, then the
/// asymptotic series (Abramowitz and Stegun 6.3.5 and 6.3.18).
pub(super) fn digamma(mut x: f64) -> f64 {
    let mut below = 0.0;
    while x < 6.0 {
        below += 1.0 / x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = 1.0 / 12.0 - inverse * (1.0 / 120.0 - inverse * (1.0 / 252.0 - inverse / 240.0));
    x.ln() - 0.5 / x - inverse * series - below
}
