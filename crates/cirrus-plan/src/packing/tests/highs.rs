//! HiGHS as an oracle: the cheapest machines out of every content that any of them can have.
//!
//! Owns the list of contents, its program as text, and HiGHS's answer. Knows nothing of the solver:
//! contents are counted up one by one under the rules as `super::allows` has them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::instance::Instance;
use super::allows;
use crate::pool::to_f64;

/// What HiGHS may take: one thread, no gap, and nodes in the place of a clock, so that its answer
/// stays the same.
const OPTIONS: &str = "threads = 1\nmip_rel_gap = 0\nmip_abs_gap = 0.5\nmip_max_nodes = 5000\n";

/// What is on a machine, and what that costs in micro-dollars.
struct Content {
    machine: usize,
    held: Vec<u32>,
    cost: u64,
}

/// Every content of every machine.
pub(super) struct Contents<'a> {
    instance: &'a Instance,
    all: Vec<Content>,
    most: usize,
}

impl<'a> Contents<'a> {
    /// `None` when there are more than `most`.
    pub(super) fn of(instance: &'a Instance, most: usize) -> Option<Self> {
        let mut contents = Self { instance, all: Vec::new(), most };
        for machine in 0..instance.machines.len() {
            contents.count_up(machine, 0, &mut vec![0; instance.kinds.len()]);
        }
        (contents.all.len() <= most).then_some(contents)
    }

    fn count_up(&mut self, machine: usize, at: usize, held: &mut Vec<u32>) {
        if self.all.len() > self.most {
            return;
        }
        let Some(kind) = self.instance.kinds.get(at) else {
            if self.is_of_use(machine, held) {
                let it = &self.instance.machines[machine];
                let fees = it.fees.iter().zip(&*held).filter(|(_, n)| **n > 0);
                let fees: u64 = fees.map(|(fee, &n)| fee.unwrap() * u64::from(n)).sum();
                self.all.push(Content { machine, held: held.clone(), cost: it.cost + fees });
            }
            return;
        };
        for count in 0..=kind.count {
            held[at] = count;
            if !allows(self.instance, machine, held) {
                break;
            }
            self.count_up(machine, at + 1, held);
        }
        held[at] = 0;
    }

    /// Where no replica costs anything besides, a content that has room for one more is left out:
    /// with that one it costs the same, and holding more than there is to hold is allowed.
    fn is_of_use(&self, machine: usize, held: &[u32]) -> bool {
        let has_fees = self.instance.machines[machine].fees.iter().any(|fee| fee.unwrap_or(0) > 0);
        let has_room = (0..held.len()).any(|kind| {
            let mut more = held.to_vec();
            more[kind] += 1;
            more[kind] <= self.instance.kinds[kind].count && allows(self.instance, machine, &more)
        });
        held.iter().any(|&n| n > 0) && (has_fees || !has_room)
    }

    /// What the cheapest packing costs; `None` when there is none.
    pub(super) fn optimum(&self) -> Option<u64> {
        let (objective, amounts) = self.ask("general\n")?;
        let cost: f64 = amounts.iter().map(|&(at, n)| to_f64(self.all[at].cost) * n.round()).sum();
        assert!((objective - cost).abs() < 0.5, "{objective} is not {cost}");
        for (kind, it) in self.instance.kinds.iter().enumerate() {
            let held = |&(at, n): &(usize, f64)| f64::from(self.all[at].held[kind]) * n.round();
            assert!(amounts.iter().map(held).sum::<f64>() >= f64::from(it.count), "kind {kind}");
        }
        let whole = amounts.iter().map(|&(at, n)| self.all[at].cost * whole(n));
        Some(whole.sum())
    }

    /// The same when machines divide at will.
    pub(super) fn relaxed(&self) -> Option<f64> {
        self.ask("").map(|(objective, _)| objective)
    }

    /// The least cost and how many of which content.
    fn ask(&self, section: &str) -> Option<(f64, Vec<(usize, f64)>)> {
        let folder = tempfile::tempdir().unwrap();
        let [model, options, solution] =
            ["contents.lp", "options", "solution"].map(|name| folder.path().join(name));
        std::fs::write(&model, self.text(section)).unwrap();
        std::fs::write(&options, OPTIONS).unwrap();
        let program = program();
        let run = Command::new(&program)
            .env("LD_LIBRARY_PATH", program.parent().unwrap().with_file_name("lib"))
            .args(["--options_file".as_ref(), options.as_os_str()])
            .args(["--solution_file".as_ref(), solution.as_os_str()])
            .arg(&model)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
        let answer = std::fs::read_to_string(&solution).unwrap_or_else(|e| panic!("{e}: {said}"));
        match answer.lines().nth(1) {
            Some("Optimal") => {}
            Some("Infeasible") => return None,
            _ => panic!("{said}"),
        }
        let values = |line: &'_ str| {
            let (column, amount) = line.strip_prefix('c')?.split_once(' ')?;
            Some((column.parse().unwrap(), amount.parse().unwrap()))
        };
        let objective = answer.lines().find_map(|line| line.strip_prefix("Objective ")).unwrap();
        Some((objective.parse().unwrap(), answer.lines().filter_map(values).collect()))
    }

    /// In the LP format: the cost, a row for each kind, a row for each limit.
    fn text(&self, section: &str) -> String {
        let mut text = String::from("min\ncost:");
        let mut row = |head: &str, factor: &dyn Fn(&Content) -> u64, tail: &str| {
            text.push_str(head);
            for (at, content) in self.all.iter().enumerate().filter(|(_, it)| factor(it) > 0) {
                writeln!(text, " + {} c{at}", factor(content)).unwrap();
            }
            text.push_str(tail);
        };
        row("", &|it| it.cost, "st\n");
        for (kind, it) in self.instance.kinds.iter().enumerate() {
            let tail = format!(" >= {}\n", it.count);
            row(&format!("kind{kind}:"), &|content| u64::from(content.held[kind]), &tail);
        }
        for (limit, most) in self.instance.limits.iter().enumerate() {
            let counts =
                |it: &Content| u64::from(self.instance.machines[it.machine].limit == Some(limit));
            // A row has to name a column.
            row(&format!("limit{limit}: 0 c0"), &counts, &format!(" <= {most}\n"));
        }
        text.push_str(section);
        if !section.is_empty() {
            (0..self.all.len()).for_each(|at| writeln!(text, "c{at}").unwrap());
        }
        text + "end\n"
    }
}

/// A whole number as HiGHS writes it, nearly.
fn whole(amount: f64) -> u64 {
    assert!((amount - amount.round()).abs() < 1e-4, "{amount} machines");
    format!("{:.0}", amount.abs()).parse().unwrap()
}

/// The program that `make tools` installs.
fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = root.join(".tools/highs/highsbox/highs_dist/bin/highs");
    assert!(program.exists(), "HiGHS is needed: `make tools` installs it ({})", program.display());
    program
}
