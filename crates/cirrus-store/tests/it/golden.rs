//! The bytes of every frame, frozen.
//!
//! `tests/golden/NAME.bin` holds a frame, `index.txt` all of them in hex. With
//! `CIRRUS_WRITE_GOLDEN=1` missing files are written; no file is ever changed.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use cirrus_store::table::{Step, Stepped};
use cirrus_store::wire::{
    ClientHello, Condition, Delivery, Fault, Limits, Page, PageItem, Reply, Request, SHARED_MEMORY,
    ServerHello, Status, Write, encode_frame,
};
use cirrus_store::{Kind, Sums, Version};

use crate::raw::parse;
use crate::rig::{bytes, key};

const KINDS: [Kind; 15] = [
    Kind::NotFound,
    Kind::OutOfMemory,
    Kind::TooLarge,
    Kind::WrongVersion,
    Kind::WrongType,
    Kind::Moved,
    Kind::Busy,
    Kind::Timeout,
    Kind::Unknown,
    Kind::Unauthorized,
    Kind::Corrupt,
    Kind::Closed,
    Kind::Protocol,
    Kind::Invalid,
    Kind::Io,
];

const REQUEST_ID: u64 = 0x0102_0304_0506_0708;
const EPOCH: u32 = 0x0A0B_0C0D;

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn write(sequence: u64, retry: bool) -> Write {
    Write { sequence, acknowledged: sequence - 2, retry }
}

fn put(name: &str, value: &[u8], condition: Condition) -> Request {
    let (value, sums) = (Bytes::copy_from_slice(value), Sums::of(0, value));
    let (key, write) = (key(name), write(9, false));
    Request::Put { key, write, condition, expires_at: 1_800_000_000_000, value, sums }
}

fn get(name: &str) -> Request {
    Request::Get {
        key: key(name),
        offset: 65_000,
        len: u64::MAX,
        newer_than: Version(7),
        inline_bytes_max: 65_536,
        delivery: Delivery::Inline,
    }
}

fn get_by(delivery: Delivery) -> Request {
    let mut request = get("{tag}/key");
    if let Request::Get { delivery: by, .. } = &mut request {
        *by = delivery;
    }
    request
}

fn step() -> Request {
    let step = Step {
        generation: 3,
        worker: 0x1122_3344_5566_7788,
        clock: 41,
        read_for: 42,
        split: 7,
        minibatch: 5,
        rate: 0.125,
        pushes: true,
        half: true,
        pushed: 1,
        pushes_all: false,
        wanted: 10,
        wants_all: true,
        timeout_ms: 1_000,
    };
    Request::Step {
        table: key("model"),
        step,
        payload: Bytes::from_static(&[9, 0, 0, 0, 0x80, 0x3F]),
    }
}

fn requests() -> Vec<(&'static str, Request)> {
    let value = Bytes::from_static(b"first in, first out");
    let (always, key) = (Condition::Always, key("k"));
    let push = Request::Push {
        key: key.clone(),
        write: write(5, true),
        queue_bytes_max: 1 << 20,
        sums: Sums::of(0, &value),
        value,
    };
    let pop = Request::Pop { key: key.clone(), write: write(6, false) };
    let add = Request::Add { key: key.clone(), write: write(4, true), delta: -12 };
    let delete =
        |condition| Request::Delete { key: key.clone(), write: write(3, false), condition };
    let stat = Request::Stat { key: key.clone() };
    let items = vec![
        get("a"),
        put("b", b"value", always),
        delete(always),
        stat.clone(),
        add.clone(),
        push.clone(),
        pop.clone(),
    ];
    let scan =
        Request::Scan { prefix: Bytes::from_static(b"run/"), slot: 77, hash: 1 << 60, limit: 100 };
    vec![
        ("request-ping", Request::Ping),
        ("request-get", get("{tag}/key")),
        ("request-put", put("k", b"the value", always)),
        ("request-put-empty", put("k", b"", always)),
        ("request-put-if-absent", put("k", b"the value", Condition::IfAbsent)),
        ("request-put-if-version", put("k", b"v", Condition::IfVersion(Version(41)))),
        ("request-put-two-blocks", put("k", &bytes(65_540, 1), always)),
        ("request-delete", delete(always)),
        ("request-delete-if-version", delete(Condition::IfVersion(Version(41)))),
        ("request-stat", stat),
        ("request-batch", Request::Batch(items)),
        ("request-scan", scan),
        (
            "request-wait",
            Request::Wait { key: key.clone(), newer_than: Version(3), timeout_ms: 500 },
        ),
        ("request-add", add),
        ("request-push", push),
        ("request-pop", pop),
        ("request-stats", Request::Stats),
        ("request-get-place", get_by(Delivery::Place)),
        ("request-get-place-summed", get_by(Delivery::SummedPlace)),
        ("request-unpin", Request::Unpin(vec![1, 77, 1 << 40])),
        ("request-step", step()),
        (
            "request-call",
            Request::Call { table: key.clone(), call: Bytes::from_static(b"\"stand\"") },
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a list of frames")]
fn replies() -> Vec<(String, Reply)> {
    let version = Version((3 << 40) + 5);
    let whole = Bytes::from_static(b"the value");
    let long = bytes(65_540, 1);
    let range = Bytes::copy_from_slice(&long[65_000..]);
    let value = Reply::Value {
        version,
        size: 9,
        offset: 0,
        expires_at: 0,
        modified_at: 0,
        sums: Sums::of(0, &whole),
        value: whole.clone(),
    };
    let ranged = Reply::Value {
        version,
        size: 65_540,
        offset: 65_000,
        expires_at: 1_800_000_000_000,
        modified_at: 0,
        sums: Sums::of(65_000, &range),
        value: range,
    };
    let popped = Reply::Popped { version, items: 2, sums: Sums::of(0, &whole), value: whole };
    let stat = |expires_at, modified_at, queue| Reply::Stat {
        version,
        size: 9,
        expires_at,
        modified_at,
        queue,
    };
    let item = |name, modified_at, queue| PageItem {
        key: key(name),
        version,
        size: 9,
        modified_at,
        queue,
    };
    let items = vec![item("run/a", 0, false), item("run/b", 0, true)];
    // As of a node that says when objects were last written.
    let written_at = 1_790_000_000_123;
    let timed = vec![item("run/a", written_at, false), item("run/b", written_at + 1, true)];
    let mut timed_value = value.clone();
    if let Reply::Value { modified_at, .. } = &mut timed_value {
        *modified_at = written_at;
    }
    let placed = |sums| Reply::Placed {
        version,
        size: 65_540,
        offset: 65_000,
        expires_at: 1_800_000_000_000,
        modified_at: written_at,
        place: 5 * 4096 + 65_000,
        len: 540,
        pin: 77,
        sums,
    };
    let fault = Reply::Failed(Fault { kind: Kind::OutOfMemory, detail: 4096 });
    let deferred = Reply::Deferred { version, size: 1 << 20 };
    let batch = vec![value.clone(), fault, deferred.clone(), Reply::Written { version }];
    let mut replies: Vec<(String, Reply)> = [
        ("pong", Reply::Pong),
        ("value", value),
        ("value-range", ranged),
        ("not-modified", Reply::NotModified { version }),
        ("deferred", deferred),
        ("written", Reply::Written { version }),
        ("deleted", Reply::Deleted { version }),
        ("stat", stat(7, 0, false)),
        ("stat-queue", stat(0, 0, true)),
        ("batch", Reply::Batch(batch)),
        ("page", Reply::Page(Page { items, next: (77, 1 << 60) })),
        ("page-last", Reply::Page(Page { items: Vec::new(), next: (16_384, 0) })),
        ("added", Reply::Added { version, value: -12 }),
        ("pushed", Reply::Pushed { version, items: 3 }),
        ("popped", popped),
        ("stat-modified", stat(7, written_at, false)),
        ("value-modified", timed_value),
        ("page-modified", Reply::Page(Page { items: timed, next: (77, 1 << 60) })),
        ("placed", placed(Sums::default())),
        ("placed-summed", placed(Sums::of(65_000, &long[65_000..]))),
        ("stats", Reply::Stats(Bytes::from_static(b"{\"objects\":1}"))),
        (
            "stepped",
            Reply::Stepped {
                stepped: Stepped { slowest: 40, repeated: true },
                values: Bytes::from_static(&[0, 0, 0x80, 0x3F]),
            },
        ),
        ("stood", Reply::Stood(Bytes::from_static(b"{\"generation\":1}"))),
    ]
    .into_iter()
    .map(|(name, reply)| (format!("reply-{name}"), reply))
    .collect();
    for kind in KINDS {
        let name = format!("fault-{:02}-{kind:?}", Status::Failed(kind).code());
        replies.push((name, Reply::Failed(Fault { kind, detail: 0x1122_3344 })));
    }
    replies
}

fn client_hellos() -> Vec<(&'static str, ClientHello)> {
    let hello = ClientHello {
        version_max: 1,
        version_min: 1,
        features: 0,
        session: 0x1111_2222_3333_4444,
        incarnation: 0,
        epoch: 0,
        token: "".into(),
    };
    let token = "a secret".into();
    let shares = ClientHello { features: SHARED_MEMORY, ..hello.clone() };
    vec![
        ("hello-client", hello.clone()),
        ("hello-client-token", ClientHello { token, ..hello }),
        ("hello-client-shared-memory", shares),
    ]
}

fn server_hellos() -> Vec<(&'static str, ServerHello)> {
    let hello = ServerHello {
        version: 1,
        status: Status::Ok,
        features: 0,
        session_life: 5,
        incarnation: 0x5555_6666_7777_8888,
        epoch: 3,
        limits: Limits::default(),
    };
    let status = Status::Failed(Kind::Unauthorized);
    let refused = ServerHello { status, session_life: 0, ..hello.clone() };
    let shares = ServerHello { features: SHARED_MEMORY, ..hello.clone() };
    vec![
        ("hello-server", hello),
        ("hello-server-unauthorized", refused),
        ("hello-server-shared-memory", shares),
    ]
}

/// Every frame by its name.
fn frames() -> Vec<(String, BytesMut)> {
    let mut frames = Vec::new();
    for (name, hello) in client_hellos() {
        let mut bytes = BytesMut::new();
        hello.put(&mut bytes);
        frames.push((name.to_owned(), bytes));
    }
    for (name, hello) in server_hellos() {
        let mut bytes = BytesMut::new();
        hello.put(&mut bytes);
        frames.push((name.to_owned(), bytes));
    }
    for (name, request) in requests() {
        let mut bytes = BytesMut::new();
        encode_frame(&request.to_part(), REQUEST_ID, EPOCH, &mut bytes);
        frames.push((name.to_owned(), bytes));
    }
    for (name, reply) in replies() {
        let mut bytes = BytesMut::new();
        encode_frame(&reply.to_part(), REQUEST_ID, EPOCH, &mut bytes);
        frames.push((name, bytes));
    }
    frames
}

/// The bytes in rows of 16, the long middle of a payload left out.
fn listing(name: &str, bytes: &[u8]) -> String {
    const ROWS_MAX: usize = 40;
    let mut text = format!("{name} ({} bytes)\n", bytes.len());
    for (row, chunk) in bytes.chunks(16).enumerate() {
        if row == ROWS_MAX {
            text.push_str("  ...\n");
            break;
        }
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown: String = chunk
            .iter()
            .map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' })
            .collect();
        writeln!(text, "  {:04x}  {:<47}  {shown}", row * 16, hex.join(" ")).unwrap();
    }
    text
}

#[test]
fn every_frame_is_the_golden_one() {
    let writing = std::env::var_os("CIRRUS_WRITE_GOLDEN").is_some();
    let mut index = String::new();
    for (name, bytes) in frames() {
        let path = folder().join(format!("{name}.bin"));
        if writing && !path.exists() {
            fs::write(&path, &bytes).unwrap();
        }
        let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(golden == bytes[..], "{name} has changed:\n{}", listing(&name, &bytes));
        index.push_str(&listing(&name, &bytes));
        index.push('\n');
    }
    let path = folder().join("index.txt");
    if writing && !path.exists() {
        fs::write(&path, &index).unwrap();
    }
    // Frames are only added: the listing follows from the files.
    assert_eq!(fs::read_to_string(path).unwrap(), index, "remove index.txt and write it again");
}

#[test]
fn every_golden_frame_is_read_back() {
    let read = |name: &str| fs::read(folder().join(format!("{name}.bin"))).unwrap();
    for (name, hello) in client_hellos() {
        let golden = ClientHello::take(&mut BytesMut::from(&read(name)[..])).unwrap();
        assert_eq!(golden, Some(hello), "{name}");
    }
    for (name, hello) in server_hellos() {
        let golden = ServerHello::take(&mut BytesMut::from(&read(name)[..])).unwrap();
        assert_eq!(golden, Some(hello), "{name}");
    }
    for (name, request) in requests() {
        let (head, part) = parse(&read(name)).unwrap().unwrap();
        assert_eq!((head.request_id, head.epoch), (REQUEST_ID, EPOCH));
        assert_eq!(Request::from_part(part).unwrap(), request, "{name}");
    }
    for (name, reply) in replies() {
        let (_, part) = parse(&read(&name)).unwrap().unwrap();
        assert_eq!(Reply::from_part(part).unwrap(), reply, "{name}");
    }
}

#[test]
fn no_golden_file_is_without_its_frame() {
    let known: Vec<String> = frames().into_iter().map(|(name, _)| format!("{name}.bin")).collect();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "index.txt" || known.contains(&name), "{name}");
    }
}
