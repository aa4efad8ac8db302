//! `cirrus serve`, `put`, `get`, `stat`, `ls`, `rm` and `store check`.
//!
//! Owns what they promise a shell. Invariant: bytes come back as they went in, and every failure is
//! one line with the exit code that says whose fault it is.

use std::net::TcpStream;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::pictures::Random;
use crate::support::{Ended, Running, Sandbox, signal, wait_for};

/// A memory node that serves.
pub(crate) struct Node<'a> {
    sandbox: &'a Sandbox,
    running: Running,
    /// `HOST:PORT`.
    address: String,
}

impl<'a> Node<'a> {
    pub(crate) fn start(sandbox: &'a Sandbox, capacity: &str, more: &[&str]) -> Self {
        Self::serve(sandbox, &[&["memory", "--capacity", capacity], more].concat())
    }

    fn serve(sandbox: &'a Sandbox, args: &[&str]) -> Self {
        let always = ["serve", args[0], "--listen", "127.0.0.1:0"];
        let running = sandbox.start(sandbox.cirrus(always.iter().chain(&args[1..])));
        let address = wait_for("the node's address", || {
            let (_, stderr) = running.read();
            let (address, _) = stderr.split_once("cirrus://")?.1.split_once(';')?;
            Some(address.to_owned())
        });
        Self { sandbox, running, address }
    }

    fn url(&self) -> String {
        format!("cirrus://{}", self.address)
    }

    fn command<'s>(&self, args: impl IntoIterator<Item = &'s str>) -> Command {
        let mut command = self.sandbox.cirrus(args);
        command.args(["--at", &self.url()]);
        command
    }

    /// Runs a command against this node.
    pub(crate) fn run<'s>(&self, args: impl IntoIterator<Item = &'s str>) -> Ended {
        self.sandbox.start(self.command(args)).wait()
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn objects_round_trip() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, "256MiB", &[]);
    let mut random = Random(3);
    let every_byte: Vec<u8> = (0..=255).chain([0, 0, b'\n', 0xff]).collect();
    let large: Vec<u8> = (0..50_000_000 / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    for (key, value) in [("empty", &Vec::new()), ("a/every byte", &every_byte), ("a/50 MB", &large)]
    {
        let file = sandbox.write("value", value);
        let put = node.run(["put", key, &file.display().to_string()]);
        assert_eq!(put.code, Some(0), "{}", put.stderr);
        let version: u64 = put.text().trim_end().parse().expect("a version");
        let got = node.run(["get", key]);
        assert!(got.code == Some(0) && got.stdout == *value && got.stderr.is_empty(), "{key}");
        let out = sandbox.path("out");
        assert_eq!(node.run(["get", key, "--out", &out.display().to_string()]).code, Some(0));
        assert!(std::fs::read(&out).expect("a file") == *value, "{key} in a file");
        let (bytes, stat) = (value.len(), node.run(["stat", key, "--json"]));
        let stat = parsed(stat.text());
        let modified_at = stat["modified_at"].as_u64().expect("when it was written");
        let age = std::time::UNIX_EPOCH + std::time::Duration::from_millis(modified_at);
        assert!(age.elapsed().expect("in the past").as_secs() < 600, "{modified_at}");
        let expected = json!({
            "key": key,
            "version": version,
            "bytes": bytes,
            "expires_at": null,
            "modified_at": modified_at,
        });
        assert_eq!(stat, expected);
        let stat = node.run(["stat", key]).text().to_owned();
        let end =
            format!("({bytes} bytes), version {version}, written at {modified_at} ms (Unix)\n");
        assert!(stat.ends_with(&end), "{stat}");
    }
    let listed = node.run(["ls"]);
    insta::assert_snapshot!(listed.text(), @r"
        50000000 a/50 MB
             260 a/every byte
               0 empty
    ");
    let listed = node.run(["ls", "a/", "--json"]);
    let listed: Vec<Value> = listed.text().lines().map(parsed).collect();
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[1]["key"], &listed[1]["bytes"]), (&"a/every byte".into(), &260.into()));
    assert_eq!(node.run(["rm", "empty", "a/50 MB"]).code, Some(0));
    assert_eq!(node.run(["ls"]).text().lines().count(), 1);
}

#[test]
fn standard_input_is_stored_and_a_new_value_gets_a_new_version() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, "16MiB", &[]);
    let mut last = 0;
    for (file, text) in [(None, "first"), (Some("-"), "second")] {
        let mut command = node.command(["put", "key"].into_iter().chain(file));
        let input = sandbox.write("input", text);
        command.stdin(std::fs::File::open(input).expect("the input"));
        let put = sandbox.start(command).wait();
        assert_eq!(put.code, Some(0), "{}", put.stderr);
        let version: u64 = put.text().trim_end().parse().expect("a version");
        assert!(version > last, "{version} after {last}");
        last = version;
    }
    assert_eq!(node.run(["get", "key"]).stdout, b"second");
}

#[test]
fn what_is_not_there_is_named_in_one_line() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, "16MiB", &[]);
    for verb in ["get", "stat", "rm"] {
        let ended = node.run([verb, "no/such key"]);
        let line = ended.line(1);
        assert!(line.contains("no/such key"), "{verb}: {line}");
    }
    assert_eq!(node.run(["ls", "nothing/"]).stdout, b"");
    let out = sandbox.path("out");
    node.run(["get", "no/such key", "--out", &out.display().to_string()]).line(1);
    assert!(!out.exists());
    let ended = node.run(["put", "key", "no/such/file"]);
    insta::assert_snapshot!(ended.line(1), @"cirrus: cannot read no/such/file: No such file or directory (os error 2)");
    let ended = node.run(["put", "", "input"]);
    assert!(ended.line(1).contains("key"), "{}", ended.stderr);
}

#[test]
fn a_node_that_is_not_there_is_named_in_one_line() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, "16MiB", &[]);
    let url = node.url();
    for wrong in ["http://127.0.0.1:1", "127.0.0.1:1", "cirrus://", "cirrus://host", "cirrus://h:x"]
    {
        let ended = sandbox.run(["get", "--at", wrong, "key"]);
        assert_eq!(
            ended.line(1),
            format!("cirrus: `{wrong}` is no node; expected cirrus://HOST:PORT")
        );
    }
    // The signal that a service manager sends.
    signal(node.running.pid(), Signal::TERM);
    assert_eq!(node.running.wait().code, Some(0));
    assert!(TcpStream::connect(&node.address).is_err(), "{} is still open", node.address);
    let ended = sandbox.run(["get", "--at", &url, "key"]);
    let line = ended.line(2);
    assert!(line.contains(&node.address) && line.contains("Connection refused"), "{line}");
}

#[test]
fn a_node_with_a_token_serves_only_who_shows_it() {
    let sandbox = Sandbox::new();
    let [right, wrong, empty] = [("right", "open sesame\n"), ("wrong", "sesam"), ("empty", "\n")]
        .map(|(name, token)| sandbox.write(name, token).display().to_string());
    let node = Node::start(&sandbox, "16MiB", &["--token-file", &right]);
    let file = sandbox.write("value", "treasure").display().to_string();
    assert_eq!(node.run(["put", "cave", &file, "--token-file", &right]).code, Some(0));
    assert_eq!(node.run(["get", "cave", "--token-file", &right]).stdout, b"treasure");
    for args in [vec!["get", "cave"], vec!["get", "cave", "--token-file", &wrong]] {
        let ended = node.run(args);
        let line = ended.line(1).replace(&node.address, "[ADDRESS]");
        insta::allow_duplicates! {
            insta::assert_snapshot!(line, @"cirrus: [ADDRESS] turned us away: Unauthorized (it speaks version 1); give the node's secret with --token-file FILE");
        }
    }
    let ended = node.run(["get", "cave", "--token-file", &empty]);
    assert_eq!(ended.line(1), format!("cirrus: the token file {empty} is empty"));
    let ended = node.run(["get", "cave", "--token-file", "/no/such"]);
    assert!(ended.line(1).contains("cannot read /no/such"), "{}", ended.stderr);
}

#[test]
fn ctrl_c_ends_a_node() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, "16MiB", &[]);
    node.running.interrupt();
    assert_eq!(node.running.wait().code, Some(0));
    assert!(TcpStream::connect(&node.address).is_err(), "{} is still open", node.address);
    sandbox.assert_clean(&[]);
}

#[test]
fn a_storage_node_keeps_what_was_acknowledged_through_a_kill() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("store").display().to_string();
    let args = ["storage", "--dir", &dir, "--capacity", "256MiB", "--memory", "16MiB"];
    let node = Node::serve(&sandbox, &args);
    let value = sandbox.write("value", vec![7; 3_000_000]).display().to_string();
    for number in 0..20 {
        assert_eq!(node.run(["put", &format!("k/{number}"), &value]).code, Some(0));
    }
    let check = ["store", "check", "--dir", &dir];
    let line = sandbox.run(check).line(1).to_owned();
    assert!(line.contains("open in another process; stop the node first"), "{line}");
    let second =
        sandbox.run(["serve", "storage", "--listen", "127.0.0.1:0"].iter().chain(&args[1..]));
    assert!(second.line(2).contains("open in another process"), "{}", second.stderr);
    signal(node.running.pid(), Signal::KILL);
    node.running.wait();

    let node = Node::serve(&sandbox, &args);
    assert_eq!(node.run(["ls"]).text().lines().count(), 20);
    assert!(node.run(["get", "k/7"]).stdout == vec![7; 3_000_000]);
    signal(node.running.pid(), Signal::INT);
    assert_eq!(node.running.wait().code, Some(0));
    let checked = sandbox.run(check);
    assert!(
        checked.code == Some(0) && checked.text().ends_with("every byte is as it was written\n")
    );

    // A byte of a value is changed: found, named, and an error for who reads it.
    let segment = sandbox.path("store").join("segment-0000000001");
    let mut bytes = std::fs::read(&segment).expect("the segment");
    bytes[1_000_000] ^= 1;
    std::fs::write(&segment, bytes).expect("the segment");
    let checked = sandbox.run(["store", "check", "--dir", &dir, "--json"]);
    let report = parsed(checked.text());
    assert_eq!(
        (checked.code, &report["damage"][0]["file"]),
        (Some(1), &"segment-0000000001".into())
    );
    let node = Node::serve(&sandbox, &args);
    let damaged = node.run(["get", "k/0"]);
    assert!(damaged.code == Some(2) && damaged.stdout.is_empty(), "{}", damaged.stderr);
    assert!(node.run(["get", "k/19"]).stdout == vec![7; 3_000_000]);
}

#[test]
fn a_folder_that_is_no_store_is_not_checked_and_a_small_disk_is_refused() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("nothing").display().to_string();
    assert!(sandbox.run(["store", "check", "--dir", &dir]).line(1).contains("No such file"));
    std::fs::create_dir(&dir).expect("a folder");
    let line = sandbox.run(["store", "check", "--dir", &dir]).line(1).to_owned();
    assert!(line.contains("no segment is in it"), "{line}");
    let args = ["serve", "storage", "--listen", "127.0.0.1:0", "--dir", &dir, "--capacity", "1MiB"];
    insta::assert_snapshot!(sandbox.run(args).line(1), @"cirrus: 1 MiB on the disk is too little; give at least 16 MiB");
}

#[test]
fn a_storage_node_moves_to_its_bucket_what_its_disk_cannot_hold() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("store").display().to_string();
    let url = format!("file://{}", sandbox.path("bucket").display());
    let args = ["storage", "--dir", &dir, "--capacity", "16MiB", "--memory", "8MiB"];
    let cold = [&args[..], &["--cold", &url]].concat();
    let node = Node::serve(&sandbox, &cold);
    let value = |number: u8| vec![number; 1_000_000];
    for number in 0..40 {
        let file = sandbox.write("value", value(number)).display().to_string();
        let put = node.run(["put", &format!("k/{number}"), &file]);
        assert_eq!(put.code, Some(0), "{number}: {}", put.stderr);
    }
    signal(node.running.pid(), Signal::KILL);
    node.running.wait();
    let names = std::fs::read_dir(sandbox.path("store")).expect("the folder");
    let sizes = names.map(|entry| entry.expect("a file").metadata().expect("its size").len());
    let bytes: u64 = sizes.sum();
    assert!(bytes <= 16 << 20, "{bytes} bytes on a disk of 16 MiB");

    let start = ["serve", "storage", "--listen", "127.0.0.1:0"];
    let without = sandbox.run(start.iter().chain(&args[1..]));
    let line = without.line(1);
    assert!(line.contains("segments of this store lie in the bucket file://"), "{line}");
    let other = format!("file://{}", sandbox.path("other").display());
    let refused = sandbox.run(start.iter().chain(&args[1..]).chain(&["--cold", &other]));
    assert!(refused.line(1).contains("give the bucket that it was moved to"), "{}", refused.stderr);

    let node = Node::serve(&sandbox, &cold);
    for number in 0..40 {
        assert!(node.run(["get", &format!("k/{number}")]).stdout == value(number), "{number}");
    }
    signal(node.running.pid(), Signal::INT);
    assert_eq!(node.running.wait().code, Some(0));
    let check = ["store", "check", "--dir", &dir];
    let checked = sandbox.run(check);
    assert!(checked.text().contains("lie in a bucket and were not read"), "{}", checked.text());
    let checked = sandbox.run(check.iter().chain(&["--cold", &url]));
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let text = checked.text();
    assert!(
        text.starts_with("40 objects in ") && text.ends_with("every byte is as it was written\n")
    );
}

#[test]
fn a_bucket_that_is_none_is_refused() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("store").display().to_string();
    let line = |url| {
        let args = ["serve", "storage", "--listen", "127.0.0.1:0", "--dir", &dir];
        let ended = sandbox.run(args.iter().chain(&["--capacity", "16MiB", "--cold", url]));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        ended.line(1).to_owned()
    };
    insta::assert_snapshot!(line("bucket"), @"cirrus: this is no URL of a bucket; expected s3://BUCKET/FOLDER, gs://, az:// or file:///FOLDER: relative URL without a base");
    insta::assert_snapshot!(line("s3://key:secret@bucket/folder"), @"cirrus: a bucket's URL has no password and no query; give credentials in the environment: AWS_…, GOOGLE_… or AZURE_…");
    insta::assert_snapshot!(line("ftp://host/folder"), @r#"cirrus: the bucket ftp://host/folder: Generic URL error: Unable to recognise URL "ftp://host/folder""#);
    insta::assert_snapshot!(line("memory:///"), @"cirrus: a bucket in memory does not outlive the process; give the URL of another");
}
