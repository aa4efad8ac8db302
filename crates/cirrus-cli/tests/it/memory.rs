//! Memory tasks that are full.
//!
//! Owns filling them. Invariant: a full node says so with a typed error, loses nothing and goes on.

use std::fs::{self, File};

use crate::objects::Node;
use crate::support::Sandbox;

#[test]
fn a_set_that_does_not_fit_ends_the_run_with_one_line() {
    let sandbox = Sandbox::new();
    for number in 0..40 {
        let class = sandbox.path(if number % 2 == 0 { "data/a" } else { "data/b" });
        fs::create_dir_all(&class).expect("a new folder");
        // Loading does not look into files: holes are as large as bytes.
        let file = File::create(class.join(format!("{number}.jpg"))).expect("a new file");
        file.set_len(20 << 20).expect("a hole");
    }
    let ended = sandbox.run(["run", "images", "--data", "data", "--memory", "256MiB"]);
    let line = ended.line(1);
    let known = "images: load-0: writing set `train`: store: no room for `train/";
    assert!(line.starts_with(known) && line.contains("is free; "), "{line}");
    sandbox.assert_clean(&[]);
}

#[test]
fn a_pool_smaller_than_its_channels_is_refused_before_anything_starts() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["run", "images", "--memory", "2MiB"]);
    insta::assert_snapshot!(ended.line(1), @"images: channels together may hold 256 MiB, more than pool `data` with 2 MiB; raise the pool's capacity or lower the channels'");
    assert_eq!(sandbox.run_dirs().len(), 0);
}

#[test]
fn a_full_node_refuses_keeps_everything_and_takes_more_after_a_removal() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, "8MiB", &[]);
    let value = |number: u8| vec![number; 1 << 20];
    let mut stored = 0;
    let refused = loop {
        let file = sandbox.write("value", value(stored));
        let key = format!("key/{stored}");
        let ended = node.run(["put", &key, &file.display().to_string()]);
        match ended.code {
            Some(0) => stored += 1,
            _ => break ended,
        }
        assert!(stored < 9, "more than 8 MiB in 8 MiB");
    };
    assert!(stored >= 5, "{stored} values of 1 MiB in 8 MiB");
    let line = refused.line(1);
    assert!(line.contains(&format!("key/{stored}")), "{line}");
    assert!(line.contains("8 MiB") || line.contains("no room"), "{line}");
    for number in 0..stored {
        let got = node.run(["get", &format!("key/{number}")]);
        assert!(got.code == Some(0) && got.stdout == value(number), "key/{number}");
    }
    assert_eq!(node.run(["rm", "key/0"]).code, Some(0));
    let file = sandbox.write("value", value(stored));
    let again = node.run(["put", &format!("key/{stored}"), &file.display().to_string()]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let got = node.run(["get", &format!("key/{stored}")]);
    assert!(got.stdout == value(stored));
}
