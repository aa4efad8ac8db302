//! `cirrus plan`: pools, tasks, pipelines and applications.
//!
//! Owns the figures that the paper has and the schema of the JSON. Invariant: the price stands first,
//! and what is wrong with a demand is one line.

use std::fs;

use serde_json::Value;

use crate::pictures;
use crate::support::{Ended, Sandbox, float, stage};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cost.md");

/// The file of docs/cost.md that has this line.
fn documented(line: &str) -> String {
    let docs = fs::read_to_string(DOCS).expect("docs/cost.md");
    let mut files = docs.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    files.find(|file| file.lines().any(|it| it == line)).expect(line).to_owned()
}

/// What docs/cost.md shows of a command is what it prints.
#[track_caller]
fn assert_documented(text: &str) {
    let docs = fs::read_to_string(DOCS).expect("docs/cost.md");
    assert!(docs.contains(text.trim_end()), "docs/cost.md lacks:\n{text}");
}

const PAPER: [&str; 8] =
    ["plan", "pool", "--cpu", "100", "--memory", "100GiB", "--catalog", "paper"];

fn pool(sandbox: &Sandbox, args: &[&str]) -> Ended {
    let ended = sandbox.run([&PAPER, args].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    ended
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_slice(&ended.stdout).expect("JSON")
}

/// The keys that every plan has, with what they hold.
#[track_caller]
fn assert_schema(plan: &Value) {
    for number in ["usd_hour", "bound", "gap"] {
        assert!(plan[number].is_f64(), "{number}: {plan}");
    }
    // A pool has no disks.
    let disks = plan["disk_usd_hour"].as_f64().unwrap_or_default();
    assert!(plan["bound"].as_f64() <= plan["usd_hour"].as_f64(), "{plan}");
    assert!(plan["binding"].is_string() && plan["placements"].is_array(), "{plan}");
    let machines = plan["machines"].as_array().expect("machines");
    let mut sum = 0.0;
    for machine in machines {
        assert!(machine["offer"].is_string(), "{machine}");
        let [count, price] = ["count", "usd_hour"].map(|key| machine[key].as_f64().expect(key));
        sum += count * price;
    }
    let price = plan["usd_hour"].as_f64().expect("a price");
    let sum = sum + disks;
    assert!((sum - price).abs() < 1e-5 && !machines.is_empty(), "{sum} of {price}: {plan}");
}

#[test]
fn the_papers_figure_comes_out() {
    let sandbox = Sandbox::new();
    let cost = |args: &[&str]| {
        let text = pool(&sandbox, args).text().to_owned();
        let (cost, rest) = text.split_once(" $/h: ").expect("money first");
        (cost.to_owned(), rest.lines().next().unwrap_or_default().to_owned())
    };
    let whole = |only: &str| cost(&["--only", only]);
    let parts = |only: &str| cost(&["--only", only, "--fractional"]).0;
    assert_eq!(whole("m4.large"), ("5.400".into(), "50 m4.large".into()));
    assert_eq!(
        (parts("r4.large,lambda-128"), whole("r4.large,lambda-128").0),
        ("1.437".into(), "1.457".into())
    );
    assert_eq!(parts("r4.large,t2.nano"), "1.015");
    assert_eq!(whole("r4.large,t2.nano"), ("1.042".into(), "3 r4.large + 109 t2.nano".into()));
    let lasting = |only: &str| cost(&["--only", only, "--sustained"]);
    assert_eq!(
        lasting("m4.large,r4.large,lambda-128,t2.nano"),
        ("5.400".into(), "50 m4.large".into())
    );
    assert_eq!(lasting("r4.large,t2.nano"), ("6.650".into(), "50 r4.large".into()));
    assert_eq!(lasting("lambda-128").0, "10.356");
    assert_eq!(lasting("t2.nano").0, "11.800");
}

#[test]
fn the_plan_is_money_first_with_table_one_and_a_warning() {
    let sandbox = Sandbox::new();
    let mix = pool(&sandbox, &["--only", "r4.large,t2.nano"]).text().to_owned();
    assert_documented(&mix);
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let (first, _) = mix.split_once("\n\none more vCPU").expect("what one more costs");
    assert!(fs::read_to_string(readme).expect("README.md").contains(first), "{first}");
    let four = "m4.large,r4.large,lambda-128,t2.nano";
    assert_documented(pool(&sandbox, &["--only", four, "--sustained"]).text());
}

#[test]
fn a_pool_is_printed_as_json_and_drawn() {
    let sandbox = Sandbox::new();
    let plan = json(&pool(&sandbox, &["--only", "r4.large,t2.nano", "--json"]));
    assert_schema(&plan);
    let machines: Vec<(&str, f64)> = plan["machines"]
        .as_array()
        .expect("machines")
        .iter()
        .map(|it| (it["offer"].as_str().expect("a name"), it["count"].as_f64().expect("a count")))
        .collect();
    assert_eq!(machines, [("r4.large", 3.0), ("t2.nano", 109.0)]);
    assert_eq!(
        (&plan["memory"], &plan["memory_bytes"]),
        (&"100 GiB".into(), &(100u64 << 30).into())
    );
    assert!(plan["warning"].as_str().expect("a warning").contains("sustain 11.4"), "{plan}");
    assert_eq!(plan["mixes"][1]["sustained_usd_hour"], 11.8);

    let mixes =
        ["--only", "m4.large", "--only", "r4.large,lambda-128", "--only", "r4.large,t2.nano"];
    let lines = pool(&sandbox, &[&mixes[..], &["--json", "--plot", "figure.svg"]].concat());
    assert_eq!(lines.text().lines().count(), 3);
    let figure = fs::read_to_string(sandbox.path("figure.svg")).expect("the figure");
    for text in ["5.40", "1.46", "1.04", "6.65", "m4.large", "r4.large + t2.nano"] {
        assert!(figure.contains(&format!(">{text}<")), "{text}: {figure}");
    }
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pool.svg");
    assert_eq!(figure, fs::read_to_string(shipped).expect("docs/pool.svg"));
}

#[test]
fn a_discount_is_taken_off() {
    let sandbox = Sandbox::new();
    let text = pool(&sandbox, &["--only", "m4.large", "--discount", "m4.=50"]).text().to_owned();
    assert!(text.starts_with("2.700 $/h: 50 m4.large\n"), "{text}");
}

#[test]
fn a_pool_that_makes_no_sense() {
    let sandbox = Sandbox::new();
    let line = |args: &[&str]| sandbox.run([&["plan", "pool"], args].concat()).line(1).to_owned();
    insta::assert_snapshot!(line(&["--cpu", "1"]), @"cirrus: the following required arguments were not provided: --memory <SIZE>; see '--help'.");
    insta::assert_snapshot!(line(&["--cpu", "lots", "--memory", "1GiB"]), @"cirrus: invalid value 'lots' for '--cpu <N>': `lots` is not a decimal number; expected a number of cores, such as 1, 0.5 or 2.25; see '--help'.");
    insta::assert_snapshot!(line(&["--cpu", "1", "--memory", "1"]), @"cirrus: invalid value '1' for '--memory <SIZE>': `1` has no unit; expected a number and a unit, such as 512MiB, 8GiB, 64KiB, 1500MB or 4096B; see '--help'.");
    insta::assert_snapshot!(line(&["--cpu", "1", "--memory", "1GiB", "--catalog", "oci"]), @"cirrus: there is no catalogue `oci`; there are paper, aws, azure, gcp, files *.csv, and what `cirrus catalog import` brings");
    insta::assert_snapshot!(line(&["--cpu", "1", "--memory", "1GiB", "--only", "t9.nano"]), @"cirrus: `t9.nano` is no offer of the catalogue `aws`; `cirrus catalog show aws` lists them");
    insta::assert_snapshot!(line(&["--cpu", "1", "--memory", "1GiB", "--only", "t2.nano,"]), @"cirrus: invalid value 't2.nano,' for '--only <OFFER,...>': expected names of offers, such as r4.large,t2.nano; see '--help'.");
    insta::assert_snapshot!(line(&["--cpu", "1", "--memory", "1GiB", "--discount", "m4"]), @"cirrus: invalid value 'm4' for '--discount <PREFIX=PERCENT>': expected PREFIX=PERCENT with 0 to 99 percent, such as m5.=20; see '--help'.");
    insta::assert_snapshot!(line(&["--cpu", "1", "--memory", "1GiB", "--discount", "m44.=5"]), @"cirrus: --discount m44.=5: no offer of the catalogue `aws` begins so; `cirrus catalog show aws` lists them");
    insta::assert_snapshot!(line(&["--cpu", "1", "--memory", "1GiB", "--catalog", "paper", "--only", "m4.large", "--gpus", "1"]), @"cirrus: no offer of the catalogue `paper` has GPUs for this demand; try another");
    insta::assert_snapshot!(line(&["--cpu", "1", "--memory", "1GiB", "--only", "t3.nano", "--plot", "no/such/figure.svg"]), @"cirrus: cannot write no/such/figure.svg: no/such is no folder; make it (mkdir -p), or write elsewhere");
    insta::assert_snapshot!(line(&["--cpu", "1", "--memory", "1GiB", "--frobnicate"]), @"cirrus: unexpected argument '--frobnicate' found; tip: a similar argument exists: '--fractional'; see '--help'.");
}

#[test]
fn tasks_are_packed_and_compared() {
    let sandbox = Sandbox::new();
    sandbox.write("tasks.toml", documented("[[task]]"));
    let plan = sandbox.run(["plan", "tasks", "tasks.toml"]);
    assert_eq!((plan.code, plan.stderr.as_str()), (Some(0), ""));
    assert_documented(plan.text());
    let plan = json(&sandbox.run(["plan", "tasks", "tasks.toml", "--what-if", "--json"]));
    assert_schema(&plan);
    let placed: u64 = plan["placements"]
        .as_array()
        .expect("placements")
        .iter()
        .map(|it| it["count"].as_u64().unwrap_or(0) * it["tasks"]["decode"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(placed, 6);
    let decode = &plan["tasks"][0];
    assert_eq!(
        (&decode["memory"], &decode["memory_bytes"]),
        (&"8 GiB".into(), &(8u64 << 30).into())
    );
    assert!(plan["first_fit_usd_hour"].as_f64() >= plan["usd_hour"].as_f64(), "{plan}");
    let answers = plan["what_if"].as_array().expect("answers");
    assert!(
        answers.iter().any(|it| it["change"].as_str().is_some_and(|it| it.contains("GPU"))),
        "{plan}"
    );
    let steps = plan["next_steps"].as_array().expect("steps");
    let dearer = |step: &Value| step["delta_usd_hour"].as_f64().is_some_and(|delta| delta >= 0.0);
    assert!(!steps.is_empty() && steps.iter().all(dearer), "{plan}");
    let text = sandbox.run(["plan", "tasks", "tasks.toml", "--what-if"]).text().to_owned();
    assert!(text.contains("\nnext steps, the cheapest first\none more "), "{text}");
    assert!(text.contains("\nwhat if\nevery task that may bears spot machines"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn tasks_that_fit_nowhere_or_are_written_wrong() {
    let sandbox = Sandbox::new();
    let line = |text: &str, args: &[&str]| {
        sandbox.write("tasks.toml", text);
        sandbox.run([&["plan", "tasks", "tasks.toml"], args].concat()).line(1).to_owned()
    };
    let task = |rest: &str| format!("[[task]]\nname = \"one\"\n{rest}\n");
    insta::assert_snapshot!(line(&task("memory = \"900TiB\""), &["--catalog", "paper"]), @"cirrus: `one` fits no machine of `paper`; the nearest, x1.32xlarge (aws us-east-1), has 1.90 TiB memory where 900 TiB is needed");
    insta::assert_snapshot!(line(&task("gpu = \"h100(1)\"\n[[task]]\nname = \"two\"\ncpu = 5000"), &["--catalog", "paper"]), @"cirrus: `one` fits no machine of `paper`; the nearest, cg1.4xlarge (aws us-east-1), has m2050 where h100 is needed; `two` fits no machine of `paper`; the nearest, x1.32xlarge (aws us-east-1), has 128 vCPUs where 5000 is needed, 128 sustained vCPUs where 5000 is needed");
    insta::assert_snapshot!(line(&task("cpu = 0"), &[]), @r#"cirrus: tasks tasks.toml, line 3: `0` is less than a thousandth of a core; expected a number of cores, such as 1, 0.5 or 2.25, or "burst(0.5)"; it has tables [[task]] with a name and, for each replica, cpu = 4, memory = "8GiB" and so on, as docs/cost.md says"#);
    insta::assert_snapshot!(line(&task("cpu = \"bust(1)\""), &[]), @r#"cirrus: tasks tasks.toml, line 3: `bust(1)` is not a decimal number; expected a number of cores, such as 1, 0.5 or 2.25, or "burst(0.5)"; it has tables [[task]] with a name and, for each replica, cpu = 4, memory = "8GiB" and so on, as docs/cost.md says"#);
    insta::assert_snapshot!(line(&task("memory = 8"), &[]), @r#"cirrus: tasks tasks.toml, line 3: `8` has no unit; expected a number and a unit, such as 512MiB, 8GiB, 64KiB, 1500MB or 4096B; it has tables [[task]] with a name and, for each replica, cpu = 4, memory = "8GiB" and so on, as docs/cost.md says"#);
    insta::assert_snapshot!(line(&task("gpu = \"h100\""), &[]), @r#"cirrus: tasks tasks.toml, line 3: `h100` is no number of GPUs; expected 1 or "h100(2)"; it has tables [[task]] with a name and, for each replica, cpu = 4, memory = "8GiB" and so on, as docs/cost.md says"#);
    insta::assert_snapshot!(line(&task("replicas = 0"), &[]), @r#"cirrus: tasks tasks.toml, line 3: replicas `0..=0` starts at 0; expected a range within 1..=65536; it has tables [[task]] with a name and, for each replica, cpu = 4, memory = "8GiB" and so on, as docs/cost.md says"#);
    insta::assert_snapshot!(line(&task("memroy = \"8GiB\""), &[]), @r#"cirrus: tasks tasks.toml, line 3: unknown field `memroy`, expected one of `name`, `cpu`, `memory`, `gpu`, `disk`, `network`, `spot`, `replicas`, `role`, `alone`, `serves`, `run_minutes`; it has tables [[task]] with a name and, for each replica, cpu = 4, memory = "8GiB" and so on, as docs/cost.md says"#);
    insta::assert_snapshot!(line(&task("[rules]\napart = [[\"one\", \"two\"]]"), &[]), @"cirrus: a rule names `two`, which is no task; tasks are one");
    insta::assert_snapshot!(line(&task("[limits]\n\"t2.nano\" = 1"), &["--catalog", "paper", "--only", "t2.nano"]), @"cirrus: `one` fits no machine of `paper`; the nearest, t2.nano (aws us-east-1), has 0.05 sustained vCPUs where 1 is needed");
    insta::assert_snapshot!(line(&task("").repeat(2), &[]), @"cirrus: two tasks are called `one`; rename one");
    insta::assert_snapshot!(line(&task("[limits]\n\"t2.nanno\" = 1"), &["--catalog", "paper"]), @"cirrus: tasks.toml: [limits]: `t2.nanno` is no offer of the catalogue `paper`; `cirrus catalog show paper` lists them");
    insta::assert_snapshot!(line("", &[]), @r#"cirrus: tasks tasks.toml, line 1: missing field `task`; it has tables [[task]] with a name and, for each replica, cpu = 4, memory = "8GiB" and so on, as docs/cost.md says"#);
    let missing = sandbox.run(["plan", "tasks", "no.toml"]);
    insta::assert_snapshot!(missing.line(1), @"cirrus: cannot read tasks no.toml: No such file or directory (os error 2)");
}

#[test]
fn a_pipeline_feeds_its_gpu_at_the_least_cost() {
    let sandbox = Sandbox::new();
    sandbox.write("job.toml", documented("[pipeline]"));
    let plan = |args: &[&str]| {
        sandbox.run([&["plan", "pipeline", "job.toml", "--catalog", "paper"], args].concat())
    };
    let ended = plan(&["--plot", "figure.svg"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_documented(ended.text());
    let figure = fs::read_to_string(sandbox.path("figure.svg")).expect("the figure");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pipeline.svg");
    assert_eq!(figure, fs::read_to_string(shipped).expect("docs/pipeline.svg"));
    let full = json(&plan(&["--json"]));
    assert_schema(&full);
    assert_eq!(full["frontier"].as_array().map(Vec::len), Some(10));
    assert_eq!(full["pipeline"]["working_set"], 40u64 << 30);

    // Half the processor time, as a run measured it, takes half the replicas.
    let unstated = documented("[pipeline]").replace("cpu_seconds = 0.010\n", "");
    sandbox.write("job.toml", unstated.replace("working_set = \"40GiB\"\n", ""));
    let figures = r#"{"stages":[
        {"task":"load","cpu_seconds":1.0,"records":1000,"bytes_out":42949672960},
        {"task":"decode","cpu_seconds":5.0,"records":1000,"bytes_in":110000000,
         "bytes_out":600000000,"memory_bytes":1073741824}
    ]}"#;
    // The paper's machines have networks of unknown speed.
    let no_bytes = figures.replace("110000000", "0").replace("600000000", "0");
    sandbox.write("figures.json", &no_bytes);
    let measured = plan(&["--figures", "figures.json"]);
    assert!(
        measured.text().contains("replicas: 5 decode, 1 trainer, 1 memory"),
        "{}{}",
        measured.text(),
        measured.stderr
    );
    sandbox.write("figures.json", figures);
    sandbox.write(
        "job.toml",
        documented("[pipeline]").replace("working_set = \"40GiB\"\n", "").replace("k80", "t4"),
    );
    let today = ["plan", "pipeline", "job.toml", "--figures", "figures.json", "--json"];
    let measured = json(&sandbox.run(today));
    let pipeline = &measured["pipeline"];
    assert_eq!(pipeline["working_set"], 40u64 << 30);
    assert_eq!(pipeline["stages"][0]["bytes_in"], 110_000);
    assert_eq!(pipeline["stages"][0]["bytes_out"], 600_000);
    // What the file states stays.
    assert_eq!(pipeline["stages"][0]["memory"], 512u64 << 20);
}

#[test]
fn a_pipeline_is_planned_by_what_a_run_measured() {
    let sandbox = Sandbox::new();
    pictures::tiny(&sandbox.path("data"), 200);
    let run = sandbox.images(&["--data", "data", "--size", "8"]);
    sandbox.write(
        "job.toml",
        "[pipeline]\nsamples = 1000\n[[pipeline.stage]]\nname = \"decode\"\n[pipeline.trainer]\n",
    );
    let args = ["plan", "pipeline", "job.toml", "--figures", "figures.json", "--json"];
    let plan = json(&sandbox.run(args));
    assert_schema(&plan);
    let (decode, train) = (stage(&run, "decode"), stage(&run, "train"));
    let [planned, trainer] = [&plan["pipeline"]["stages"][0], &plan["pipeline"]["trainer"]];
    let each = |task: &Value, what: &str| float(&task[what]) / float(&task["records"]);
    // Sums of seconds may be added in another order: equal but for the last bits.
    let same = |planned: &Value, measured: f64| {
        assert!((float(planned) / measured - 1.0).abs() < 1e-12, "{planned} for {measured}");
    };
    same(&planned["cpu_seconds"], each(decode, "cpu_seconds"));
    assert_eq!(float(&planned["bytes_out"]), each(decode, "bytes_out").ceil());
    assert_eq!(planned["memory"], decode["memory_bytes"]);
    same(&trainer["device_seconds"], each(train, "busy_seconds"));
    assert_eq!(plan["pipeline"]["working_set"], stage(&run, "load")["bytes_out"]);
    assert!(float(&planned["bytes_out"]) > 0.0 && float(&planned["memory"]) > 0.0, "{plan}");

    // What is stated of the seconds leaves the rest measured; a stage that never ran is stated.
    sandbox.write(
        "job.toml",
        "[pipeline]\nsamples = 1000\n[[pipeline.stage]]\nname = \"crop\"\ncpu_seconds = 0.001\n\
         memory = \"1GiB\"\n[pipeline.trainer]\ndevice_seconds = 0.001\ncpu_seconds = 0.001\n",
    );
    let trainer = &json(&sandbox.run(args))["pipeline"]["trainer"];
    assert_eq!(float(&trainer["bytes_in"]), each(train, "bytes_in").ceil());
    assert_eq!(trainer["memory"], train["memory_bytes"]);
}

#[test]
fn a_pipeline_that_is_written_wrong() {
    let sandbox = Sandbox::new();
    let right = documented("[pipeline]");
    let line = |text: &str, args: &[&str]| {
        sandbox.write("job.toml", text);
        let first = ["plan", "pipeline", "job.toml", "--catalog", "paper"];
        sandbox.run([&first[..], args].concat()).line(1).to_owned()
    };
    insta::assert_snapshot!(line("app = \"images\"\n", &[]), @"cirrus: job file job.toml, line 1: missing field `pipeline`; it has a table [pipeline] with samples, working_set, [[pipeline.stage]] and [pipeline.trainer], as docs/cost.md says");
    insta::assert_snapshot!(line(&right.replace("0.010", "-1.0"), &[]), @"cirrus: job.toml: a sample costs `decode` -1 seconds; expected a measured time above 0, at most 1000000");
    insta::assert_snapshot!(line(&right.replace("\"8GiB\"", "\"8\""), &[]), @"cirrus: job file job.toml, line 18: `8` has no unit; expected a number and a unit, such as 512MiB, 8GiB, 64KiB, 1500MB or 4096B; it has a table [pipeline] with samples, working_set, [[pipeline.stage]] and [pipeline.trainer], as docs/cost.md says");
    insta::assert_snapshot!(line(&right.replace("k80", "h100"), &[]), @"cirrus: `trainer` fits no machine of `paper`; the nearest, cg1.4xlarge (aws us-east-1), has m2050 where h100 is needed");
    insta::assert_snapshot!(line(&right, &["--plot", "no/such.svg"]), @"cirrus: cannot write no/such.svg: no is no folder; make it (mkdir -p), or write elsewhere");
    insta::assert_snapshot!(line(&right, &["--figures", "no.json"]), @"cirrus: figures no.json: No such file or directory (os error 2)");
    sandbox.write(
        "figures.json",
        r#"{"stages":[{"task":"encode","cpu_seconds":5.0,"records":1000}]}"#,
    );
    let unstated = right.replace("cpu_seconds = 0.010\n", "");
    insta::assert_snapshot!(line(&unstated, &[]), @"cirrus: job.toml: `decode` has no cpu_seconds; state it, or give what a run measured with --figures FILE");
    insta::assert_snapshot!(line(&unstated, &["--figures", "figures.json"]), @"cirrus: job.toml: `decode` has no cpu_seconds, and figures figures.json have no records of a task of this name; state it, or name the stage as the task");
    insta::assert_snapshot!(line(&right.replace("memory = \"512MiB\"\n", ""), &[]), @"cirrus: job.toml: `decode` has no memory; state it, or give what a run measured with --figures FILE");
    insta::assert_snapshot!(line(&right.replace("working_set = \"40GiB\"\n", ""), &[]), @"cirrus: job.toml: `[pipeline]` has no working_set; state it, or give what a run measured with --figures FILE");
}

#[test]
fn an_application_is_planned_in_one_screen() {
    let sandbox = Sandbox::new();
    let plan = sandbox.run(["plan", "images", "--cpu-tasks", "3"]);
    assert_eq!((plan.code, plan.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(plan.text(), @r"
        0.1674 $/h; no packing costs less than 0.1674 $/h (gap 0.00 %)
        first fit decreasing: 0.2112 $/h (+26.2 %)
        one type for all: 0.2112 $/h (+26.2 %)

         count  machine               paid          $/h each  place
             1  a1.large              on demand       0.0582  aws us-east-1
             1  a1.xlarge             on demand       0.1092  aws us-east-1

        resource              needed    used  $/h one more
        vCPU                    5.75     96%       0.00578
        sustained vCPU          5.50     92%       0.02017  binds
        GiB memory              6.75     75%       0.00000
        one more replica, $/h: memory data 0.0117, the coordinator 0.0156, decode 0.0273

         count  machine               holds
             1  a1.large              1 decode, 1 memory data, 1 the coordinator
             1  a1.xlarge             2 decode, 1 load, 1 train

        demanded, at the prices of `aws`
        channel batches: 256 MiB of cirrus_learn::images::Image
        task load: 1 core, 1 GiB memory
        task decode: 1 core, 512 MiB memory, 3 replicas
        task train: 1 core, 2 GiB memory
        memory data: 0.5 cores, 2 GiB memory
        the coordinator: 0.25 burst cores, 256 MiB memory
        in total: 7 replicas: 5.5 cores, 0.25 burst cores, 6.75 GiB memory
    ");
    assert!(plan.text().lines().count() <= 30 && plan.text().lines().all(|line| line.len() <= 80));
    let plan = json(&sandbox.run(["plan", "images", "--catalog", "paper", "--json"]));
    assert_schema(&plan);
    assert_eq!(plan["application"]["name"], "images");
    let names: Vec<&str> = plan["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .filter_map(|it| it["task"].as_str())
        .collect();
    assert_eq!(names, ["load", "decode", "train", "memory data", "the coordinator"]);
    let line = |args: &[&str]| sandbox.run(args).line(1).to_owned();
    insta::assert_snapshot!(line(&["plan", "images", "--catalog", "oci"]), @"images: there is no catalogue `oci`; there are paper, aws, azure, gcp, files *.csv, and what `cirrus catalog import` brings");
    insta::assert_snapshot!(line(&["plan", "images", "--memory", "900TiB"]), @"images: `memory data` fits no machine of `aws`; the nearest, u7in-32tb.224xlarge (aws us-east-1), has 31.32 TiB memory where 900 TiB is needed");
}
