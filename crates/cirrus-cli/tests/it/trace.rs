//! `cirrus trace`: from files to figures, as a person sees them.
//!
//! Owns what the command prints and how it ends. Invariant: figures are those of a made-up cluster
//! that are known beforehand.

use std::fs;
use std::path::{Path, PathBuf};

use cirrus_trace::synthetic::{self, Encoding, Layout, Parts, Scenario};
use serde_json::Value;

use crate::support::{Ended, Sandbox, wait_for};

const PARTS: Parts = Parts { count: 3, gzip: true };

/// A made-up trace in a folder of its own.
fn written(sandbox: &Sandbox, name: &str, scenario: &Scenario, layout: Layout) -> PathBuf {
    let folder = sandbox.path(name);
    fs::create_dir(&folder).expect("a new folder");
    synthetic::write(&folder, scenario, layout, PARTS).expect("a trace");
    folder
}

fn json(ended: &Ended) -> Value {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    serde_json::from_slice(&ended.stdout).expect("JSON")
}

fn share(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no share"))
}

#[test]
fn every_format_has_the_figures_that_are_known() {
    let sandbox = Sandbox::new();
    let scenario = Scenario::new(20, 6, 30, 7);
    let fractions = [0.0, 0.25, 0.5];
    let layouts = [
        ("google-2011", Layout::Google2011),
        ("google-2019", Layout::Google2019(Encoding::Parquet)),
        ("alibaba-2018", Layout::Alibaba2018),
        ("generic", Layout::Generic),
    ];
    for (format, layout) in layouts {
        let folder = written(&sandbox, format, &scenario, layout);
        let known = synthetic::known(&scenario, layout, &fractions, 0.05).expect("known figures");
        let folder = folder.to_str().expect("a path");
        let report = json(&sandbox.run([
            "trace",
            format,
            folder,
            "--json",
            "--local-fraction",
            "0,0.25,0.5",
        ]));
        let near = |ours: &Value, theirs: f64| (share(ours) - theirs).abs() < 1e-12;
        let unused = &report["mean"]["unused_share"]["memory"];
        assert!(near(unused, known.unused_share()), "{format}: {unused} {}", known.unused_share());
        for (at, fraction) in fractions.into_iter().enumerate() {
            let row = &report["recoverable"][at];
            assert_eq!(row["local_fraction"], fraction);
            assert!(near(&row["share"], known.recoverable_share(at)), "{format}: {row}");
            assert!(near(&row["as_published_share"], known.published_share(at)), "{format}: {row}");
        }
        assert_eq!((&report["is_whole"], &report["format"]), (&true.into(), &format.into()));
    }
}

#[test]
fn the_report_is_a_screen_a_picture_and_a_page() {
    let sandbox = Sandbox::new();
    let scenario = Scenario::new(12, 4, 12, 3);
    written(&sandbox, "trace", &scenario, Layout::Google2011);
    let args = ["trace", "google-2011", "trace", "--local-fraction", "0,0.3,0.6", "--largest"];
    let more = ["64,512GiB", "--plot", "memory.svg", "--report", "memory.html"];
    let ended = sandbox.run(args.iter().chain(&more));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!("trace_report", ended.text());
    let drawn = fs::read_to_string(sandbox.path("memory.svg")).expect("a picture");
    assert!(drawn.starts_with("<svg") && drawn.contains("cap 1-L"), "{drawn}");
    assert_eq!(drawn.matches("<svg").count(), drawn.matches("</svg>").count());
    let page = fs::read_to_string(sandbox.path("memory.html")).expect("a page");
    assert!(page.contains("<h2>") && page.trim_end().ends_with("</html>"), "{page}");
}

#[test]
fn a_demand_that_has_no_price_leaves_the_figures() {
    let sandbox = Sandbox::new();
    sandbox.write("usage.csv", "time,machine,memory_capacity,memory_used\n0,m,1,0.25\n");
    let args = ["trace", "generic", "usage.csv", "--largest", "64,512GiB", "--plot", "m.svg"];
    let ended = sandbox.run(args);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.text().contains("Of the memory of 1 machine, 75.0 % was not used"),
        "{}",
        ended.text()
    );
    assert!(ended.stderr.starts_with("cirrus: the demand has no price"), "{}", ended.stderr);
    assert!(fs::read_to_string(sandbox.path("m.svg")).expect("a picture").starts_with("<svg"));
}

#[test]
fn a_report_that_cannot_be_written_fails_and_a_reader_that_is_gone_does_not() {
    let sandbox = Sandbox::new();
    let scenario = Scenario::new(4, 2, 4, 3);
    written(&sandbox, "trace", &scenario, Layout::Google2011);
    for json in [&["--json"][..], &[]] {
        let args = || ["trace", "google-2011", "trace"].iter().chain(json);
        let full = fs::File::options().write(true).open("/dev/full").expect("a full device");
        let output = sandbox.cirrus(args()).stdout(full).output().expect("cirrus");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("cannot write to standard output"), "{said}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = sandbox.cirrus(args()).stdout(writer).output().expect("cirrus");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_goes_on() {
    let sandbox = Sandbox::new();
    let scenario = Scenario::new(12, 4, 12, 3);
    let folder = written(&sandbox, "trace", &scenario, Layout::Google2011);
    let mut parts: Vec<PathBuf> = fs::read_dir(folder.join("task_usage"))
        .expect("a folder")
        .map(|part| part.expect("a part").path())
        .collect();
    parts.sort();
    let bytes = fs::read(&parts[0]).expect("a part");
    fs::write(&parts[0], &bytes[..bytes.len() / 2]).expect("half of it");
    let ended = sandbox.run(["trace", "google-2011", "trace", "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    let [problem] = report["problems"].as_array().expect("problems").as_slice() else {
        panic!("{}", report["problems"]);
    };
    assert_eq!((&problem["kind"], &problem["count"]), (&"gzip_truncated".into(), &1.into()));
    assert!(
        Path::new(problem["first"]["file"].as_str().expect("a file"))
            .ends_with(parts[0].strip_prefix(sandbox.path("")).expect("in the sandbox"))
    );
    assert!(ended.stderr.starts_with("cirrus: 1 gzip file is cut off"), "{}", ended.stderr);
    assert!(share(&report["trace"]["use_records"]) > 100.0, "{}", report["trace"]);
}

#[test]
fn what_is_asked_for_wrongly_is_one_line() {
    let sandbox = Sandbox::new();
    let scenario = Scenario::new(4, 2, 4, 3);
    written(&sandbox, "trace", &scenario, Layout::Google2011);
    sandbox.write("empty/.keep", "");
    let cases: [&[&str]; 9] = [
        &["google-2011", "nowhere"],
        &["google-2012", "trace"],
        &["generic", "trace"],
        &["google-2011", "empty"],
        &["google-2011", "trace", "--slot", "0"],
        &["google-2011", "trace", "--local-fraction", "0,1.5"],
        &["google-2011", "trace", "--plot", "none/memory.svg"],
        &["google-2011", "trace", "--largest", "64"],
        &["google-2011", "trace", "--sort", "--scratch", "none"],
    ];
    let lines = cases.map(|case| {
        let ended = sandbox.run(["trace"].iter().chain(case));
        assert_eq!(ended.stdout, b"", "{case:?}");
        ended.line(1).to_owned()
    });
    insta::assert_snapshot!("trace_errors", lines.join("\n"));
}

#[test]
fn ctrl_c_prints_what_is_known_so_far() {
    let sandbox = Sandbox::new();
    let scenario = Scenario::new(400, 10, 300, 3);
    let folder = written(&sandbox, "trace", &scenario, Layout::Google2011);
    let args =
        ["trace", "google-2011", folder.to_str().expect("a path"), "--json", "--threads", "1"];
    let whole = json(&sandbox.run(args));
    let mut run = sandbox.start(sandbox.cirrus(args));
    let path = format!("/proc/{}/io", run.pid());
    wait_for("some bytes that were read", || {
        assert!(!run.has_ended(), "it ended before it could be interrupted");
        let io = fs::read_to_string(&path).ok()?;
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: "))?;
        (read.parse::<u64>().ok()? > 1 << 20).then_some(())
    });
    run.interrupt();
    let ended = run.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let report: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!(report["is_whole"], false);
    let uses = |report: &Value| share(&report["trace"]["use_records"]);
    assert!(uses(&report) < uses(&whole), "{} of {}", uses(&report), uses(&whole));
    assert!(ended.stderr.starts_with("cirrus: interrupted after "), "{}", ended.stderr);
}

#[test]
fn rows_in_no_order_are_told_and_sorted_when_asked_for() {
    let sandbox = Sandbox::new();
    let mut rows = String::from("time,duration,machine,memory_capacity,memory_used\n");
    for slot in (0..100).rev() {
        rows += &format!("{},300,m,1,0.25\n", slot * 300);
    }
    sandbox.write("usage.csv", rows);
    let ended = sandbox.run(["trace", "generic", "usage.csv", "--json"]);
    let late = "came more than 24 slots late";
    assert!(ended.code == Some(0) && ended.stderr.contains(late), "{}", ended.stderr);
    let sorted = json(&sandbox.run(["trace", "generic", "usage.csv", "--json", "--sort"]));
    assert_eq!(sorted["mean"]["unused_share"]["memory"], 0.75);
    assert_eq!(sorted["trace"]["measured_s"], 30_000.0);
}

/// The samples of real traces beside the project, where they are.
fn real(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    let there = path.exists();
    if !there {
        eprintln!("skipped: {} is not here", path.display());
    }
    there.then_some(path)
}

#[test]
fn a_sample_of_google_2019_has_its_published_shares() {
    let Some(path) = real("google-2019-sample/borg2019_sample_usage.csv.gz") else { return };
    let sandbox = Sandbox::new();
    let path = path.to_str().expect("a path");
    let report = json(&sandbox.run(["trace", "google-2019", path, "--sort", "--json"]));
    let of = |class: &str| {
        let classes = report["requests"]["by_class"].as_array().expect("classes").iter();
        let mut found = classes.filter(|it| it["class"] == class);
        share(&found.next().expect(class)["unused_share"]["memory"])
    };
    let rounded = |share: f64| (share * 100.0).round();
    assert_eq!(rounded(share(&report["requests"]["all"]["unused_share"]["memory"])), 41.0);
    assert_eq!(rounded(of("free")), 73.0);
}

#[test]
fn an_hour_of_google_2011_leaves_three_fifths_of_its_memory_unused() {
    let Some(path) = real("google-2011/machines_hour_2011-05-16T00.csv.gz") else { return };
    let sandbox = Sandbox::new();
    // As docs/traces.md does it.
    let convert = format!(
        r#"zcat {} | awk -F, '
  NR == 1 {{ print "time,duration,machine,cpu_capacity,memory_capacity,memory_used,cpu_used" }}
  NR > 1 {{ for (i = 0; i < 12; i++) print 300*i ",300," $1 "," $2 "," $3 "," $(4+i) "," $(16+i) }}' > hour.csv"#,
        path.display()
    );
    let mut shell = sandbox.command(Path::new("/bin/sh"), ["-c", &convert]);
    assert!(shell.status().expect("a shell").success());
    let ended = sandbox.run(["trace", "generic", "hour.csv", "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    let unused = share(&report["mean"]["unused_share"]["memory"]);
    assert!((0.59..0.60).contains(&unused), "{unused}");
    assert_eq!(report["trace"]["machines"], 12_441);
}
