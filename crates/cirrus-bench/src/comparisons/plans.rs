//! What a plan costs and how long it takes to find.
//!
//! Each application is packed onto each catalogue: its cost against first fit decreasing and against
//! the bound that the plan proves, its time against the time that is allowed. Costs are the same in
//! every run.

use std::fmt::Write as _;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use cirrus_plan::{Application, Catalog, Cpu, Demand, Gpu, PackedTask, Plan, Replicas, pack};
use cirrus_units::{ByteRate, ByteSize, Cores};
use serde_json::{Map, json};

use crate::comparisons::{Bench, Cell, Family};
use crate::load::random;
use crate::processor::unpin;
use crate::ratio::{ROUNDS_MIN, Round, Target};
use crate::row::{Number, Row, Subject};

/// Types of machines of the catalogue that is drawn.
const DRAWN_TYPES: usize = 800;

pub(super) const FAMILY: Family = Family {
    name: "plans",
    about: "plans of whole tasks: their cost against first fit and the bound, and their time",
    cells: || {
        let real = ["aws", "gcp", "azure"].map(Prices::Of);
        let mut cells = Vec::new();
        for prices in real.into_iter().chain([Prices::Drawn]) {
            for (tasks, kinds) in [(100, 10), (100, 100), (2_000, 50), (10_000, 50)] {
                cells.push(cell(prices, Tasks { tasks, kinds, has_rules: false }));
            }
        }
        cells.push(cell(Prices::Of("aws"), Tasks { tasks: 10_000, kinds: 50, has_rules: true }));
        cells
    },
};

/// Whose machines.
#[derive(Debug, Clone, Copy)]
enum Prices {
    Of(&'static str),
    Drawn,
}

#[derive(Debug, Clone, Copy)]
struct Tasks {
    tasks: u32,
    kinds: u32,
    /// GPUs, network, spot machines and tasks that keep apart, too.
    has_rules: bool,
}

fn cell(prices: Prices, tasks: Tasks) -> Cell {
    let catalog = match prices {
        Prices::Of(name) => name,
        Prices::Drawn => "drawn",
    };
    let rules = if tasks.has_rules { "-rules" } else { "" };
    let name = format!("plans/{catalog}/{}x{}{rules}", tasks.tasks, tasks.kinds);
    Cell {
        name: name.clone(),
        is_quick: tasks.tasks == 100,
        measure: Box::new(move |bench: &mut Bench| {
            let (processors, name) = (bench.processors, &name);
            // A thread of its own, which may use all that a user's would.
            let measured = thread::scope(|scope| {
                let work = move || unpin(processors).and_then(|()| measure(name, prices, tasks));
                scope.spawn(work).join()
            });
            measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }),
    }
}

fn measure(name: &str, prices: Prices, tasks: Tasks) -> Result<Vec<Row>> {
    let catalog = match prices {
        Prices::Of(name) => Catalog::built_in(name).ok_or_else(|| anyhow!("no {name}"))?,
        Prices::Drawn => drawn()?,
    };
    let application = application(tasks)?;
    // Well under a second for what people wait for, and ten for what a cluster runs.
    let seconds_allowed = if tasks.tasks == 100 { 1.0 } else { 10.0 };
    let mut times = Vec::new();
    let mut plan = None;
    for _ in 0..=ROUNDS_MIN {
        let began = Instant::now();
        plan = Some(pack(&application, &catalog)?);
        times.push(began.elapsed().as_secs_f64());
    }
    let plan: Plan = plan.ok_or_else(|| anyhow!("nothing was packed"))?;
    let detail = Map::from_iter([
        ("offers".to_owned(), json!(catalog.offers().len())),
        ("machines".to_owned(), json!(plan.machines.iter().map(|it| it.count).sum::<u32>())),
        ("gap".to_owned(), json!(plan.gap)),
    ]);
    let row = |peer: &str, part: &str, rounds: &[Round], number: Number, target: Option<Target>| {
        let name = format!("{name}/{part}");
        let subject = Subject { name, peer: peer.to_owned(), value_bytes: 0 };
        subject.row_of(rounds, number, target, detail.clone())
    };
    let cost = plan.usd_hour.as_dollars();
    let against = |theirs: f64| [Round { ours: cost, theirs, again: cost }; ROUNDS_MIN];
    let bound = against(plan.bound.as_dollars());
    // With a hundred tasks a machine more or less is more than a hundredth.
    let near = (tasks.tasks > 100).then_some(Target::AtMost(1.01));
    let mut rows =
        vec![row("a proven bound on every packing", "bound", &bound, Number::PlanCost, near)];
    if let Some(first) = plan.first_fit_usd_hour {
        let first = against(first.as_dollars());
        rows.push(row("first fit decreasing", "first-fit", &first, Number::PlanCost, None));
    }
    let time = |pair: &[f64]| Round { ours: pair[0], theirs: seconds_allowed, again: pair[1] };
    let rounds: Vec<Round> = times.windows(2).map(time).collect();
    let allowed = Some(Target::AtMost(1.0));
    rows.push(row("the time allowed", "allowed", &rounds, Number::PlanSeconds, allowed));
    Ok(rows)
}

/// A number below `end`.
fn below(state: &mut u64, end: usize) -> usize {
    usize::try_from(random(state) >> 33).unwrap_or(0) % end
}

/// A number from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits")]
fn unit(state: &mut u64) -> f64 {
    (random(state) >> 11) as f64 / (1u64 << 53) as f64
}

/// Processors from 0.25 to 48; memory by processor log-uniform from 0.7 to 10 GiB.
fn application(Tasks { tasks, kinds, has_rules }: Tasks) -> Result<Application> {
    const MILLICORES: [u32; 9] = [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 48_000];
    let mut state = 11;
    let mut application = Application::default();
    for at in 0..kinds {
        // The smaller six for three tasks of four.
        let sizes = if below(&mut state, 4) > 0 { &MILLICORES[..6] } else { &MILLICORES[4..] };
        let mut milli = sizes[below(&mut state, sizes.len())];
        let has_gpu = has_rules && at % 10 == 3;
        if has_gpu {
            milli = milli.min(16_000);
        }
        let gib_each = 0.7 * (10.0f64 / 0.7).powf(unit(&mut state));
        let mib = f64::from(milli) / 1000.0 * gib_each * 1024.0;
        let count = tasks / kinds + u32::from(at < tasks % kinds);
        let mut demand = Demand::default()
            .with_cpu(Cpu::sustained(Cores::milli(milli)))
            .with_memory(format!("{mib:.0}MiB").parse()?)
            .with_replicas(Replicas::new(count, count)?)
            .with_spot(has_rules && at % 3 == 0);
        if has_gpu {
            let memory = ByteSize::gib(u64::from(milli) / 1000 + 4);
            demand = demand.with_gpu(Gpu::new(std::num::NonZeroU32::MIN)).with_memory(memory);
        }
        if has_rules && at % 4 == 1 {
            let megabytes = u64::try_from(below(&mut state, 60))?;
            demand = demand.with_network(ByteRate::per_second(megabytes * 1_000_000));
        }
        application.tasks.push(PackedTask::new(format!("t{at}"), demand));
    }
    if has_rules {
        application.apart = vec![["t0".into(), "t1".into()], ["t2".into(), "t2".into()]];
    }
    Ok(application)
}

/// Types of 1 to 192 processors and 0.5 to 16 GiB for each, at prices that favour some.
fn drawn() -> Result<Catalog> {
    let mut state = 5;
    let mut rows = String::from(
        "provider,zone,sku,vcpu,memory_gib,gpus,gpu_kind,network_gbit,usd_hour,spot_usd_hour,\
         surplus_usd_vcpu_hour,sustained,disk_usd_gib_month,quota,run_minutes_max,inbound,as_of,\
         source\n",
    );
    for at in 0..DRAWN_TYPES {
        let vcpu = [1, 2, 4, 8, 16, 32, 48, 64, 96, 192][below(&mut state, 10)];
        let gib = (f64::from(vcpu) * 0.5 * 32f64.powf(unit(&mut state))).ceil();
        let usd = (0.03 * f64::from(vcpu) + 0.004 * gib) * (0.8 + 0.5 * unit(&mut state));
        writeln!(rows, "drawn,,m{at},{vcpu},{gib},,,10,{usd:.6},,,,,,,,2026-11-23,drawn")?;
    }
    Ok(Catalog::read("drawn", &rows)?)
}
