//! How good are predictions?
//!
//! Owns the measures: sums that are taken example by example, and joined over parts. Knows no model.
//! Invariant: measures of parts, joined in any order, are those of the whole, but for rounding.

use std::collections::BTreeMap;

/// Sums over examples that were judged.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    loss: f64,
    losses: u64,
    /// Of those whose class is known.
    classes: u64,
    right: u64,
    /// Scores of two classes, with whether it is the one.
    scores: Vec<(f32, bool)>,
    squares: f64,
    ratings: u64,
    surprise: f64,
    words: f64,
}

/// The probability of the class 1 at this score.
#[inline]
pub fn sigmoid(score: f32) -> f32 {
    1.0 / (1.0 + (-score).exp())
}

/// Minus the logarithm of the probability of the label, 0 or 1, at this score. Finite for any finite score.
#[inline]
pub fn log_loss(label: f32, score: f32) -> f64 {
    let towards = if label > 0.5 { score } else { -score };
    f64::from((-towards.abs()).exp().ln_1p() + (-towards).max(0.0) + towards * 0.0)
}

impl Measures {
    /// An example of two classes.
    pub fn add_score(&mut self, label: f32, score: f32) {
        self.add_class(log_loss(label, score), (score > 0.0) == (label > 0.5));
        self.scores.push((score, label > 0.5));
    }

    /// An example of several classes.
    pub fn add_class(&mut self, loss: f64, is_right: bool) {
        self.loss += loss;
        self.losses += 1;
        self.classes += 1;
        self.right += u64::from(is_right);
    }

    /// An example that is a number.
    pub fn add_rating(&mut self, label: f32, predicted: f32) {
        let off = f64::from(predicted) - f64::from(label);
        self.squares += off * off;
        self.ratings += 1;
    }

    /// Words that were to be expected, by minus the logarithm of their probability.
    pub fn add_words(&mut self, surprise: f64, words: f64) {
        self.surprise += surprise;
        self.words += words;
    }

    /// Adds those of another part.
    pub fn join(&mut self, other: Self) {
        self.loss += other.loss;
        self.losses += other.losses;
        self.classes += other.classes;
        self.right += other.right;
        self.scores.extend(other.scores);
        self.squares += other.squares;
        self.ratings += other.ratings;
        self.surprise += other.surprise;
        self.words += other.words;
    }

    /// The measures by name, of those that there are examples for: `log_loss` (mean), `accuracy`, `auc`, `rmse`,
    /// `perplexity` (by word).
    pub fn named(mut self) -> BTreeMap<String, f64> {
        let mut named = BTreeMap::new();
        let mut put = |name: &str, value: f64| {
            named.insert(name.to_owned(), value);
        };
        if self.losses > 0 {
            put("log_loss", self.loss / self.losses as f64);
        }
        if self.classes > 0 {
            put("accuracy", self.right as f64 / self.classes as f64);
        }
        if let Some(auc) = auc(&mut self.scores) {
            put("auc", auc);
        }
        if self.ratings > 0 {
            put("rmse", (self.squares / self.ratings as f64).sqrt());
        }
        if self.words > 0.0 {
            put("perplexity", (self.surprise / self.words).exp());
        }
        named
    }
}

/// The probability that an example of the class has a larger score than one that is not (Hanley and McNeil
/// 1982), equal ones counting half; `None` without examples of both.
fn auc(scores: &mut [(f32, bool)]) -> Option<f64> {
    scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let ones = scores.iter().filter(|(_, is_one)| *is_one).count() as f64;
    let others = scores.len() as f64 - ones;
    if ones == 0.0 || others == 0.0 {
        return None;
    }
    let (mut below, mut area) = (0.0, 0.0);
    for same in scores.chunk_by(|a, b| a.0 == b.0) {
        let here = same.iter().filter(|(_, is_one)| *is_one).count() as f64;
        let not = same.len() as f64 - here;
        area += here * (below + not / 2.0);
        below += not;
    }
    Some(area / (ones * others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_those_of_the_formula_at_any_score() {
        for (label, score) in [(1.0, 0.3_f32), (0.0, 0.3), (1.0, -4.0), (0.0, 7.0)] {
            let probability = 1.0 / (1.0 + f64::from(-score).exp());
            let expected = if label > 0.5 { -probability.ln() } else { -(1.0 - probability).ln() };
            assert!((log_loss(label, score) - expected).abs() < 1e-6);
        }
        assert!((log_loss(1.0, -200.0) - 200.0).abs() < 1e-3);
        assert_eq!(log_loss(1.0, 200.0), 0.0);
        assert!(log_loss(1.0, f32::NAN).is_nan() && log_loss(0.0, f32::NAN).is_nan());
        assert!(!log_loss(1.0, f32::NEG_INFINITY).is_finite());
    }

    #[test]
    fn auc_counts_pairs_and_equal_ones_half() {
        let pairs =
            [(0.1, false), (0.4, true), (0.4, false), (0.8, true), (0.2, true), (0.9, false)];
        let mut expected = 0.0;
        for one in pairs.iter().filter(|pair| pair.1) {
            for other in pairs.iter().filter(|pair| !pair.1) {
                let by = one.0.partial_cmp(&other.0).unwrap();
                expected += [0.0, 0.5, 1.0][(by as i8 + 1) as usize];
            }
        }
        assert!((auc(&mut pairs.clone()).unwrap() - expected / 9.0).abs() < 1e-12);
        assert_eq!(auc(&mut [(0.5, true)]), None);
    }

    #[test]
    fn parts_are_joined() {
        let (mut whole, mut one, mut other) =
            (Measures::default(), Measures::default(), Measures::default());
        for number in 0..100_u16 {
            let (label, score) = (f32::from(number % 3 % 2), f32::from(number % 7) - 3.0);
            let part = if number % 2 == 0 { &mut one } else { &mut other };
            for measures in [&mut whole, part] {
                measures.add_score(label, score);
                measures.add_rating(label, score);
                measures.add_words(f64::from(number), 2.0);
            }
        }
        other.join(one);
        let (whole, joined) = (whole.named(), other.named());
        assert_eq!(whole.len(), 5);
        for (name, value) in &whole {
            assert!((value - joined[name]).abs() < 1e-9, "{name}");
        }
    }
}
