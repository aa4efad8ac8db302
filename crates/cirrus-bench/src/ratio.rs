//! From slices to a ratio, its interval and a verdict.
//!
//! Owns the statistics. May not know what was measured. Invariant: nothing is called met unless
//! the whole interval lies on the right side of the target, and the distance is more than two runs
//! of the same server differ.

use serde::Serialize;

/// Rounds below which no 95 % interval exists.
pub(crate) const ROUNDS_MIN: usize = 6;

/// What a ratio has to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Ours over theirs is this or more: more is better.
    AtLeast(f64),
    /// Ours over theirs is this or less: less is better.
    AtMost(f64),
}

impl Target {
    pub(crate) fn number(self) -> f64 {
        match self {
            Self::AtLeast(number) | Self::AtMost(number) => number,
        }
    }
}

/// What came of a comparison with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// The noise is wider than the distance to the target.
    Inconclusive,
}

/// A ratio with its interval, and the same server against itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) middle: f64,
    /// At 95 %, for the median of rounds.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Ours, run twice a round, over itself.
    pub(crate) again: f64,
}

/// One number from each side in each round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Round {
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
    pub(crate) again: f64,
}

impl Ratio {
    /// Of at least [`ROUNDS_MIN`] rounds; `None` when a number is no positive one.
    pub(crate) fn of(rounds: &[Round]) -> Option<Self> {
        let is_positive = |round: &Round| {
            [round.ours, round.theirs, round.again].iter().all(|x| x.is_finite() && *x > 0.0)
        };
        if rounds.len() < ROUNDS_MIN || !rounds.iter().all(is_positive) {
            return None;
        }
        let ratios = sorted(rounds.iter().map(|r| (r.ours * r.again).sqrt() / r.theirs).collect());
        let again = sorted(rounds.iter().map(|round| round.again / round.ours).collect());
        let rank = interval_rank(rounds.len());
        let (low, high) = (ratios[rank], ratios[ratios.len() - 1 - rank]);
        Some(Self { middle: median(&ratios), low, high, again: median(&again) })
    }

    pub(crate) fn verdict(&self, target: Target) -> Verdict {
        let number = target.number();
        let margin = (self.middle / number).ln().abs();
        if margin < self.again.ln().abs() {
            return Verdict::Inconclusive;
        }
        let (is_met, is_missed) = match target {
            Target::AtLeast(_) => (self.low >= number, self.high < number),
            Target::AtMost(_) => (self.high <= number, self.low > number),
        };
        match (is_met, is_missed) {
            (true, _) => Verdict::Met,
            (_, true) => Verdict::Missed,
            _ => Verdict::Inconclusive,
        }
    }
}

/// The median of numbers in order.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

pub(crate) fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers
}

/// How many of the smallest and of the largest of `count` ordered numbers lie outside an interval
/// that holds the median with 95 %, whatever their distribution (the sign test).
fn interval_rank(count: usize) -> usize {
    // The chance that at most `rank` of `count` fall below the median, for rising ranks.
    let mut term = 0.5f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut tail = 0.0;
    let mut rank = 0;
    loop {
        tail += term;
        if tail > 0.025 {
            return rank.max(1) - 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of rounds are small")]
        let (left, next) = ((count - rank) as f64, (rank + 1) as f64);
        term *= left / next;
        rank += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(ratios: &[f64]) -> Vec<Round> {
        ratios.iter().map(|r| Round { ours: 100.0 * r, theirs: 100.0, again: 100.0 * r }).collect()
    }

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // Tables of the sign test: 95 % at 6 rounds is the whole range, at 15 the 4th and 12th.
        assert_eq!([6, 8, 9, 12, 15, 20].map(interval_rank), [0, 0, 1, 2, 3, 5]);
        let ratio = Ratio::of(&rounds(&[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 9.0])).unwrap();
        assert_eq!((ratio.low, ratio.middle, ratio.high), (1.1, 1.4, 1.7));
    }

    #[test]
    fn a_wide_interval_is_never_met() {
        let narrow = Ratio::of(&rounds(&[1.6, 1.61, 1.62, 1.63, 1.64, 1.65])).unwrap();
        assert_eq!(narrow.verdict(Target::AtLeast(1.5)), Verdict::Met);
        assert_eq!(narrow.verdict(Target::AtLeast(1.7)), Verdict::Missed);
        assert_eq!(narrow.verdict(Target::AtMost(1.7)), Verdict::Met);
        assert_eq!(narrow.verdict(Target::AtMost(1.5)), Verdict::Missed);
        let wide = Ratio::of(&rounds(&[1.2, 1.7, 1.7, 1.7, 1.7, 2.5])).unwrap();
        assert_eq!(wide.verdict(Target::AtLeast(1.5)), Verdict::Inconclusive);
        assert_eq!(wide.verdict(Target::AtMost(1.5)), Verdict::Inconclusive);
    }

    #[test]
    fn a_server_that_differs_from_itself_decides_nothing() {
        let drifting = Round { ours: 160.0, theirs: 100.0, again: 190.0 };
        let ratio = Ratio::of(&[drifting; ROUNDS_MIN]).unwrap();
        assert_eq!(ratio.verdict(Target::AtLeast(1.6)), Verdict::Inconclusive);
    }

    #[test]
    fn too_few_rounds_and_zeros_have_no_ratio() {
        assert_eq!(Ratio::of(&rounds(&[1.0; ROUNDS_MIN - 1])), None);
        assert_eq!(Ratio::of(&rounds(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0])), None);
    }
}
