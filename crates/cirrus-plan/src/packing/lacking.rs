//! Why there is no plan.
//!
//! Owns [`PackError`] and the search for the machine that comes nearest. Knows no solver.
//! Every message names the task, what it wants, and what there is.

use std::fmt;

use cirrus_units::{ByteRate, ByteSize};

use super::compile::{Members, Needs, Purchase, Zone, fee, purchases};
use super::instance::Amounts;
use super::{Application, PackedTask, REPLICAS_MAX, TASKS_MAX};
use crate::catalog::Catalog;
use crate::offer::{Microcores, Offer};
use crate::pool::to_f64;

/// Why an application cannot be packed. Displays as one line for each task that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackError {
    lines: Vec<String>,
}

impl PackError {
    fn new(line: String) -> Self {
        Self { lines: vec![line] }
    }

    pub(super) fn size(tasks: usize, replicas: u64) -> Self {
        Self::new(format!(
            "{tasks} tasks with {replicas} replicas cannot be packed; expected 1 to {TASKS_MAX} \
             tasks with at most {REPLICAS_MAX} replicas together"
        ))
    }

    pub(super) fn unknown(name: &str, tasks: &[PackedTask]) -> Self {
        let names: Vec<&str> = tasks.iter().take(8).map(|task| task.name.as_str()).collect();
        Self::new(format!(
            "a rule names `{name}`, which is no task; tasks are {}",
            names.join(", ")
        ))
    }

    pub(super) fn nameless() -> Self {
        Self::new("a task has an empty name; give it one".into())
    }

    pub(super) fn twice(name: &str) -> Self {
        Self::new(format!("two tasks are called `{name}`; rename one"))
    }

    pub(super) fn uneven(a: &str, replicas_a: u32, b: &str, replicas_b: u32) -> Self {
        Self::new(format!(
            "`{a}` with {replicas_a} replicas and `{b}` with {replicas_b} cannot share machines; \
             give them equally many"
        ))
    }

    pub(super) fn contrary(a: &str, b: &str) -> Self {
        Self::new(format!("`{a}` and `{b}` are both together and apart; drop one of the rules"))
    }

    pub(super) fn limits(application: &Application) -> Self {
        let limits = application.limits.iter().map(|(sku, most)| format!("{most} {sku}"));
        Self::new(format!(
            "the limits leave too few machines for all tasks ({}, and quotas of the catalogue); \
             raise them",
            limits.collect::<Vec<_>>().join(", ")
        ))
    }

    /// Names every kind that fits nowhere; when each fits somewhere, what the zone lacks that has
    /// machines for the most kinds.
    pub(super) fn lacking(
        application: &Application,
        catalog: &Catalog,
        kinds: &[Needs],
        members: &[Members],
        zones: &[Zone],
    ) -> Self {
        let mut lines = Vec::new();
        let tasks = |members: &Members| {
            let tasks = members[0].0.iter().map(|&at| application.tasks[at].name.as_str());
            tasks.collect::<Vec<_>>().join("` with `")
        };
        for (needs, members) in kinds.iter().zip(members) {
            let Some(nearest) = nearest(catalog, needs) else { continue };
            let tasks = tasks(members);
            lines.push(format!("`{tasks}` fits no machine of `{}`; {nearest}", catalog.name()));
        }
        let without = zones.iter().map(|zone| (zone, zone.kinds_without_machine()));
        let fullest = without.min_by_key(|(_, without)| without.len());
        if let (true, Some((zone, without))) = (lines.is_empty(), fullest) {
            let place = zone.place(catalog);
            let missing = without.iter().map(|&kind| tasks(&members[kind]));
            let missing = missing.collect::<Vec<_>>().join("`, `");
            lines.push(format!(
                "no zone of `{}` has machines for all tasks, and an application stays in one; \
                 {place} has none for `{missing}`",
                catalog.name(),
            ));
        }
        Self { lines }
    }
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for PackError {}

/// The machine that lacks least, and what; `None` when one lacks nothing.
fn nearest(catalog: &Catalog, needs: &Needs) -> Option<String> {
    let mut best: Option<(usize, f64, String)> = None;
    for offer in catalog.offers() {
        for (purchase, _, room) in purchases(offer) {
            if fee(offer, purchase, &room, needs).is_some() {
                return None;
            }
            if purchase == Purchase::Spot {
                // On demand it lacks no more.
                continue;
            }
            let (lacks, distance) = lacks(offer, &room, needs);
            let nearer = best.as_ref().is_none_or(|(count, least, _)| {
                distance < *least || (distance <= *least && lacks.len() < *count)
            });
            if nearer {
                let text = format!("the nearest, {offer}, has {}", lacks.join(", "));
                best = Some((lacks.len(), distance, text));
            }
        }
    }
    Some(best.map_or_else(|| "the catalogue is empty".into(), |(_, _, text)| text))
}

/// What an offer lacks, in words, and how far off it is.
fn lacks(offer: &Offer, room: &Amounts, needs: &Needs) -> (Vec<String>, f64) {
    let (mut lacks, mut distance) = (Vec::new(), 0.0);
    for (part, (&wanted, &there)) in needs.weights.iter().zip(room).enumerate() {
        if wanted > there {
            distance += (to_f64(wanted) / to_f64(there.max(1))).ln();
            if part == 3 && there == 0 {
                // A GPU of another kind is nearer than none.
                distance += 11.0;
            }
            lacks.push(shortfall(offer, part, wanted, there));
        }
    }
    let amounts = lacks.len();
    if let (Some(Some(wanted)), Some(gpu)) = (&needs.gpu, &offer.gpu)
        && gpu.kind() != Some(wanted)
    {
        lacks.push(format!("{} where {wanted} is needed", gpu.kind().unwrap_or("another GPU")));
    }
    if needs.mixed_gpus {
        lacks.push("one kind of GPU where two are needed".into());
    }
    if let Some(most) = offer.run_minutes_max
        && needs.run_minutes > most
    {
        lacks.push(format!("an end after {most} minutes"));
    }
    if needs.machine && !offer.inbound {
        lacks.push("no way in for others".into());
    }
    if needs.disk > 0 && offer.disk.is_none() {
        lacks.push("no disk".into());
    }
    let unlike = to_f64((lacks.len() - amounts) as u64);
    // What no larger machine of the kind would bring is farther than any amount.
    (lacks, distance + 10.0 * unlike)
}

fn shortfall(offer: &Offer, part: usize, wanted: u64, there: u64) -> String {
    let cores = |micro| Microcores(micro).to_string();
    let (what, wanted, there) = match part {
        0 => ("vCPUs", cores(wanted), cores(there)),
        1 => ("sustained vCPUs", cores(wanted), cores(there)),
        2 => ("memory", ByteSize::new(wanted).to_string(), ByteSize::new(there).to_string()),
        3 => ("GPUs", wanted.to_string(), there.to_string()),
        _ => {
            let wanted = ByteRate::per_second(wanted).to_string();
            if offer.network.is_none() {
                return format!("network of unknown speed where {wanted} is needed");
            }
            ("network", wanted, ByteRate::per_second(there).to_string())
        }
    };
    format!("{there} {what} where {wanted} is needed")
}
