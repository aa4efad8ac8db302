//! Programs that people have, unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;

use cirrus_store::ByteSize;
use cirrus_store::server::NodeOptions;
use cirrus_store::view::{NodeId, SlotRange, View, ViewNode};

use super::client::Wire;
use crate::rig::{Node, options};

fn node_options() -> NodeOptions {
    options(ByteSize::new(256 << 20))
}

/// Runs a program to its end; what it printed.
async fn run(program: impl Into<PathBuf>, arguments: Vec<String>) -> String {
    let program = program.into();
    let ended = tokio::task::spawn_blocking(move || {
        let output = Command::new(&program).args(&arguments).output();
        let output = output.unwrap_or_else(|error| {
            panic!("{}: {error}; `make tools` installs it", program.display())
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{errors}");
        text + &errors
    });
    ended.await.unwrap()
}

fn host_and_port(node: &Node) -> (String, String) {
    let (host, port) = node.address.rsplit_once(':').unwrap();
    (host.to_owned(), port.to_owned())
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cli() {
    let mut options = node_options();
    options.token = "secret".into();
    let node = Node::tcp(options).await;
    let (host, port) = host_and_port(&node);
    for (line, expected) in [
        ("set greeting hello", "OK\n"),
        ("get greeting", "hello\n"),
        ("-3 config get save", "save \n"),
        ("--scan --pattern gree*", "greeting\n"),
        ("rpush list a b", "2\n"),
        ("blpop list 1", "list\na\n"),
        ("incrbyfloat pi 3.14", "3.14\n"),
    ] {
        let arguments = words(&format!("--no-auth-warning -h {host} -p {port} -a secret {line}"));
        assert_eq!(run("redis-cli", arguments).await, expected, "{line}");
    }
    let without = run("redis-cli", words(&format!("-h {host} -p {port} get greeting"))).await;
    assert!(without.contains("NOAUTH"), "{without}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_benchmark() {
    let node = Node::tcp(node_options()).await;
    let (host, port) = host_and_port(&node);
    let arguments = format!(
        "-h {host} -p {port} -q -n 2000 -P 16 -c 20 -t ping,set,get,incr,lpush,rpush,lpop,rpop,mset"
    );
    let text = run("redis-benchmark", words(&arguments)).await;
    assert_eq!(text.matches("requests per second").count(), 10, "{text}");
    assert!(!text.contains("Error"), "{text}");
    node.stop().await;
}

/// The interpreter of the environment that `make tools` makes.
fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join(".tools/redis-py/bin/python");
    assert!(python.exists(), "redis-py is needed: `make tools` installs it ({})", python.display());
    python
}

fn script() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/resp/clients.py");
    folder.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_py_in_both_dialects() {
    let node = Node::tcp(node_options()).await;
    let (host, port) = host_and_port(&node);
    for protocol in ["2", "3"] {
        let arguments = [&script(), protocol, &host, &port].map(ToString::to_string).to_vec();
        assert_eq!(run(python(), arguments).await, "ok\n", "RESP{protocol}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_pys_cluster() {
    let mut options = node_options();
    options.cluster = true;
    let nodes = [Node::tcp(options.clone()).await, Node::tcp(options).await];
    let id = |index: usize| NodeId(u16::try_from(index).unwrap());
    let view = View {
        epoch: 7,
        nodes: nodes
            .iter()
            .enumerate()
            .map(|(index, node)| ViewNode { id: id(index), address: node.address.clone() })
            .collect(),
        slots: vec![
            SlotRange { first: 0, last: 7_999, node: id(0) },
            SlotRange { first: 8_000, last: 16_383, node: id(1) },
        ],
    };
    for (index, node) in nodes.iter().enumerate() {
        node.handle.set_view(id(index), view.clone());
    }
    let (host, first) = host_and_port(&nodes[0]);
    let (_, second) = host_and_port(&nodes[1]);
    for protocol in ["2", "3"] {
        for node in &nodes {
            let address = node.address.clone();
            let flush = move || Wire::tcp(&address).text(&["flushall"]);
            assert_eq!(tokio::task::spawn_blocking(flush).await.unwrap(), "+OK\r\n");
        }
        let arguments = [&script(), protocol, &host, &first, &second];
        let arguments = arguments.map(ToString::to_string).to_vec();
        assert_eq!(run(python(), arguments).await, "ok\n", "RESP{protocol}");
    }
    // redis-cli follows as well.
    let arguments = words(&format!("-c -h {host} -p {second} mget {{t}}a {{t}}b"));
    assert_eq!(run("redis-cli", arguments).await, "1\n2\n");
    let [one, other] = nodes;
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_crate() {
    let node = Node::tcp(node_options()).await;
    let address = node.address.clone();
    let work = move || -> redis::RedisResult<()> {
        for protocol in ["resp2", "resp3"] {
            let client = redis::Client::open(format!("redis://{address}/?protocol={protocol}"))?;
            let mut connection = client.get_connection()?;
            redis::cmd("FLUSHALL").exec(&mut connection)?;
            redis::cmd("SET").arg("k").arg(7).exec(&mut connection)?;
            let sum: i64 = redis::cmd("INCRBY").arg("k").arg(35).query(&mut connection)?;
            assert_eq!(sum, 42);
            let mut pipe = redis::pipe();
            for index in 0..100 {
                pipe.cmd("SET").arg(format!("p:{index}")).arg(index).ignore();
            }
            pipe.cmd("MGET").arg("p:1").arg("nothing");
            let (found,): (Vec<Option<i64>>,) = pipe.query(&mut connection)?;
            assert_eq!(found, [Some(1), None]);
            redis::cmd("RPUSH").arg("q").arg("a").exec(&mut connection)?;
            let popped: Option<(String, String)> =
                redis::cmd("BLPOP").arg("q").arg(1).query(&mut connection)?;
            assert_eq!(popped, Some(("q".to_owned(), "a".to_owned())));
            let wrong: redis::RedisResult<i64> =
                redis::cmd("INCR").arg("p:x").arg("more").query(&mut connection);
            assert!(wrong.is_err());
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work).await.unwrap().unwrap();
    node.stop().await;
}
