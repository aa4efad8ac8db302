//! Matrix factorisation with biases (Koren, Bell and Volinsky, "Matrix Factorization Techniques for
//! Recommender Systems", 2009): a rating is the mean, both biases, and a product of factors.
//!
//! Its gradients are summed over a minibatch, and the penalty is part of them: the rate and the penalty are
//! those of a step for each rating, as in the literature. Steps one after the other would see what those before
//! have changed, and a sum does not: so of a row that more than eight ratings of a minibatch touch, eight times
//! their mean counts.

use super::{Initial, Minibatch, Model, Penalty, Placed, Shape};
use crate::metrics::Measures;

/// A bias and factors for each user and item. An example has two features: its user, and, after all users,
/// its item.
#[derive(Clone, Copy, Debug)]
pub struct Factorization {
    /// How many users there are.
    pub users: u32,
    /// How many items.
    pub items: u32,
    /// Factors of each.
    pub factors: u32,
    /// The mean of all ratings.
    pub mean: f32,
    /// Weight of half of the squares of biases and factors, for each rating.
    pub l2: f32,
    /// Standard deviation of the first factors.
    pub deviation: f32,
    /// What they are drawn from.
    pub seed: u64,
}

/// As many ratings of a row count in a minibatch.
const RATINGS_MAX: f32 = 8.0;

impl Factorization {
    /// Where the rows of user and item begin, and what the rating is thought to be.
    #[inline]
    fn rating(&self, example: &Placed<'_>, values: &[f32]) -> Option<(usize, usize, f32)> {
        let columns = self.factors as usize + 1;
        let mut rows = example.features().map(|(row, _)| row * columns);
        let (user, item) = (rows.next()?, rows.next()?);
        let (of_user, of_item) = (&values[user..user + columns], &values[item..item + columns]);
        let dot: f32 = of_user[1..].iter().zip(&of_item[1..]).map(|(p, q)| p * q).sum();
        Some((user, item, self.mean + of_user[0] + of_item[0] + dot))
    }
}

impl Model for Factorization {
    fn shape(&self) -> Shape {
        let Self { deviation, seed, .. } = *self;
        let initial = Initial::Normal { deviation, from_column: 1, seed };
        let (rows, columns) = (self.users + self.items, self.factors + 1);
        Shape { rows, columns, dense: false, initial }
    }

    fn penalty(&self, asked: Penalty) -> Penalty {
        Penalty { l2: 0.0, ..asked }
    }

    fn gradients(&self, minibatch: &Minibatch, values: &[f32], gradients: &mut [f32]) -> f64 {
        let columns = self.factors as usize + 1;
        let (mut loss, mut ratings) = (0.0, vec![0.0; minibatch.rows().len()]);
        for example in minibatch.iter() {
            let Some((user, item, rating)) = self.rating(&example, values) else { continue };
            let off = rating - example.label;
            loss += f64::from(off) * f64::from(off);
            ratings[user / columns] += 1.0;
            ratings[item / columns] += 1.0;
            let (of_user, of_item) = (&values[user..user + columns], &values[item..item + columns]);
            gradients[user] += off + self.l2 * of_user[0];
            gradients[item] += off + self.l2 * of_item[0];
            let factors = gradients[user + 1..user + columns].iter_mut();
            for (gradient, (p, q)) in factors.zip(of_user[1..].iter().zip(&of_item[1..])) {
                *gradient += off * q + self.l2 * p;
            }
            let factors = gradients[item + 1..item + columns].iter_mut();
            for (gradient, (p, q)) in factors.zip(of_user[1..].iter().zip(&of_item[1..])) {
                *gradient += off * p + self.l2 * q;
            }
        }
        for (ratings, row) in ratings.into_iter().zip(gradients.chunks_exact_mut(columns)) {
            if ratings > RATINGS_MAX {
                row.iter_mut().for_each(|gradient| *gradient *= RATINGS_MAX / ratings);
            }
        }
        loss
    }

    fn outputs(&self) -> usize {
        1
    }

    fn predict(&self, minibatch: &Minibatch, values: &[f32], predictions: &mut Vec<f32>) {
        let rating = |example: Placed<'_>| self.rating(&example, values).map_or(self.mean, |r| r.2);
        predictions.extend(minibatch.iter().map(rating));
    }

    fn measure(&self, minibatch: &Minibatch, values: &[f32], measures: &mut Measures) {
        for example in minibatch.iter() {
            let rating = self.rating(&example, values).map_or(self.mean, |r| r.2);
            measures.add_rating(example.label, rating);
        }
    }
}
