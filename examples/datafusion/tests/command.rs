//! The program, as a person starts it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use cirrus_store::server::{NodeOptions, Server};
use cirrus_store::{ByteSize, Client, ClientOptions};
use tokio_util::sync::CancellationToken;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cirrus-datafusion")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The one line on standard error that says why it failed; nothing came before it.
fn refused(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    let stderr = text(&output.stderr);
    let line = stderr.strip_prefix("cirrus-datafusion: ").unwrap_or_else(|| panic!("{stderr}"));
    assert_eq!(line.lines().count(), 1, "{line}");
    line.trim_end().to_owned()
}

#[test]
fn help_names_what_there_is() {
    for flag in ["-h", "--help"] {
        let output = run(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        for word in ["--at", "--rows", "[SQL]"] {
            assert!(text(&output.stdout).contains(word), "{flag}: no {word}");
        }
    }
}

#[test]
fn a_query_of_ones_own_prints_its_table() {
    let output = run(&["--rows", "800", "--", "SELECT count(*) AS trips FROM trips"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = "+-------+\n| trips |\n+-------+\n| 800   |\n+-------+\n";
    assert_eq!(text(&output.stdout), table);
    assert!(text(&output.stderr).contains("wrote 800 synthetic trips in 8 files"));
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    assert!(refused(&["--rows", "7"]).contains("7 is not in 8..=20000000"));
    assert!(refused(&["--row", "8"]).contains("'--row'"));
    let expected = "`localhost` is no node; expected cirrus://HOST:PORT";
    assert_eq!(refused(&["--at", "localhost"]), expected);
    // Nobody listens there.
    let line = refused(&["--at", "cirrus://127.0.0.1:1"]);
    assert!(line.contains("127.0.0.1:1"), "{line}");
}

#[test]
fn a_wrong_query_is_said_in_the_last_line() {
    for (sql, why) in [("SELECT fare FROM trips", "fare"), ("SELEC 1", "SELEC")] {
        let output = run(&["--rows", "8", sql]);
        assert_eq!(output.status.code(), Some(1), "{sql}");
        let last = text(&output.stderr).lines().last().unwrap();
        assert!(last.starts_with("cirrus-datafusion: ") && last.contains(why), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_runs_already_has_the_files_afterwards() {
    let options = NodeOptions::new(ByteSize::mib(64));
    let server = Server::bind("127.0.0.1:0", options).await.unwrap();
    let address = server.local_address().unwrap().to_string();
    let cancel = CancellationToken::new();
    let node = tokio::spawn(server.run(cancel.clone()));
    // The second time writes over the first.
    for rows in ["1600", "800"] {
        let at = format!("cirrus://{address}/");
        let sql = "SELECT count(*) FROM trips WHERE month < '2026-05'";
        let run = move || run(&["--at", &at, "--rows", rows, sql]);
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let half = (rows.parse::<u64>().unwrap() / 2).to_string();
        assert!(text(&output.stdout).contains(&half), "{}", text(&output.stdout));
    }
    let client = Client::new(&address, ClientOptions::default());
    let names = client.list(b"synthetic/").await.unwrap();
    let mut names: Vec<_> = names.iter().map(|name| text(name.key.as_bytes())).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 9);
    assert_eq!(names[0], "synthetic/trips/month=2026-01/trips.parquet");
    assert_eq!(names[8], "synthetic/zones/zones.parquet");
    assert_eq!(client.list(b"").await.unwrap().len(), 9, "uploads leave nothing");
    cancel.cancel();
    node.await.unwrap().unwrap();
}
