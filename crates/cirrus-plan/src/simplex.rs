//! Linear programs that grow by columns.
//!
//! Owns [`Program`]: least cost with `A x >= b` and `A x <= b`, `x >= 0`, by the revised simplex
//! method with a dense inverse. Knows no machine. What it returns is as exact as floating point:
//! who needs a proof checks the dual values himself.
//!
//! The pure-Rust solvers that there are return no dual values and cannot take a column into a
//! basis that they keep; column generation needs both. Rows here are kinds of tasks, tens to
//! hundreds, so that a dense inverse is small: a pivot costs rows², pricing the columns' entries.

/// What a violated row costs; far beyond any price, so that it is in no optimum that there is.
const PENALTY: f64 = 1e6;
const TOLERANCE: f64 = 1e-9;
/// After so many pivots that gain nothing, the first improving column is taken: that cannot cycle.
const STALLS_MAX: usize = 50;
/// So many columns are tried before all are looked at again.
const CANDIDATES_MAX: usize = 50;

/// One direction of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sense {
    AtLeast,
    AtMost,
}

/// A linear program and the basis that it stands at.
#[derive(Debug)]
pub(crate) struct Program {
    senses: Vec<Sense>,
    right: Vec<f64>,
    costs: Vec<f64>,
    /// Of all columns, one after the other.
    entries: Vec<(usize, f64)>,
    /// Where each column's entries begin, and where the last one's end.
    starts: Vec<usize>,
    /// Which column is basic in each row.
    basis: Vec<Basic>,
    /// Row-major.
    inverse: Vec<f64>,
    values: Vec<f64>,
    is_basic: Vec<bool>,
    pivots: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basic {
    /// A column of the program.
    Column(usize),
    /// What a row has too much, or to spare.
    Slack(usize),
    /// What a row lacks.
    Lack(usize),
}

impl Program {
    /// Rows without columns. Every right side is at least 0.
    pub(crate) fn new(rows: &[(Sense, f64)]) -> Self {
        let size = rows.len();
        let mut inverse = vec![0.0; size * size];
        for row in 0..size {
            inverse[row * size + row] = 1.0;
        }
        let right: Vec<f64> = rows.iter().map(|&(_, right)| right).collect();
        let start = |(row, &(sense, _)): (usize, &(Sense, f64))| match sense {
            Sense::AtLeast => Basic::Lack(row),
            Sense::AtMost => Basic::Slack(row),
        };
        Self {
            senses: rows.iter().map(|&(sense, _)| sense).collect(),
            basis: rows.iter().enumerate().map(start).collect(),
            values: right.clone(),
            right,
            costs: Vec::new(),
            entries: Vec::new(),
            starts: vec![0],
            inverse,
            is_basic: Vec::new(),
            pivots: 0,
        }
    }

    /// Adds a column; `entries` names each row at most once.
    pub(crate) fn push(&mut self, cost: f64, entries: Vec<(usize, f64)>) {
        self.costs.push(cost);
        self.entries.extend(entries);
        self.starts.push(self.entries.len());
        self.is_basic.push(false);
    }

    /// Goes on to the optimum over the columns that there are.
    pub(crate) fn solve(&mut self) {
        let mut stalls = 0;
        // Each pivot costs more than looking at all columns: a bound that is never met in practice.
        let mut pivots = 50 * (self.basis.len() + self.costs.len()) + 1000;
        loop {
            let mut duals = self.duals();
            // Most of what improves now does so after some pivots: all are looked at again only
            // when none of the best is left.
            let candidates = self.improving(&duals, stalls > STALLS_MAX);
            if candidates.is_empty() {
                return;
            }
            while let Some((entering, reduced)) = self.entering(&candidates, &duals) {
                let direction = self.direction(entering);
                let Some(row) = self.leaving(&direction, stalls > STALLS_MAX) else { return };
                let step = self.values[row] / direction[row];
                stalls = if step > TOLERANCE { 0 } else { stalls + 1 };
                self.pivot(row, entering, &direction);
                let inverse = &self.inverse[row * duals.len()..][..duals.len()];
                duals.iter_mut().zip(inverse).for_each(|(dual, part)| *dual += reduced * part);
                pivots -= 1;
                if pivots == 0 {
                    return;
                }
                if stalls > STALLS_MAX {
                    break;
                }
            }
        }
    }

    /// The dual value of every row: not negative for `AtLeast`, not positive for `AtMost`.
    pub(crate) fn duals(&self) -> Vec<f64> {
        let size = self.basis.len();
        let mut duals = vec![0.0; size];
        for (row, &basic) in self.basis.iter().enumerate() {
            let cost = self.cost(basic);
            if cost != 0.0 {
                let inverse = &self.inverse[row * size..][..size];
                duals.iter_mut().zip(inverse).for_each(|(dual, part)| *dual += cost * part);
            }
        }
        duals
    }

    /// The columns above zero, and how much of each.
    pub(crate) fn solution(&self) -> Vec<(usize, f64)> {
        let above = |(&basic, &value): (&Basic, &f64)| match basic {
            Basic::Column(column) if value > TOLERANCE => Some((column, value)),
            _ => None,
        };
        self.basis.iter().zip(&self.values).filter_map(above).collect()
    }

    /// How much the rows lack together; above zero when nothing satisfies them.
    pub(crate) fn lack(&self) -> f64 {
        let lacks = self.basis.iter().zip(&self.values);
        lacks.filter(|(basic, _)| matches!(basic, Basic::Lack(_))).map(|(_, value)| value).sum()
    }

    fn cost(&self, basic: Basic) -> f64 {
        match basic {
            Basic::Column(column) => self.costs[column],
            Basic::Slack(_) => 0.0,
            Basic::Lack(_) => PENALTY,
        }
    }

    fn slack_sign(&self, row: usize) -> f64 {
        match self.senses[row] {
            Sense::AtLeast => -1.0,
            Sense::AtMost => 1.0,
        }
    }

    /// What improves the most by a unit of it, or when `first`, the first that does.
    fn improving(&self, duals: &[f64], first: bool) -> Vec<Basic> {
        let slacks = (0..duals.len()).map(Basic::Slack);
        let columns = (0..self.costs.len()).filter(|&at| !self.is_basic[at]).map(Basic::Column);
        let reduced = slacks.chain(columns).map(|basic| (basic, self.reduced(basic, duals)));
        let mut improving = reduced.filter(|&(_, reduced)| reduced < -TOLERANCE);
        if first {
            return improving.next().map(|(basic, _)| basic).into_iter().collect();
        }
        let mut improving: Vec<(Basic, f64)> = improving.collect();
        if improving.len() > CANDIDATES_MAX {
            improving.select_nth_unstable_by(CANDIDATES_MAX, |a, b| a.1.total_cmp(&b.1));
            improving.truncate(CANDIDATES_MAX);
        }
        improving.into_iter().map(|(basic, _)| basic).collect()
    }

    /// The least reduced cost of these, if it is below zero.
    fn entering(&self, candidates: &[Basic], duals: &[f64]) -> Option<(Basic, f64)> {
        let reduced = candidates.iter().map(|&basic| (basic, self.reduced(basic, duals)));
        let improving = reduced.filter(|&(_, reduced)| reduced < -TOLERANCE);
        improving.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// What one more unit of it adds to the cost; nothing of what is in the basis.
    fn reduced(&self, basic: Basic, duals: &[f64]) -> f64 {
        match basic {
            Basic::Column(at) if self.is_basic[at] => 0.0,
            Basic::Column(at) => {
                let worth: f64 =
                    self.entries(at).iter().map(|&(row, part)| duals[row] * part).sum();
                self.costs[at] - worth
            }
            Basic::Slack(row) | Basic::Lack(row) => -self.slack_sign(row) * duals[row],
        }
    }

    fn entries(&self, column: usize) -> &[(usize, f64)] {
        &self.entries[self.starts[column]..self.starts[column + 1]]
    }

    /// The entering column in terms of the basis.
    fn direction(&self, entering: Basic) -> Vec<f64> {
        let size = self.basis.len();
        let slack = |row| [(row, self.slack_sign(row))];
        let single;
        let entries: &[(usize, f64)] = match entering {
            Basic::Column(column) => self.entries(column),
            Basic::Slack(row) | Basic::Lack(row) => {
                single = slack(row);
                &single
            }
        };
        (0..size)
            .map(|row| {
                let inverse = &self.inverse[row * size..][..size];
                entries.iter().map(|&(at, part)| inverse[at] * part).sum()
            })
            .collect()
    }

    /// The row that reaches zero first; among equals the steepest, or when `first`, the first.
    fn leaving(&self, direction: &[f64], first: bool) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (row, &slope) in direction.iter().enumerate() {
            if slope <= TOLERANCE {
                continue;
            }
            let step = self.values[row].max(0.0) / slope;
            let better = best.is_none_or(|(other, least)| {
                step < least - TOLERANCE
                    || (step <= least + TOLERANCE && !first && slope > direction[other])
            });
            if better {
                best = Some((row, step));
            }
        }
        best.map(|(row, _)| row)
    }

    fn pivot(&mut self, row: usize, entering: Basic, direction: &[f64]) {
        let size = self.basis.len();
        let scale = 1.0 / direction[row];
        let pivot: Vec<f64> =
            self.inverse[row * size..][..size].iter().map(|x| x * scale).collect();
        let step = self.values[row].max(0.0) * scale;
        for (at, &slope) in direction.iter().enumerate() {
            if at != row && slope != 0.0 {
                let inverse = &mut self.inverse[at * size..][..size];
                inverse.iter_mut().zip(&pivot).for_each(|(x, part)| *x -= slope * part);
                self.values[at] = (self.values[at] - slope * step).max(0.0);
            }
        }
        self.inverse[row * size..][..size].copy_from_slice(&pivot);
        self.values[row] = step;
        if let Basic::Column(column) = self.basis[row] {
            self.is_basic[column] = false;
        }
        if let Basic::Column(column) = entering {
            self.is_basic[column] = true;
        }
        self.basis[row] = entering;
        self.pivots += 1;
        if self.pivots.is_multiple_of(100 + size) {
            self.refresh();
        }
    }

    /// Computes the inverse anew, because every pivot adds rounding to it.
    fn refresh(&mut self) {
        let size = self.basis.len();
        let mut matrix = vec![0.0; size * size];
        for (column, &basic) in self.basis.iter().enumerate() {
            match basic {
                Basic::Column(at) => {
                    for &(row, part) in self.entries(at) {
                        matrix[row * size + column] = part;
                    }
                }
                Basic::Slack(row) => matrix[row * size + column] = self.slack_sign(row),
                Basic::Lack(row) => matrix[row * size + column] = 1.0,
            }
        }
        let Some(inverse) = inverted(matrix, size) else { return };
        for row in 0..size {
            let parts = inverse[row * size..][..size].iter().zip(&self.right);
            self.values[row] = parts.map(|(part, right)| part * right).sum::<f64>().max(0.0);
        }
        self.inverse = inverse;
    }
}

/// The inverse by elimination with row exchanges; `None` when rounding made it singular.
fn inverted(mut matrix: Vec<f64>, size: usize) -> Option<Vec<f64>> {
    let mut inverse = vec![0.0; size * size];
    for row in 0..size {
        inverse[row * size + row] = 1.0;
    }
    for column in 0..size {
        let steepest = |a: &usize, b: &usize| {
            matrix[a * size + column].abs().total_cmp(&matrix[b * size + column].abs())
        };
        let pivot = (column..size).max_by(steepest)?;
        let scale = matrix[pivot * size + column];
        if scale.abs() < 1e-12 {
            return None;
        }
        for side in [&mut matrix, &mut inverse] {
            for at in 0..size {
                side.swap(pivot * size + at, column * size + at);
                side[column * size + at] /= scale;
            }
        }
        for row in (0..size).filter(|&row| row != column) {
            let factor = matrix[row * size + column];
            if factor == 0.0 {
                continue;
            }
            for side in [&mut matrix, &mut inverse] {
                for at in 0..size {
                    side[row * size + at] -= factor * side[column * size + at];
                }
            }
        }
    }
    Some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn solved(rows: &[(Sense, f64)], columns: &[(f64, &[f64])]) -> Program {
        let mut program = Program::new(rows);
        for (cost, parts) in columns {
            program.push(*cost, parts.iter().copied().enumerate().filter(|p| p.1 != 0.0).collect());
        }
        program.solve();
        program
    }

    fn value(program: &Program, columns: &[(f64, &[f64])]) -> f64 {
        program.solution().iter().map(|&(column, amount)| columns[column].0 * amount).sum()
    }

    #[test]
    fn the_papers_mix_is_the_optimum() {
        let columns: [(f64, &[f64]); 2] = [(0.133, &[2.0, 15.25]), (0.0059, &[1.0, 0.5])];
        let program = solved(&[(Sense::AtLeast, 100.0), (Sense::AtLeast, 100.0)], &columns);
        assert!((value(&program, &columns) - 1.015_263).abs() < 1e-6);
        assert_eq!(program.lack(), 0.0);
    }

    #[test]
    fn a_limit_pushes_to_the_dearer_column_and_has_a_price() {
        let columns: [(f64, &[f64]); 2] = [(1.0, &[1.0, 1.0]), (3.0, &[1.0, 0.0])];
        let program = solved(&[(Sense::AtLeast, 10.0), (Sense::AtMost, 4.0)], &columns);
        assert!((value(&program, &columns) - 22.0).abs() < 1e-6);
        let duals = program.duals();
        assert!((duals[0] - 3.0).abs() < 1e-6 && (duals[1] + 2.0).abs() < 1e-6, "{duals:?}");
    }

    #[test]
    fn what_cannot_be_satisfied_lacks() {
        let columns: [(f64, &[f64]); 1] = [(1.0, &[1.0, 1.0])];
        let program = solved(&[(Sense::AtLeast, 10.0), (Sense::AtMost, 4.0)], &columns);
        assert!((program.lack() - 6.0).abs() < 1e-6);
    }

    #[test]
    fn columns_that_come_later_improve_it() {
        let mut program = Program::new(&[(Sense::AtLeast, 6.0)]);
        program.push(5.0, vec![(0, 1.0)]);
        program.solve();
        assert!((program.duals()[0] - 5.0).abs() < 1e-9);
        program.push(4.0, vec![(0, 2.0)]);
        program.solve();
        assert_eq!(program.solution(), [(1, 3.0)]);
    }

    proptest! {
        /// Duality is the oracle: feasible on both sides, and equal.
        #[test]
        fn primal_and_dual_agree(
            rows in proptest::collection::vec(0u32..50, 1..8),
            columns in proptest::collection::vec((1u32..40, proptest::collection::vec(0u32..6, 8)), 1..40),
        ) {
            let mut program = Program::new(
                &rows.iter().map(|&r| (Sense::AtLeast, f64::from(r))).collect::<Vec<_>>());
            let columns: Vec<(f64, Vec<f64>)> = columns.iter().map(|(cost, parts)| {
                (f64::from(*cost), parts[..rows.len()].iter().map(|&p| f64::from(p)).collect())
            }).collect();
            for (cost, parts) in &columns {
                program.push(*cost, parts.iter().copied().enumerate().collect());
            }
            program.solve();
            let duals = program.duals();
            let dual: f64 = duals.iter().zip(&rows).map(|(y, &r)| y * f64::from(r)).sum();
            let primal: f64 = program.solution().iter().map(|&(c, x)| columns[c].0 * x).sum();
            let primal = primal + PENALTY * program.lack();
            prop_assert!((primal - dual).abs() <= 1e-6 * primal.max(1.0), "{} {}", primal, dual);
            for (cost, parts) in &columns {
                let worth: f64 = parts.iter().zip(&duals).map(|(p, y)| p * y).sum();
                prop_assert!(worth <= cost + 1e-6);
            }
        }
    }
}
