//! `plan`: the cheapest machines for an application.
//!
//! Owns how a declaration becomes what the planner packs, and how the plan is printed. May not know
//! how it is found. Invariant: everything that a run starts has its place in the plan.

use cirrus_plan::{Application, Cpu, Demand, PackedTask, Replicas, Role, Total, pack};
use cirrus_units::{ByteSize, Cores};
use clap::ArgMatches;
use serde::Serialize;

use super::{own_args, print, print_json};
use crate::app::App;
use crate::catalogs;
use crate::error::{Error, Result};
use crate::spec::AppSpec;
use crate::task::TaskArgs;

/// What a memory node takes beside its capacity, and what a coordinator takes: many times what the
/// images job needs (docs/cost.md).
const MEMORY_CPU: Cpu = Cpu::sustained(Cores::milli(500));
const COORDINATOR_CPU: Cpu = Cpu::burst(Cores::milli(250));
const COORDINATOR_MEMORY: ByteSize = ByteSize::mib(256);

#[derive(Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    plan: &'a cirrus_plan::Plan,
    catalog: &'a str,
    application: &'a AppSpec,
}

/// Prints machines and their price, then what they are for.
pub(super) fn print_plan<A: TaskArgs + clap::Args>(
    app: &App<A>,
    matches: &ArgMatches,
) -> Result<()> {
    let args = own_args(matches)?;
    let spec = app.spec(&args, "plan")?;
    let name = matches.get_one::<String>("catalog").map_or("aws", String::as_str);
    let catalog = catalogs::open(name)?;
    let mut application = Application::default();
    let wanted = app.replicas_wanted(&args);
    for task in &spec.tasks {
        let count = wanted.get(task.name.as_str()).copied().unwrap_or(task.replicas);
        let replicas = Replicas::new(count, count)
            .map_err(|error| Error::input(format!("task `{}`", task.name)).with_source(error))?;
        let demand = task.demand.clone().with_replicas(replicas);
        application.tasks.push(PackedTask::new(&task.name, demand));
    }
    application.tasks.extend(own_processes(&spec));
    let plan = pack(&application, &catalog)
        .map_err(|error| Error::input(error.to_string().replace('\n', "; ")))?;
    if matches.get_flag("json") {
        return print_json(&Planned { plan: &plan, catalog: name, application: &spec });
    }
    print(&format!("{plan}\ndemanded, at the prices of `{name}`"))?;
    print_demands(&spec, &application)
}

/// What a run starts beside the tasks. Their names are no task's: they have a space.
fn own_processes(spec: &AppSpec) -> Vec<PackedTask> {
    let mut processes = Vec::new();
    for pool in &spec.pools {
        let demand = Demand::default().with_cpu(MEMORY_CPU).with_memory(pool.capacity);
        let mut node = PackedTask::new(format!("memory {}", pool.name), demand);
        node.role = Role::Memory;
        processes.push(node);
    }
    let demand = Demand::default().with_cpu(COORDINATOR_CPU).with_memory(COORDINATOR_MEMORY);
    let mut coordinator = PackedTask::new("the coordinator", demand);
    coordinator.role = Role::Coordinator;
    processes.push(coordinator);
    processes
}

fn print_demands(spec: &AppSpec, application: &Application) -> Result<()> {
    for channel in &spec.channels {
        print(&format!("channel {}: {} of {}", channel.name, channel.capacity, channel.item))?;
    }
    for task in &application.tasks {
        let what = if task.role == Role::Compute { "task " } else { "" };
        print(&format!("{what}{}: {}", task.name, task.demand))?;
    }
    let demands = application.tasks.iter().map(|task| &task.demand);
    print(&format!("in total: {}", Total::of(demands)))
}
