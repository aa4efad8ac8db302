//! Whole machines out of the contents that were generated, by HiGHS.
//!
//! Owns [`chosen`]: the integer program over the contents. Knows nothing of how they are found. It
//! counts nodes and no seconds, on one thread, so that its answer is the same on every machine.

use highs::{ColProblem, HighsSolutionStatus, Sense};

use super::instance::{Instance, Packing, Pattern};
use super::round::{merged, put, whole};
use crate::pool::to_f64;

/// Beyond these, the branches of large programs hardly gain anything.
const NODES_MAX: i32 = 200;

/// The cheapest packing of these contents that was found, beginning with one that there is.
pub(super) fn chosen(
    instance: &Instance,
    contents: &[Pattern],
    first: Option<&Packing>,
) -> Option<Packing> {
    let mut program = ColProblem::new();
    let kinds = instance.kinds.iter();
    let kinds: Vec<_> = kinds.map(|kind| program.add_row(f64::from(kind.count)..)).collect();
    let limits = instance.limits.iter();
    let limits: Vec<_> = limits.map(|&limit| program.add_row(..=f64::from(limit))).collect();
    let first = first.into_iter().flatten();
    let columns: Vec<(&Pattern, f64)> = first
        .map(|(pattern, copies)| (pattern, f64::from(*copies)))
        .chain(contents.iter().map(|pattern| (pattern, 0.0)))
        .collect();
    for (pattern, _) in &columns {
        let held = pattern.items.iter().map(|&(kind, count)| (kinds[kind], f64::from(count)));
        let limit = instance.machines[pattern.machine].limit.map(|limit| (limits[limit], 1.0));
        let dollars = to_f64(instance.cost(pattern)) / 1e6;
        program.add_integer_column(dollars, 0.., held.chain(limit));
    }
    // An error leaves the packings that there are.
    let mut model = program.try_optimise(Sense::Minimise).ok()?;
    model.make_quiet();
    model.set_option("threads", 1);
    model.set_option("random_seed", 0);
    model.set_option("mip_max_nodes", NODES_MAX);
    let start: Vec<f64> = columns.iter().map(|(_, copies)| *copies).collect();
    model.try_set_solution(Some(&start), None, None, None).ok()?;
    let solved = model.try_solve().ok()?;
    if solved.primal_solution_status() != HighsSolutionStatus::Feasible {
        return None;
    }
    let (mut left, mut limits) = (instance.counts(), instance.limits.clone());
    let mut packing = Packing::new();
    for (&(pattern, _), amount) in columns.iter().zip(solved.get_solution().columns()) {
        put(instance, pattern, whole(amount + 0.5), &mut left, &mut limits, &mut packing);
    }
    left.iter().all(|&count| count == 0).then(|| merged(instance, packing))
}
