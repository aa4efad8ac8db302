//! The answer in plain sentences.
//!
//! Owns what a person reads first, and how numbers are written. Knows nothing of tables' layout.
//! Invariant: a sentence whose figures the trace cannot give says so, or is not there.

use super::{Achievable, Machines, Recoverable, Report};

/// What a figure that is not there prints as.
pub(crate) const NOT_THERE: &str = "not in this trace";
/// The local fraction that is named beside 0, where the report has it.
const LOCAL_FRACTION: f64 = 0.3;

/// A few sentences: what is unused, what could be lent, what of it survives peaks, what is achievable.
pub(crate) fn sentences(report: &Report) -> Vec<String> {
    let Some(unused) = report.mean.unused_share.memory else {
        let asked = report.requests.as_ref().and_then(|asked| asked.all.used_share.memory);
        let asked = asked.map(|used| {
            format!(
                "Of the memory that tasks ask for, {} is used, weighted by time.",
                percent(used)
            )
        });
        let unused = format!(
            "How much memory is unused is {NOT_THERE}: it needs the memory of machines, and what \
             was used of it."
        );
        return asked.into_iter().chain([unused]).collect();
    };
    let mut said = vec![format!(
        "Of the memory of {}, {} was not used, on the mean over {}.",
        counted(report.trace.machines, "machine"),
        percent(unused),
        duration(report.trace.measured_s),
    )];
    let none = report.recoverable.iter().find(|row| row.local_fraction == 0.0);
    let some = fraction(report);
    for row in [none, some].into_iter().flatten() {
        said.extend(recoverable(row));
    }
    let row = none.or(some);
    if let Some((row, pooled)) = row.and_then(|row| row.pooled.map(|pooled| (row, pooled))) {
        let each = row.each_machine.map_or(String::new(), |each| {
            format!(
                "; where every machine must bear its own peak, {}",
                percent(each.at_peak_share.max(0.0))
            )
        });
        said.push(format!(
            "At the peak of the whole cluster {} of its memory is left at L = {}, for 99 % of the time \
             {}{each}.",
            percent(pooled.at_peak_share.max(0.0)),
            row.local_fraction,
            percent(pooled.at_p99_share.max(0.0)),
        ));
    }
    said.extend(report.achievable.first().map(achievable));
    said
}

/// What is packed: tasks, or machines' loads where the trace does not say whose they are.
pub(crate) fn packed(moment: &Achievable) -> String {
    let all = moment.tasks as u64;
    counted(all, if moment.machine_loads == all { "machine load" } else { "task" })
}

/// What it takes to hold the tasks of the moment with the most memory used.
fn achievable(moment: &Achievable) -> String {
    let (up, whole) = (moment.up.machines as u64, moment.whole_machines.needed.machines as u64);
    let mut said = format!(
        "When the most memory is used, {} with {} more than used need {} of {}",
        packed(moment),
        percent(moment.margin),
        if whole == up { "all".to_owned() } else { count(whole) },
        counted(up, "machine"),
    );
    if let Some(pools) = moment.pools.first() {
        let Machines { machines, cpu, memory } = pools.remain;
        said += &format!(
            "; with memory from a pool (L = {}) {} {} enough: {}, {} processors and {} memory remain",
            pools.local_fraction,
            count(pools.machines as u64),
            if pools.machines == 1 { "is" } else { "are" },
            counted(machines as u64, "machine"),
            amount(cpu),
            amount(memory),
        );
    }
    said + "."
}

/// What the recoverable table needs beside it.
pub(crate) fn about(report: &Report) -> String {
    let example = fraction(report).map_or(String::new(), |row| {
        format!(
            " At L = {} that is {}, whatever the machines use: a figure near the cap says that \
             machines seldom use more than L of their memory.",
            row.local_fraction,
            percent(row.cap_share)
        )
    });
    format!(
        "L is the share of its memory that each machine keeps for itself, so that no more than the \
         cap 1-L can be recovered.{example} \"As published\" takes every machine for one of size \
         1, and so counts memory that smaller machines do not have."
    )
}

fn recoverable(row: &Recoverable) -> Option<String> {
    let share = percent(row.share?);
    Some(match row.local_fraction == 0.0 {
        true => {
            format!("If machines lent all that they do not use (L = 0), {share} could be lent.")
        }
        false => format!(
            "If each keeps {} of its memory for itself (L = {}), {share} could be lent; the cap \
             there is 1-L = {}.",
            percent(row.local_fraction),
            row.local_fraction,
            percent(row.cap_share)
        ),
    })
}

/// The row that stands for keeping some memory.
pub(crate) fn fraction(report: &Report) -> Option<&Recoverable> {
    let kept = || report.recoverable.iter().filter(|row| row.local_fraction > 0.0);
    kept().find(|row| (row.local_fraction - LOCAL_FRACTION).abs() < 1e-9).or_else(|| kept().next())
}

/// A share as percents with one digit behind the point.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A share, or that there is none.
pub(crate) fn percent_or(share: Option<f64>) -> String {
    share.map_or_else(|| NOT_THERE.to_owned(), percent)
}

/// So many of a thing.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A whole number in groups of three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// An amount in the trace's own units, with four digits or all before the point.
pub(crate) fn amount(amount: f64) -> String {
    match amount.abs() {
        0.0 => "0".to_owned(),
        large if !(1e-4..1e15).contains(&large) => format!("{amount:.3e}"),
        large if large >= 1000.0 => {
            let sign = if amount < 0.0 { "-" } else { "" };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is positive and below 1e15"
            )]
            let whole = large.round() as u64;
            format!("{sign}{}", count(whole))
        }
        large if large >= 100.0 => format!("{amount:.1}"),
        large if large >= 10.0 => format!("{amount:.2}"),
        _ => format!("{amount:.4}"),
    }
}

/// An amount, or that there is none.
pub(crate) fn amount_or(value: Option<f64>) -> String {
    value.map_or_else(|| NOT_THERE.to_owned(), amount)
}

/// A length of time in the unit that suits it.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        long if long >= 2.0 * 86_400.0 => format!("{:.1} days", long / 86_400.0),
        long if long >= 2.0 * 3_600.0 => format!("{:.1} hours", long / 3_600.0),
        long if long >= 120.0 => format!("{:.1} minutes", long / 60.0),
        short => format!("{short:.3} seconds"),
    }
}
