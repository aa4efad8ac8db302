//! The figures as tables, for a terminal and for a page.
//!
//! Owns which rows and columns there are. Knows nothing of how tables are drawn.
//! Invariant: a figure that the trace cannot give is said to be missing, once in a row or a column.

use super::sentences::{
    NOT_THERE, about, amount, amount_or, count, counted, duration, fraction, percent, percent_or,
};
use super::{Achievable, Both, Machines, Pools, Report, Source, sentences};

/// Classes of machines that are named; the others are left to the JSON.
const CLASSES_MAX: usize = 12;
const SPARE: &str = "-";

/// A table: what it is, what a reader must know, columns, rows.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) note: Option<String>,
    pub(crate) columns: Vec<&'static str>,
    /// The first cell of each names the row, the others hold figures.
    pub(crate) rows: Vec<Vec<String>>,
}

/// Every table of a report, in the order in which they are read.
pub(crate) fn tables(report: &Report) -> Vec<Table> {
    let mut tables = vec![recoverable(report)];
    tables.extend(moments(report));
    tables.extend([means(report), stranded(report)]);
    tables.extend(requests(report));
    tables.push(classes(report));
    tables.push(read(report));
    tables.into_iter().map(Table::without_missing).collect()
}

impl Table {
    /// Columns of which the trace gives no figure become a remark; a table without any figure is a
    /// title and that remark.
    fn without_missing(mut self) -> Self {
        let missing = |column: usize| {
            !self.rows.is_empty() && self.rows.iter().all(|row| row[column] == NOT_THERE)
        };
        let missing: Vec<bool> = (0..self.columns.len()).map(missing).collect();
        let kept = |column: &usize| !missing[*column];
        if missing.iter().skip(1).all(|missing| *missing) || self.rows.is_empty() {
            let said = format!("{}{}.", NOT_THERE[..1].to_uppercase(), &NOT_THERE[1..]);
            return Self { note: Some(said), rows: Vec::new(), ..self };
        }
        let columns = self.columns.iter().zip(&missing).filter(|(_, missing)| **missing);
        let named: Vec<&str> = columns.map(|(column, _)| *column).collect();
        if !named.is_empty() {
            let said = format!("{NOT_THERE}: {}.", named.join(", "));
            let said = format!("{}{}", said[..1].to_uppercase(), &said[1..]);
            self.note = Some(self.note.map_or(said.clone(), |note| format!("{note} {said}")));
        }
        let all = 0..self.columns.len();
        self.columns = all.clone().filter(kept).map(|column| self.columns[column]).collect();
        for row in &mut self.rows {
            *row = all.clone().filter(kept).map(|column| row[column].clone()).collect();
            for cell in row.iter_mut().filter(|cell| *cell == NOT_THERE).skip(1) {
                SPARE.clone_into(cell);
            }
        }
        self
    }
}

/// Both moments, or one where they are the same.
fn moments(report: &Report) -> Vec<Table> {
    let kept = fraction(report).map(|row| row.local_fraction);
    match &report.achievable[..] {
        [memory, cpu] if memory.at_s == cpu.at_s => {
            vec![achievable(memory, "the most memory and processor are used", kept)]
        }
        moments => moments.iter().map(|moment| achievable(moment, when(moment), kept)).collect(),
    }
}

fn when(moment: &Achievable) -> &'static str {
    match moment.moment {
        "most_memory_used" => "the most memory is used",
        _ => "the most processor is used",
    }
}

fn means(report: &Report) -> Table {
    let mean = &report.mean;
    let by = match mean.reserved_by {
        Some(Source::Tasks) => "Reserved is what tasks that run ask for, by their records.",
        Some(_) => "Reserved is what the records of use say was asked for.",
        None => "What tasks ask for is not in this trace.",
    };
    let row = |name: &str, of: fn(&Both) -> Option<f64>, demand: Option<super::Levels>| {
        vec![
            name.to_owned(),
            amount_or(of(&mean.capacity)),
            amount_or(of(&mean.used)),
            amount_or(of(&mean.reserved)),
            percent_or(of(&mean.unused_share)),
            percent_or(of(&mean.reserved_share)),
            amount_or(demand.map(|demand| demand.p99)),
            amount_or(demand.map(|demand| demand.peak)),
        ]
    };
    Table {
        title: "Means over the trace, in its own units".to_owned(),
        note: Some(by.to_owned()),
        columns: vec![
            "",
            "capacity",
            "used",
            "reserved",
            "% unused",
            "% reserved",
            "used, p99",
            "used, peak",
        ],
        rows: vec![
            row("memory", |both| both.memory, report.demand.memory),
            row("processors", |both| both.cpu, report.demand.cpu),
        ],
    }
}

fn recoverable(report: &Report) -> Table {
    let title = "Memory that could be lent, of all memory".to_owned();
    if report.recoverable.iter().all(|row| row.share.is_none()) {
        let (note, columns) = (Some("Not in this trace.".to_owned()), Vec::new());
        return Table { title, note, columns, rows: Vec::new() };
    }
    let rows = report.recoverable.iter().map(|row| {
        vec![
            format!("L = {}", row.local_fraction),
            percent(row.cap_share),
            percent_or(row.share),
            percent_or(row.as_published_share),
            percent_or(row.pooled.map(|left| left.at_p99_share)),
            percent_or(row.pooled.map(|left| left.at_peak_share)),
            percent_or(row.each_machine.map(|left| left.at_p99_share)),
            percent_or(row.each_machine.map(|left| left.at_peak_share)),
        ]
    });
    Table {
        title,
        note: Some(format!(
            "{} \"Pooled\" is left at the cluster's own p99 and peak; \"each\", where no machine may \
             need more than it kept, at its own p99 (rounded against it by less than 1/128) and peak.",
            about(report)
        )),
        columns: vec![
            "kept",
            "cap 1-L",
            "mean",
            "as published",
            "pooled p99",
            "pooled peak",
            "each p99",
            "each peak",
        ],
        rows: rows.collect(),
    }
}

fn stranded(report: &Report) -> Table {
    let note = report.stranded.map(|stranded| {
        let by = match stranded.allocated_by {
            Source::Tasks => "Allocated is what tasks that run ask for.",
            Source::Uses => "Allocated is what records of use say was asked for.",
            Source::Used => "The trace has no requests: what is used is taken for allocated.",
        };
        let most = percent(1.0 - stranded.slack);
        format!("Free on machines of which the other resource is allocated to {most} or more. {by}")
    });
    let row = |name: &str, of: fn(&Both) -> Option<f64>| {
        let share = report.stranded.and_then(|stranded| of(&stranded.share));
        vec![name.to_owned(), percent_or(share)]
    };
    Table {
        title: "Stranded, of all capacity".to_owned(),
        note,
        columns: vec!["", "stranded"],
        rows: vec![
            row("memory, no processors left", |both| both.memory),
            row("processors, no memory left", |both| both.cpu),
        ],
    }
}

fn requests(report: &Report) -> Option<Table> {
    let requests = report.requests.as_ref()?;
    let row = |name: &str, share: Both, asked: &super::Asked| {
        vec![
            name.replace('_', " "),
            percent_or(share.memory),
            percent_or(asked.unused_share.memory),
            percent_or(asked.used_share.memory),
            percent_or(share.cpu),
            percent_or(asked.unused_share.cpu),
            percent_or(asked.used_share.cpu),
        ]
    };
    let all = Both {
        cpu: requests.all.used_share.cpu.map(|_| 1.0),
        memory: requests.all.used_share.memory.map(|_| 1.0),
    };
    let mut rows = vec![row("all", all, &requests.all)];
    rows.extend(
        requests
            .by_class
            .iter()
            .map(|class| row(class.class, class.share_of_requests, &class.asked)),
    );
    Some(Table {
        title: "Reserved but unused, of what is reserved".to_owned(),
        note: Some(
            "Unused is counted sample by sample, so that a task that uses more than it asked for \
             does not make up for others; used is over reserved, where it does."
                .to_owned(),
        ),
        columns: vec![
            "tasks",
            "mem. asked",
            "mem. unused",
            "mem. used",
            "cpu asked",
            "cpu unused",
            "cpu used",
        ],
        rows,
    })
}

/// What is up, and what of it is needed: whole machines, or processors with memory from a pool. Of
/// the pools those are shown where machines keep the least, and where they keep this share.
fn achievable(moment: &Achievable, when: &str, kept: Option<f64>) -> Table {
    let Achievable { up, whole_machines: whole, pools, .. } = moment;
    let shown =
        |(place, pools): &(usize, &Pools)| *place == 0 || Some(pools.local_fraction) == kept;
    let mut rows = vec![packed("up", up, None, None)];
    rows.push(packed("needed: whole machines", &whole.needed, None, Some(&whole.remain)));
    for (_, pools) in pools.iter().enumerate().filter(shown) {
        let needed = Machines {
            machines: pools.machines,
            cpu: up.cpu - pools.remain.cpu,
            memory: pools.memory_local + pools.memory_remote,
        };
        let name = format!("needed: pools, L = {}", pools.local_fraction);
        rows.push(packed(&name, &needed, Some(pools.memory_remote), Some(&pools.remain)));
    }
    Table {
        title: format!("Packed again, when {when}"),
        note: Some(about_packing(moment)),
        columns: vec![
            "",
            "machines",
            "cpu",
            "memory",
            "remote",
            "mach. left",
            "cpu left",
            "mem. left",
        ],
        rows,
    }
}

fn packed(name: &str, it: &Machines, remote: Option<f64>, left: Option<&Machines>) -> Vec<String> {
    let or_spare = |amount: Option<String>| amount.unwrap_or_else(|| SPARE.to_owned());
    vec![
        name.to_owned(),
        count(it.machines as u64),
        amount(it.cpu),
        amount(it.memory),
        or_spare(remote.map(amount)),
        or_spare(left.map(|left| count(left.machines as u64))),
        or_spare(left.map(|left| amount(left.cpu))),
        or_spare(left.map(|left| amount(left.memory))),
    ]
}

fn about_packing(moment: &Achievable) -> String {
    let whole = &moment.whole_machines;
    let mut said = format!(
        "{}, {}{} memory with a margin of {}, at {} s of the trace. No packing takes fewer than {}",
        sentences::packed(moment),
        moment
            .demand_cpu
            .map_or_else(String::new, |cpu| format!("{} processors and ", amount(cpu))),
        amount(moment.demand_memory),
        percent(moment.margin),
        amount(moment.at_s),
        counted(whole.machines_at_least as u64, "machine"),
    );
    if let Some(pools) = moment.pools.first() {
        let least = count(pools.machines_at_least as u64);
        said += &format!(", with pools {least}; other L are in the JSON");
    } else {
        said += &format!(". What processors were used is {NOT_THERE}: this is of memory alone");
    }
    said.push('.');
    if moment.machine_loads > 0 {
        let loads = count(moment.machine_loads);
        said += &format!(" {loads} of them are whole loads of machines, which cannot be split.");
    }
    if moment.tasks_left_out > 0 {
        let left_out = counted(moment.tasks_left_out, "task");
        said += &format!(" {left_out} on machines that do not count are left out.");
    }
    if whole.tasks_without_room > 0 {
        let without = count(whole.tasks_without_room as u64);
        said += &format!(" For {without} of them no room was found.");
    }
    said
}

fn classes(report: &Report) -> Table {
    let rows = report.machine_classes.iter().take(CLASSES_MAX).map(|class| {
        vec![
            format!(
                "{} cpu, {} memory",
                class.capacity.cpu.map_or(SPARE.to_owned(), amount),
                amount_or(class.capacity.memory)
            ),
            amount(class.machines_up),
            percent_or(class.memory_share),
            percent_or(class.unused_share.memory),
            percent_or(class.unused_share.cpu),
        ]
    });
    let more = report.machine_classes.len().saturating_sub(CLASSES_MAX);
    Table {
        title: "By capacity of machines".to_owned(),
        note: (more > 0).then(|| format!("{more} more kinds of machines are in the JSON.")),
        columns: vec!["each", "machines up", "share of memory", "memory unused", "cpu unused"],
        rows: rows.collect(),
    }
}

fn read(report: &Report) -> Table {
    let trace = &report.trace;
    let late = &trace.late;
    let mut rows = vec![
        ("measured", duration(trace.measured_s)),
        ("machines with known memory", count(trace.machines)),
        ("of them up, on the mean", amount(trace.machines_up)),
        ("records of machines", count(trace.machine_records)),
        ("records of tasks", count(trace.task_records)),
        ("records of use", count(trace.use_records)),
        ("gauges of machines", count(trace.gauge_records)),
    ];
    let share = |share: Option<f64>| share.unwrap_or(0.0);
    let left_out = trace.use_left_out_share;
    let wrong = [
        ("machines whose memory is not known", trace.machines_without_memory),
        ("records of use that name no machine", trace.uses_without_machine),
        ("records of use without memory", trace.uses_without_memory),
        ("records of use without processors", trace.uses_without_cpu),
        ("tasks that ended without having started", trace.tasks_ended_without_start),
        ("records of use that came too late", late.uses),
        ("gauges that came too late", late.gauges),
        ("records of machines that came too late", late.machines),
        ("records of tasks that came too late", late.tasks),
        ("records with times that are not believed", late.not_believed),
    ];
    rows.extend(wrong.iter().filter(|(_, n)| *n > 0).map(|(name, n)| (*name, count(*n))));
    if share(left_out.memory) > 0.0 {
        rows.push(("memory used on no machine that counts", percent(share(left_out.memory))));
    }
    if share(left_out.cpu) > 0.0 {
        rows.push(("processors used on no machine that counts", percent(share(left_out.cpu))));
    }
    if late.uses > 0 {
        rows.push(("use lost to lateness", duration(late.use_lost_s)));
    }
    if trace.first_s.is_none() {
        rows[0].1 = NOT_THERE.to_owned();
    }
    Table {
        title: "What was read".to_owned(),
        note: None,
        columns: vec!["", ""],
        rows: rows.into_iter().map(|(name, said)| vec![name.to_owned(), said]).collect(),
    }
}
