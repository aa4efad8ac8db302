//! Random commands to redis-server and to a node: the same bytes come back.
//!
//! docs/resp.md lists what differs and why; `Compared` is that list in code.

use cirrus_store::ByteSize;
use cirrus_store::segments::sim::SimDisk;

use super::client::{Redis, Wire, encoded};
use crate::rig::{Node, Random, options};

/// How a reply is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// Byte by byte.
    Exactly,
    /// Times: numbers that may differ by so much, because the servers' clocks are read one after
    /// the other.
    Within(i64),
    /// The order of names is the server's own.
    Unordered,
}

type Line = Vec<Vec<u8>>;

struct Streams {
    random: Random,
    /// Names of this stream.
    keys: u64,
}

impl Streams {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.random.below(from.len() as u64)).unwrap()]
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key:{}", self.random.below(self.keys)).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.below(12) {
            0 => Vec::new(),
            1..=4 => (self.random.below(2000).cast_signed() - 1000).to_string().into_bytes(),
            5 => self.pick(NUMBERS).as_bytes().to_vec(),
            6 => vec![self.random.byte(); usize::try_from(self.random.below(70_000)).unwrap()],
            _ => (0..self.random.below(40)).map(|_| self.random.byte()).collect(),
        }
    }

    fn number(&mut self) -> Vec<u8> {
        match self.random.below(4) {
            0 => self.pick(NUMBERS).as_bytes().to_vec(),
            _ => (self.random.below(40).cast_signed() - 20).to_string().into_bytes(),
        }
    }

    /// An end or a time to live: far away, past, or no number.
    fn time(&mut self, command: &str) -> Vec<u8> {
        let far: i64 = if command.ends_with("at") { 4_000_000_000 } else { 100_000 };
        let far = if command.starts_with('p') { far * 1000 } else { far };
        match self.random.below(8) {
            0 => self.pick(NUMBERS).as_bytes().to_vec(),
            1 => b"-1".to_vec(),
            // SET keeps what has ended, and DBSIZE counts it until somebody looks.
            2 if command.ends_with("at") && command.len() > 3 => b"1".to_vec(),
            _ => (far + self.random.below(9).cast_signed()).to_string().into_bytes(),
        }
    }

    /// Words in any case.
    fn word(&mut self, from: &[&str]) -> Vec<u8> {
        let word = self.pick(from);
        let upper = self.random.below(2) == 0;
        if upper { word.to_ascii_uppercase().into_bytes() } else { word.as_bytes().to_vec() }
    }

    fn command(&mut self) -> (Line, Compared) {
        let (mut line, compared) = match self.random.below(10) {
            0..=3 => self.on_strings(),
            4 => self.on_numbers(),
            5..=6 => self.on_lists(),
            7..=8 => self.on_keys(),
            _ => (self.on_connection(), Compared::Exactly),
        };
        // Too few arguments, too many, or another's.
        match self.random.below(40) {
            0 if line.len() > 1 => drop(line.pop()),
            // What stands last in a blocking pop says how long it waits.
            1 if !matches!(&*line[0].to_ascii_lowercase(), b"blpop" | b"brpop") => {
                let more = self.value();
                line.push(more);
            }
            2 => {
                let other = self.word(&["nothing", "getx", "", "SET\r\nx", "client|id", "client|"]);
                line[0] = other;
            }
            _ => {}
        }
        // What waits for ever would hold the stream up, and time needs its own comparison.
        let name = String::from_utf8_lossy(&line[0]).to_ascii_lowercase();
        let compared = match name.as_str() {
            "ttl" => Compared::Within(1),
            "pttl" | "pexpiretime" => Compared::Within(5_000),
            "expiretime" => Compared::Within(5),
            "scan" => Compared::Unordered,
            _ => compared,
        };
        (line, compared)
    }

    fn on_strings(&mut self) -> (Line, Compared) {
        let (key, value) = (self.key(), self.value());
        let name = self.word(STRINGS);
        let mut line = vec![name.clone(), key];
        match name.to_ascii_lowercase().as_slice() {
            b"get" | b"getdel" | b"strlen" => {}
            b"set" => {
                line.push(value);
                for _ in 0..self.random.below(3) {
                    let option = self.word(SET_OPTIONS);
                    let takes = [&b"ex"[..], b"px", b"exat", b"pxat"];
                    let lower = option.to_ascii_lowercase();
                    line.push(option);
                    if takes.contains(&lower.as_slice()) {
                        let command = format!("{}at", if lower[0] == b'p' { "p" } else { "" });
                        let command = if lower.ends_with(b"at") { command.as_str() } else { "x" };
                        let time = self.time(command);
                        line.push(time);
                    }
                }
            }
            b"getex" => {
                if self.random.below(2) == 0 {
                    let option = self.word(&["persist", "exat", "pxat", "ex", "px"]);
                    let lower = option.to_ascii_lowercase();
                    line.push(option);
                    if lower != b"persist" {
                        let time = self.time(if lower.ends_with(b"at") { "pxat" } else { "x" });
                        line.push(time);
                    }
                }
            }
            b"setex" | b"psetex" => {
                let time = self.time("x");
                line.extend([time, value]);
            }
            b"mget" => {
                for _ in 0..self.random.below(4) {
                    let key = self.key();
                    line.push(key);
                }
            }
            b"mset" | b"msetnx" => {
                line.push(value);
                for _ in 0..self.random.below(3) {
                    let pair = [self.key(), self.value()];
                    line.extend(pair);
                }
            }
            b"getrange" | b"substr" => {
                let range = [self.number(), self.number()];
                line.extend(range);
            }
            b"setrange" => {
                let offset = self.number();
                line.extend([offset, value]);
            }
            _ => line.push(value),
        }
        (line, Compared::Exactly)
    }

    fn on_numbers(&mut self) -> (Line, Compared) {
        let name = self.word(&["incr", "decr", "incrby", "decrby", "incrbyfloat"]);
        let takes = name.to_ascii_lowercase().len() > 4;
        let mut line = vec![name, self.key()];
        if takes {
            let number = self.number();
            line.push(number);
        }
        (line, Compared::Exactly)
    }

    fn on_lists(&mut self) -> (Line, Compared) {
        let name = self.word(LISTS);
        let mut line = vec![name.clone(), self.key()];
        match name.to_ascii_lowercase().as_slice() {
            b"llen" => {}
            b"lpop" | b"rpop" => {
                if self.random.below(2) == 0 {
                    let count = self.number();
                    line.push(count);
                }
            }
            b"lrange" => {
                let range = [self.number(), self.number()];
                line.extend(range);
            }
            b"lindex" => {
                let index = self.number();
                line.push(index);
            }
            // Short: most lists are empty.
            b"blpop" | b"brpop" => line.push(self.word(&["0.001", "-1", "x", "1e-3", "inf"])),
            _ => {
                for _ in 0..=self.random.below(3) {
                    let value = self.value();
                    line.push(value);
                }
            }
        }
        (line, Compared::Exactly)
    }

    fn on_keys(&mut self) -> (Line, Compared) {
        let name = self.word(KEYS);
        let lower = String::from_utf8(name.to_ascii_lowercase()).unwrap();
        let mut line = vec![name];
        let mut compared = Compared::Exactly;
        match lower.as_str() {
            "dbsize" => {}
            "keys" => {
                line.push(self.word(&["*", "key:?", "key:[1-3]", "*2", "nothing*"]));
                compared = Compared::Unordered;
            }
            "del" | "unlink" | "exists" | "touch" => {
                for _ in 0..=self.random.below(3) {
                    let key = self.key();
                    line.push(key);
                }
            }
            "rename" | "renamenx" => line.extend([self.key(), self.key()]),
            "expire" | "pexpire" | "expireat" | "pexpireat" => {
                line.extend([self.key(), self.time(&lower)]);
                for _ in 0..self.random.below(3) {
                    let option = self.word(&["nx", "xx", "gt", "lt", "other"]);
                    line.push(option);
                }
                // Nearly the same time to live, counted from two clocks.
                if !lower.ends_with("at") && line.len() > 3 {
                    line.truncate(3);
                }
            }
            _ => line.push(self.key()),
        }
        (line, compared)
    }

    fn on_connection(&mut self) -> Line {
        let line = self.pick(&[
            "ping",
            "ping hello",
            "echo hello",
            "select 0",
            "select 1",
            "select x",
            "client getname",
            "client setname me",
            "client nothing",
            "client",
            "client reply maybe",
            "client no-evict on",
            "client no-evict what",
            "config get save",
            "config set nothing 1",
            "config set databases 2",
            "config nothing",
            "cluster info",
            "cluster nothing",
            "hello 4 x y",
            "hello x y z",
            "hello 3 what else",
            "auth",
            "auth x",
            "auth a b",
            "auth a b c",
            "command getkeys get a",
            "command getkeys mset a b c d",
            "command getkeys ping",
            "command getkeys nothing",
            "command getkeys get",
            "command info nothing other",
            "command nothing x",
            "scan x",
            "scan 0 count 0",
            "scan 0 count x",
            "scan 0 match",
            "scan 0 nothing",
            "lpop",
            "memory usage nothing",
            "memory nothing",
            "flushall x",
            "client kill 1.2.3.4:5",
            "client kill id x",
            "client list type x",
            "client setname a\x01b",
            "client list id x",
        ]);
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }
}

const NUMBERS: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1.5",
    "-0",
    "00",
    "abc",
    "3.0e3",
    "1e-10",
    "0x1f",
    "inf",
    "nan",
    "0.1",
    "-17.25",
    "1e17",
    "123456789012345678901234",
    "1e300",
    " 1",
    "5 ",
    "+5",
    "",
];
const STRINGS: &[&str] = &[
    "get", "get", "set", "set", "set", "getdel", "getex", "getset", "setnx", "setex", "psetex",
    "mget", "mset", "msetnx", "getrange", "substr", "strlen", "append", "setrange",
];
const SET_OPTIONS: &[&str] = &["nx", "xx", "get", "ex", "px", "exat", "pxat", "keepttl", "what"];
const LISTS: &[&str] = &[
    "lpush", "rpush", "lpush", "rpush", "lpushx", "rpushx", "lpop", "rpop", "llen", "lrange",
    "lindex", "blpop", "brpop",
];
const KEYS: &[&str] = &[
    "del",
    "unlink",
    "exists",
    "touch",
    "type",
    "keys",
    "dbsize",
    "rename",
    "renamenx",
    "expire",
    "pexpire",
    "expireat",
    "pexpireat",
    "ttl",
    "pttl",
    "expiretime",
    "pexpiretime",
    "persist",
];

/// Whether two replies are equal in the way that they are compared.
fn same(ours: &[u8], theirs: &[u8], compared: Compared) -> bool {
    match compared {
        _ if ours == theirs => true,
        Compared::Exactly => false,
        Compared::Within(most) => {
            let number = |reply: &[u8]| {
                let text = std::str::from_utf8(reply).ok()?.strip_prefix(':')?;
                text.trim_end().parse::<i64>().ok()
            };
            let (ours, theirs) = (number(ours), number(theirs));
            ours.zip(theirs).is_some_and(|(ours, theirs)| {
                ours >= 0 && theirs >= 0 && (ours - theirs).abs() <= most
            })
        }
        Compared::Unordered => {
            let sorted = |reply: &[u8]| {
                let mut lines: Vec<_> = reply.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                lines.sort();
                lines
            };
            sorted(ours) == sorted(theirs)
        }
    }
}

/// Lists are not renamed here, and keys have lengths.
fn is_exception(ours: &[u8]) -> bool {
    ours.starts_with(b"-ERR a list cannot be renamed here")
        || ours.starts_with(b"-ERR a key has 1 to 1024 bytes here")
}

fn compare(seed: u64, commands: u64, resp3: bool, mut ours: Wire, mut theirs: Wire) -> Vec<String> {
    let mut streams = Streams { random: Random(seed), keys: 6 };
    if resp3 {
        for wire in [&mut ours, &mut theirs] {
            assert!(wire.call(&["HELLO", "3"]).starts_with(b"%7"));
        }
    }
    let (mut sent, mut wrong, mut told) = (0, Vec::new(), Vec::new());
    while sent < commands {
        // Some at a time: what one read brings is answered by one write.
        let batch: Vec<(Line, Compared)> =
            (0..=streams.random.below(20)).map(|_| streams.command()).collect();
        let bytes: Vec<u8> = batch.iter().flat_map(|(line, _)| encoded(line)).collect();
        ours.send_raw(&bytes);
        theirs.send_raw(&bytes);
        let mut is_apart = false;
        for (line, compared) in batch {
            let (our, their) = (ours.reply(), theirs.reply());
            sent += 1;
            let shown: Vec<String> = line.iter().map(|argument| short(argument)).collect();
            told.push(format!("{shown:?} {}", short(&their)));
            is_apart |= is_exception(&our);
            if is_apart || same(&our, &their, compared) {
                continue;
            }
            is_apart = true;
            let key = shown.get(1).map_or("", String::as_str);
            let before = told.iter().rev().filter(|line| line.contains(key)).take(10);
            let before = before.cloned().collect::<Vec<_>>().join("\n");
            wrong.push(format!("  ours: {}\n  latest first:\n{before}", short(&our)));
        }
        // Where replies differed objects may: both forget them.
        if is_apart {
            for wire in [&mut ours, &mut theirs] {
                wire.call(&["FLUSHALL"]);
            }
        }
    }
    wrong
}

fn short(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(80)].escape_ascii().to_string()
}

async fn run(seeds: std::ops::Range<u64>, resp3: bool) {
    let node = Node::tcp(options(ByteSize::new(256 << 20))).await;
    run_on(node, seeds, resp3).await;
}

async fn run_on(node: Node, seeds: std::ops::Range<u64>, resp3: bool) {
    let address = node.address.clone();
    tokio::task::spawn_blocking(move || {
        let redis = Redis::start(&["--databases", "1"]);
        for seed in seeds {
            for wire in [&mut Wire::tcp(&address), &mut redis.wire()] {
                assert_eq!(wire.call(&["FLUSHALL"]), b"+OK\r\n");
            }
            let wrong = compare(seed, 2_000, resp3, Wire::tcp(&address), redis.wire());
            let first = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
            assert!(wrong.is_empty(), "seed {seed}: {} differ\n{first}", wrong.len());
        }
    })
    .await
    .unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_commands_are_answered_as_by_redis() {
    run(0..10, false).await;
}

/// With less memory than the stream's values take, and a disk behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_commands_are_answered_as_by_redis_on_a_storage_node() {
    let node = Node::storage(options(ByteSize::mib(16)), SimDisk::default()).await;
    run_on(node, 200..204, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_commands_are_answered_as_by_redis_in_resp3() {
    run(100..110, true).await;
}

/// Flags, categories, tips and key specifications of every command that is here, subcommands of
/// containers apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_command_is_what_redis_says() {
    let node = Node::tcp(options(ByteSize::new(64 << 20))).await;
    let address = node.address.clone();
    let compare = move || {
        let redis = Redis::start(&[]);
        let (mut ours, mut theirs) = (Wire::tcp(&address), redis.wire());
        let list = ours.text(&["command", "list"]);
        let names: Vec<&str> = list.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
        assert!(names.len() > 60, "{names:?}");
        for version in ["2", "3"] {
            for wire in [&mut ours, &mut theirs] {
                wire.call(&["hello", version]);
            }
            for name in &names {
                if ["client", "cluster", "command", "config", "memory"].contains(name) {
                    continue;
                }
                let [ours, theirs] = [&mut ours, &mut theirs]
                    .map(|wire| wire.call(&["command", "info", name]).escape_ascii().to_string());
                assert_eq!(ours, theirs, "{name}");
            }
        }
    };
    tokio::task::spawn_blocking(compare).await.unwrap();
    node.stop().await;
}
