//! What a RESP client may not do, and what breaks its connection: as redis-server answers.

use cirrus_store::ByteSize;
use cirrus_store::server::NodeOptions;

use super::client::{Redis, Wire, encoded};
use crate::rig::{Node, options, until};

async fn with_node(options: NodeOptions, test: impl FnOnce(&str) + Send + 'static) {
    let node = Node::tcp(options).await;
    let address = node.address.clone();
    tokio::task::spawn_blocking(move || test(&address)).await.unwrap();
    // What was admitted for connections that broke is given back.
    until("connections have ended", || node.handle.stats().connections == 0).await;
    node.stop().await;
}

fn mib(count: u64) -> ByteSize {
    ByteSize::new(count << 20)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_streams_end_with_the_words_of_redis() {
    with_node(options(mib(64)), |address| {
        let redis = Redis::start(&[]);
        let many = "x".repeat(70_000);
        let cases: Vec<Vec<u8>> = vec![
            b"*1\r\n:5\r\n".to_vec(),
            b"*1\r\n\r\n$4\r\nPING\r\n".to_vec(),
            b"*x\r\n".to_vec(),
            b"*2147483648\r\n".to_vec(),
            b"*1\r\n$-1\r\n".to_vec(),
            b"*1\r\n$x\r\n".to_vec(),
            b"*1\r\n$536870913\r\n".to_vec(),
            b"PING \"unbalanced\r\n".to_vec(),
            b"PING 'a'b\r\n".to_vec(),
            many.clone().into_bytes(),
            format!("*{many}").into_bytes(),
            format!("*1\r\n${many}").into_bytes(),
            b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n*1\r\n$x\r\n".to_vec(),
            b"POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"Host: x\r\n".to_vec(),
        ];
        for case in cases {
            let [ours, theirs] = [Wire::tcp(address), redis.wire()].map(|mut wire| {
                wire.send_raw(&case);
                wire.until_closed()
            });
            let shown = &case[..case.len().min(60)];
            assert_eq!(
                ours.escape_ascii().to_string(),
                theirs.escape_ascii().to_string(),
                "{}",
                shown.escape_ascii()
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_telnet_are_commands() {
    with_node(options(mib(64)), |address| {
        let redis = Redis::start(&[]);
        let lines = concat!(
            "set a 1\r\n",
            "\r\n",
            "  get   a  \n",
            "set b \"x\\x41\\n\\\"y\"\r\n",
            "get b\r\n",
            "set c 'it\\'s \\n'\r\n",
            "get c\r\n",
            "set d \"\"\r\n",
            "strlen d\r\n",
            "*0\r\n",
            "*-1\r\n",
            "ECHO a\"b\"\r\n",
            "nothing at 'all'\r\n",
            "ping\r\n",
        );
        let [ours, theirs] = [Wire::tcp(address), redis.wire()].map(|mut wire| {
            wire.send_raw(lines.as_bytes());
            (0..11).map(|_| wire.reply()).collect::<Vec<_>>()
        });
        assert_eq!(ours, theirs);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_the_default_users_password() {
    let mut options = options(mib(64));
    options.token = "secret".into();
    with_node(options, |address| {
        let redis = Redis::start(&["--requirepass", "secret"]);
        let commands: Vec<Vec<&str>> = [
            "ping",
            "get a",
            "nothing",
            "get",
            "hello",
            "hello 3",
            "auth wrong",
            "auth other secret",
            "auth default wrong",
            "hello 3 auth default wrong",
            "client id x",
            "reset",
            "auth secret",
            "set a 1",
            "get a",
            "reset",
            "get a",
            "hello 2 auth default secret setname me",
            "client getname",
            "quit",
        ]
        .iter()
        .map(|line| line.split(' ').collect())
        .collect();
        let [ours, theirs] = [Wire::tcp(address), redis.wire()]
            .map(|mut wire| commands.iter().map(|command| wire.call(command)).collect::<Vec<_>>());
        for ((command, ours), theirs) in commands.iter().zip(&ours).zip(&theirs) {
            // Of the reply to HELLO the version is equal, and the number of the client is its own.
            if command[0] == "hello" && ours.starts_with(b"*14") {
                assert_eq!(ours[..60], theirs[..60]);
                continue;
            }
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            assert_eq!(text(ours), text(theirs), "{command:?}");
        }
        // A stranger's lengths are believed less.
        let cases: [Vec<u8>; 2] = [b"*11\r\n".to_vec(), b"*2\r\n$4\r\nECHO\r\n$16385\r\n".to_vec()];
        for case in cases {
            let [ours, theirs] = [Wire::tcp(address), redis.wire()].map(|mut wire| {
                wire.send_raw(&case);
                wire.until_closed()
            });
            assert_eq!(ours, theirs, "{}", case.escape_ascii());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_room_is_refused_and_the_connection_goes_on() {
    with_node(options(mib(4)), |address| {
        let mut wire = Wire::tcp(address);
        let oom = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n".to_vec();
        let large = vec![7_u8; 8 << 20];
        let set =
            |key: &'static str, value: &'static [u8]| [b"set".to_vec(), key.into(), value.into()];
        assert_eq!(wire.call(&[b"set".to_vec(), b"k".to_vec(), large.clone()]), oom);
        assert_eq!(wire.call(&set("k", b"small")), b"+OK\r\n");
        // Many small arguments hold memory too.
        let mut line = vec![b"mset".to_vec()];
        for index in 0..4000 {
            line.extend([format!("k{index}").into_bytes(), vec![1; 12_000]]);
        }
        assert_eq!(wire.call(&line), oom);
        assert_eq!(wire.call(&["mget", "k", "k1"]), b"*2\r\n$5\r\nsmall\r\n$-1\r\n");
        // The purse of what is on its way may be empty before the node is full.
        let busy = b"-ERR too many large values are on their way; try again\r\n".to_vec();
        let is_refused = |reply: Vec<u8>| reply == oom || reply == busy;
        // A large argument after which the rest is refused as well.
        let line = [b"mset".to_vec(), b"a".to_vec(), vec![1; 1 << 20], b"b".to_vec(), large];
        assert!(is_refused(wire.call(&line)));
        assert_eq!(wire.text(&["exists", "a", "b"]), ":0\r\n");
        // All of an append or none of it. What is appended and what comes of it are both held.
        let append = |bytes: usize| [b"append".to_vec(), b"k".to_vec(), vec![0; bytes]];
        assert_eq!(wire.call(&append(1 << 20)), b":1048581\r\n");
        assert!(is_refused(wire.call(&append(2 << 20))));
        assert_eq!(wire.text(&["strlen", "k"]), ":1048581\r\n");
        // A push of several items leaves none when one has no room.
        let mut line = vec![b"rpush".to_vec(), b"list".to_vec(), b"first".to_vec()];
        line.extend(vec![vec![1_u8; 1 << 20]; 3]);
        assert!(is_refused(wire.call(&line)));
        assert_eq!(wire.text(&["exists", "list"]), ":0\r\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_have_limits_here() {
    with_node(options(mib(64)), |address| {
        let mut wire = Wire::tcp(address);
        let longest = "k".repeat(1024);
        assert_eq!(wire.text(&["set", &longest, "v"]), "+OK\r\n");
        assert_eq!(wire.text(&["get", &longest]), "$1\r\nv\r\n");
        for key in ["", &"k".repeat(1025), &"k".repeat(100_000)] {
            let refused = "-ERR a key has 1 to 1024 bytes here; see docs/resp.md\r\n";
            for command in [vec!["set", key, "v"], vec!["get", key], vec!["mget", "a", key]] {
                assert_eq!(wire.text(&command), refused);
            }
        }
        assert_eq!(wire.text(&["ping"]), "+PONG\r\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_any_length_come_back_however_they_are_cut() {
    with_node(options(mib(256)), |address| {
        for len in [0, 1, 16_383, 16_384, 16_385, 65_536, 1 << 20, 9 << 20] {
            let value = crate::rig::bytes(len, 5);
            let set = encoded(&[b"set".to_vec(), b"key".to_vec(), value.clone()]);
            let mut wire = Wire::tcp(address);
            // Several behind each other, cut where a length, a value or an end is.
            for cut in [set.len(), set.len() - 1, set.len() - 2, set.len() - 3, 10, 30] {
                let cut = cut.min(set.len());
                wire.send_raw(&set[..cut]);
                wire.send_raw(&[&set[cut..], &encoded(&["get", "key"])[..]].concat());
                assert_eq!(wire.reply(), b"+OK\r\n");
                let expected = [format!("${len}\r\n").as_bytes(), &value, b"\r\n"].concat();
                assert_eq!(wire.reply(), expected, "{len} bytes cut at {cut}");
            }
        }
    })
    .await;
}
