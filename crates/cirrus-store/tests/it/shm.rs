//! Values that are read where they lie in the memory of a node of the same host.

#![expect(unsafe_code, reason = "a node's socket is closed under it")]

use std::collections::VecDeque;
use std::io::{IoSlice, Read as _, Write as _};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cirrus_store::cache::{Cache, CacheOptions};
use cirrus_store::transport::Endpoint;
use cirrus_store::wire::{
    ClientHello, Condition, Delivery, Head, HeadLimits, Limits, Part, Reply, Request,
    SHARED_MEMORY, ServerHello, Status, VERSION, Write, encode_frame,
};
use cirrus_store::{ByteSize, Client, ClientOptions, Kind, Sums, Version};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, getsockname, recvmsg, sendmsg,
    shutdown,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::raw::{Raw, hello};
use crate::rig::{Node, Random, bytes, key, options, until};

const MIB: usize = 1 << 20;

/// The name of the node's socket for this host.
fn socket_name(node: &Node) -> String {
    let port = node.address.rsplit_once(':').unwrap().1;
    format!("cirrus-{:016x}-{port}", node.handle.incarnation())
}

fn near(node: &Node) -> Endpoint {
    Endpoint::Shm(format!("\0{}", socket_name(node)))
}

fn pinned(node: &Node) -> u64 {
    node.handle.stats().pinned_bytes
}

async fn nothing_is_pinned(node: &Node) {
    until("nothing is pinned", || pinned(node) == 0).await;
}

fn get(name: &str, delivery: Delivery, inline_bytes_max: u32) -> Request {
    let (key, offset, len, newer_than) = (key(name), 0, u64::MAX, Version(0));
    Request::Get { key, offset, len, newer_than, inline_bytes_max, delivery }
}

#[tokio::test]
async fn large_values_are_pinned_while_they_are_held_and_small_ones_are_not() {
    let node = Node::shm(options(ByteSize::mib(256))).await;
    let client = node.client();
    let (large, small) = (Bytes::from(bytes(5 * MIB, 1)), Bytes::from(bytes(16_384, 2)));
    client.put(&key("large"), large.clone()).await.unwrap();
    client.put(&key("small"), small.clone()).await.unwrap();
    assert_eq!(client.get(&key("small")).await.unwrap().value, small);
    assert_eq!(pinned(&node), 0);
    let held = client.get(&key("large")).await.unwrap().value;
    assert!(held == large);
    assert_eq!(pinned(&node), 5 * MIB as u64);
    let range = client.get_range(&key("large"), 70_000, 100_000).await.unwrap().value;
    assert!(range == large[70_000..170_000]);
    assert_eq!(pinned(&node), 10 * MIB as u64, "a part holds all of the value");
    let part = held.slice(7..9);
    drop((held, range));
    until("a part still holds it", || pinned(&node) == 5 * MIB as u64).await;
    drop(part);
    nothing_is_pinned(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn a_cache_holds_copies() {
    let node = Node::shm(options(ByteSize::mib(256))).await;
    let value = Bytes::from(bytes(5 * MIB, 1));
    node.client().put(&key("k"), value.clone()).await.unwrap();
    let cache = Cache::new(node.client(), ByteSize::mib(16), CacheOptions::default());
    for _ in 0..2 {
        assert!(cache.get(&key("k")).await.unwrap().value == value);
    }
    assert_eq!((cache.counters().hits, cache.counters().entries), (1, 1));
    nothing_is_pinned(&node).await;
    // What it does not keep it need not copy.
    let small = Cache::new(node.client(), ByteSize::mib(1), CacheOptions::default());
    let passed_on = small.get(&key("k")).await.unwrap().value;
    assert_eq!((pinned(&node), small.counters().not_kept), (5 * MIB as u64, 1));
    // Of what comes from another client it holds a copy, too.
    cache.put(&key("copy"), passed_on).await.unwrap();
    assert_eq!(cache.counters().entries, 2);
    nothing_is_pinned(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_held_stays_though_it_is_replaced_and_its_room_is_wanted() {
    let node = Node::shm(options(ByteSize::mib(64))).await;
    let (client, name) = (node.client(), key("k"));
    let first = bytes(4 * MIB, 1);
    client.put(&name, first.clone()).await.unwrap();
    let held = client.get(&name).await.unwrap().value;
    // Many times the capacity passes through.
    for round in 2..40 {
        let value = bytes(4 * MIB, round);
        client.put(&name, value.clone()).await.unwrap();
        client.put(&key(format!("other/{}", round % 3)), value.clone()).await.unwrap();
        assert!(client.get(&name).await.unwrap().value == value, "round {round}");
        assert!(held == first, "what is held changed in round {round}");
    }
    client.delete(&name).await.unwrap();
    assert!(held == first);
    drop(held);
    nothing_is_pinned(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn beyond_the_bound_values_are_copied() {
    let mut options = options(ByteSize::mib(256));
    options.pinned_bytes_max = Some(ByteSize::mib(10));
    let node = Node::shm(options).await;
    let client = node.client();
    let value = bytes(3 * MIB, 1);
    client.put(&key("k"), value.clone()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(client.get(&key("k")).await.unwrap().value);
        assert!(pinned(&node) <= 10 * MIB as u64);
    }
    assert!(held.iter().all(|held| *held == value));
    assert_eq!(pinned(&node), 9 * MIB as u64);
    drop(held);
    nothing_is_pinned(&node).await;
    drop(client.get(&key("k")).await.unwrap());
    let mut large = bytes(11 * MIB, 2);
    client.put(&key("k"), large.clone()).await.unwrap();
    assert!(client.get(&key("k")).await.unwrap().value == large, "one over the bound is copied");
    large.truncate(100_000);
    assert!(client.get_range(&key("k"), 0, 100_000).await.unwrap().value == large);
    nothing_is_pinned(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_or_a_client_that_does_not_share_uses_tcp() {
    let value = bytes(2 * MIB, 1);
    let without = Node::tcp(options(ByteSize::mib(64))).await;
    let client = without.client();
    client.put(&key("k"), value.clone()).await.unwrap();
    assert!(client.get(&key("k")).await.unwrap().value == value);
    without.stop().await;
    let node = Node::shm(options(ByteSize::mib(64))).await;
    let mut options = ClientOptions::default();
    options.maps = false;
    let client = Client::new(&node.address, options);
    client.put(&key("k"), value.clone()).await.unwrap();
    let held = client.get(&key("k")).await.unwrap().value;
    assert!(held == value);
    assert_eq!(pinned(&node), 0);
    node.stop().await;
}

/// A socket under the node's name that is not the node's.
fn impostor(name: &str) -> UnixListener {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

/// A proxy of the node's port: its socket for this host has another name there.
async fn proxy(node: &Node) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = node.address.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::TcpStream::connect(&address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_socket_beside_it_everything_goes_over_tcp() {
    let node = Node::shm(options(ByteSize::mib(64))).await;
    let port = proxy(&node).await;
    let value = bytes(2 * MIB, 1);
    let works = async |what: &str| {
        let mut options = ClientOptions::default();
        options.connect_timeout = Duration::from_secs(2);
        let client = Client::new(&format!("127.0.0.1:{port}"), options);
        client.put(&key("k"), value.clone()).await.unwrap();
        let held = client.get(&key("k")).await.unwrap().value;
        assert!(held == value, "{what}");
        assert_eq!(pinned(&node), 0, "{what}");
        client.close().await;
    };
    works("nobody listens").await;
    let name = format!("cirrus-{:016x}-{port}", node.handle.incarnation());
    let silent = impostor(&name);
    works("who listens says nothing").await;
    drop(silent);
    let rude = impostor(&name);
    let thread = std::thread::spawn(move || {
        // Closes every connection, until one says so.
        while let Ok((mut stream, _)) = rude.accept() {
            let mut first = [0; 1];
            if stream.read(&mut first).is_ok_and(|read| read == 1) && first == *b"x" {
                return;
            }
        }
    });
    works("who listens closes").await;
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    UnixStream::connect_addr(&address).unwrap().write_all(b"x").unwrap();
    thread.join().unwrap();
    // A node that greets, and shares nothing: another one, without the file.
    let other = Node::tcp(options(ByteSize::mib(64))).await;
    let listener = impostor(&name);
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    let address = other.address.clone();
    let greets = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::TcpStream::connect(&address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    works("who listens is another node").await;
    greets.abort();
    other.stop().await;
    node.stop().await;
}

/// The node's sockets for this host: those of its connections, or the one that listens. They are
/// ours as well, since the node runs in this process.
fn sockets(node: &Node, listening: bool) -> Vec<(i32, OwnedFd)> {
    let (name, mut found) = (socket_name(node), Vec::new());
    let this = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let number = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        // One that has closed meanwhile is none of them.
        let Ok(socket) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else { continue };
        let address = getsockname(&socket).map(SocketAddrUnix::try_from);
        let Ok(Ok(address)) = address else { continue };
        let is_ours = address.abstract_name() == Some(name.as_bytes());
        if is_ours && socket_acceptconn(&socket).unwrap() == listening {
            found.push((number, socket));
        }
    }
    found
}

/// Ends the node's connections of this host as a node does that gives them up.
fn cut(node: &Node) -> usize {
    let connections = sockets(node, false);
    // One that the client has left is cut already.
    for (_, socket) in &connections {
        let _ = shutdown(socket, Shutdown::Write);
    }
    connections.len()
}

/// Closes the node's socket under it: nobody listens under its name any more.
fn close_socket(node: &Node) {
    for (number, _) in sockets(node, true) {
        let nothing = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: the number is that of the node's own descriptor, which stays open: what it leads
        // to is changed, and it is not closed here.
        let mut at = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        rustix::io::dup2(&nothing, &mut at).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_socket_is_left_for_tcp_in_mid_job_and_what_is_held_stays() {
    let node = Node::shm(options(ByteSize::mib(256))).await;
    let client = node.client();
    let first = bytes(4 * MIB, 1);
    client.put(&key("k"), first.clone()).await.unwrap();
    let held = client.get(&key("k")).await.unwrap().value;
    assert_eq!(pinned(&node), 4 * MIB as u64);
    client.delete(&key("k")).await.unwrap();
    let is_closed = Arc::new(AtomicBool::new(false));
    let workers = (0..4_u64).map(|worker| {
        let (client, is_closed) = (client.clone(), is_closed.clone());
        tokio::spawn(async move {
            let (name, number) = (key(format!("w/{worker}")), key(format!("n/{worker}")));
            let (mut round, mut left) = (0, 20);
            // Until the socket is gone, and some rounds more.
            while left > 0 {
                left -= u64::from(is_closed.load(Ordering::Relaxed));
                round += 1;
                let value = bytes(300_000, worker << 32 | round);
                let version = client.put(&name, value.clone()).await.unwrap();
                let object = client.get(&name).await.unwrap();
                assert!(object.version == version && object.value == value);
                let sum = client.add(&number, 1).await.unwrap();
                assert_eq!(sum, i64::try_from(round).unwrap());
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut cuts = 0;
    while cuts < 40 {
        cuts += cut(&node);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    close_socket(&node);
    cut(&node);
    is_closed.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    // What the workers had of the connection that it came over goes back together with it.
    let (least, most) = (4 * MIB as u64, 4 * MIB as u64 + 4 * 300_000);
    until("all other connections' pins are back", || (least..=most).contains(&pinned(&node))).await;
    assert!(held == first, "what is held outlives its connection");
    drop(held);
    nothing_is_pinned(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_held_outlives_its_node_and_its_client() {
    let node = Node::shm(options(ByteSize::mib(256))).await;
    let value = bytes(40 * MIB, 1);
    let client = node.client();
    client.put(&key("k"), value.clone()).await.unwrap();
    let held = client.get(&key("k")).await.unwrap().value;
    client.close().await;
    assert!(held == value);
    assert_eq!(pinned(&node), 40 * MIB as u64, "the client has closed, and reads still");
    let other = node.client();
    let second = other.get(&key("k")).await.unwrap().value;
    // With the node go its objects, and their pages back to the kernel.
    let node = node.restarted().await;
    assert!(held == value && second == value);
    assert_eq!(other.get(&key("k")).await.unwrap_err().kind(), Kind::NotFound);
    other.put(&key("k"), "another").await.unwrap();
    other.put(&key("l"), value.clone()).await.unwrap();
    assert!(other.get(&key("l")).await.unwrap().value == value);
    assert!(held == value && second == value);
    drop((held, second));
    nothing_is_pinned(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_lets_go_when_the_client_end_has_closed_and_not_before() {
    let node = Node::shm(options(ByteSize::mib(64))).await;
    let value = bytes(MIB, 1);
    node.client().put(&key("k"), value.clone()).await.unwrap();
    let mut raw = Raw::open(&near(&node), 5).await.unwrap();
    assert_eq!(raw.hello.as_ref().unwrap().features, SHARED_MEMORY);
    let mut pins = Vec::new();
    for delivery in [Delivery::Place, Delivery::SummedPlace, Delivery::Place] {
        let reply = raw.call(&get("k", delivery, 0)).await.unwrap();
        let Reply::Placed { size, offset: 0, len, pin, sums, .. } = reply else {
            panic!("{reply:?}")
        };
        assert_eq!((size, len), (MIB as u64, MIB as u64));
        let summed = if delivery == Delivery::SummedPlace { MIB / 65_536 } else { 0 };
        assert_eq!(sums.len(), summed);
        pins.push(pin);
    }
    assert_eq!(pinned(&node), 3 * MIB as u64);
    raw.send(&Request::Unpin(vec![pins[1], 99, pins[1], 0])).await.unwrap();
    // The answer to the next request says that the one without an answer is done.
    assert_eq!(raw.call(&Request::Ping).await.unwrap(), Reply::Pong);
    assert_eq!(pinned(&node), 2 * MIB as u64);
    let reply = raw.call(&get("k", Delivery::Inline, 1000)).await.unwrap();
    assert!(matches!(reply, Reply::Deferred { .. }), "{reply:?}");
    // A frame that makes no sense ends the connection on the node's side.
    raw.write(&[0xEE; 64]).await.unwrap();
    assert_eq!(raw.until_closed().await, 0);
    let other = Raw::open(&near(&node), 6).await.unwrap();
    assert_eq!(pinned(&node), 2 * MIB as u64, "the client may still be reading");
    drop(raw);
    nothing_is_pinned(&node).await;
    drop(other);
    node.stop().await;
}

#[tokio::test]
async fn over_tcp_no_memory_is_shared() {
    let node = Node::shm(options(ByteSize::mib(64))).await;
    let value = Bytes::from(bytes(100_000, 1));
    node.client().put(&key("k"), value.clone()).await.unwrap();
    let mut raw = Raw::open(&node.endpoint, 5).await.unwrap();
    assert_eq!(raw.hello.as_ref().unwrap().features, SHARED_MEMORY, "it is offered");
    let reply = raw.call(&get("k", Delivery::SummedPlace, 99_999)).await.unwrap();
    assert!(matches!(reply, Reply::Deferred { .. }), "{reply:?}");
    let reply = raw.call(&get("k", Delivery::Place, 100_000)).await.unwrap();
    assert!(matches!(reply, Reply::Value { value: came, .. } if came == value));
    raw.send(&Request::Unpin(vec![1])).await.unwrap();
    assert_eq!(raw.call(&Request::Ping).await.unwrap(), Reply::Pong);
    // In a batch there are no places, and a place without one has no checksums.
    let batch = Request::Batch(vec![get("k", Delivery::Place, 100_000)]);
    for (flags, request) in [(None, batch), (Some(16), get("k", Delivery::Inline, 1))] {
        let mut part = request.to_part();
        part.flags = flags.unwrap_or(part.flags);
        let mut frame = BytesMut::new();
        encode_frame(&part, 77, 0, &mut frame);
        raw.write(&frame).await.unwrap();
        let (_, reply) = raw.reply().await.unwrap();
        assert!(matches!(reply, Reply::Failed(fault) if fault.kind == Kind::Protocol), "{reply:?}");
    }
    node.stop().await;
    let without = Node::tcp(options(ByteSize::mib(64))).await;
    let raw = Raw::open(&without.endpoint, 5).await.unwrap();
    assert_eq!(raw.hello.unwrap().features, 0);
    without.stop().await;
}

#[tokio::test]
async fn the_token_is_asked_for_here_too_and_the_file_comes_after_it() {
    let mut options = options(ByteSize::mib(64));
    options.token = "right".into();
    let node = Node::shm(options).await;
    let raw = Raw::open(&near(&node), 5).await.unwrap();
    let refused = raw.hello.unwrap();
    assert_eq!(refused.status, Status::Failed(Kind::Unauthorized));
    // The file's absence shows below: a plain socket sees what came beside the hello.
    let address = SocketAddr::from_abstract_name(socket_name(&node)).unwrap();
    for (token, files_expected) in [("wrong", 0), ("right", 1)] {
        let socket = UnixStream::connect_addr(&address).unwrap();
        let mut hello = ClientHello {
            version_max: VERSION,
            version_min: VERSION,
            features: SHARED_MEMORY,
            session: 9,
            incarnation: 0,
            epoch: 0,
            token: token.into(),
        };
        assert_eq!(files_beside(&socket, &hello).await.len(), files_expected, "{token}");
        hello.features = 0;
        let socket = UnixStream::connect_addr(&address).unwrap();
        assert_eq!(files_beside(&socket, &hello).await.len(), 0, "nobody asked for it");
    }
    let mut options = ClientOptions::default();
    options.token = "right".into();
    let client = Client::new(&node.address, options);
    client.put(&key("k"), bytes(MIB, 1)).await.unwrap();
    let held = client.get(&key("k")).await.unwrap().value;
    assert_eq!(pinned(&node), MIB as u64);
    drop(held);
    node.stop().await;
}

/// Says hello and returns the files that came beside the answer.
async fn files_beside(socket: &UnixStream, hello: &ClientHello) -> Vec<OwnedFd> {
    let mut bytes = BytesMut::new();
    hello.put(&mut bytes);
    (&mut &*socket).write_all(&bytes).unwrap();
    let socket = socket.try_clone().unwrap();
    let receive = move || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut answer = [0; 56];
        let flags = RecvFlags::WAITALL;
        let mut parts = [std::io::IoSliceMut::new(&mut answer)];
        assert_eq!(recvmsg(&socket, &mut parts, &mut beside, flags).unwrap().bytes, 56);
        let mut files = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                files.extend(came);
            }
        }
        files
    };
    tokio::task::spawn_blocking(receive).await.unwrap()
}

#[tokio::test]
async fn the_file_can_be_read_and_neither_written_nor_cut() {
    let node = Node::shm(options(ByteSize::mib(64))).await;
    node.client().put(&key("k"), bytes(MIB, 1)).await.unwrap();
    let address = SocketAddr::from_abstract_name(socket_name(&node)).unwrap();
    let socket = UnixStream::connect_addr(&address).unwrap();
    let hello = ClientHello::take(&mut hello(5)).unwrap().unwrap();
    let file = files_beside(&socket, &hello).await.pop().unwrap();
    let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
    assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL), "{seals:?}");
    assert_eq!(rustix::io::pwrite(&file, b"x", 0), Err(Errno::BADF));
    assert!(rustix::fs::ftruncate(&file, 0).is_err());
    let stat = rustix::fs::fstat(&file).unwrap();
    assert_eq!(stat.st_mode & 0o777, 0o400, "to be written it would have to be made writable");
    node.stop().await;
}

#[tokio::test]
async fn another_user_is_not_served() {
    let node = Node::shm(options(ByteSize::mib(64))).await;
    let address = SocketAddr::from_abstract_name(socket_name(&node)).unwrap();
    let socket = UnixStream::connect_addr(&address).unwrap();
    let greeting = ClientHello::take(&mut hello(5)).unwrap().unwrap();
    assert_eq!(files_beside(&socket, &greeting).await.len(), 1, "our own user is served");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let hex: String = hello(6).iter().map(|byte| format!("{byte:02x}")).collect();
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0{}')\n\
         try:\n s.sendall(bytes.fromhex('{hex}'))\n print(len(s.recv(56)))\n\
         except OSError: print(0)\n",
        socket_name(&node)
    );
    let output = tokio::task::spawn_blocking(move || {
        let command =
            ["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c"];
        Command::new("setpriv").args(command).arg(script).stdin(Stdio::null()).output()
    });
    match output.await.unwrap() {
        Ok(output) => {
            let (said, errors) = (output.stdout, String::from_utf8_lossy(&output.stderr));
            assert_eq!(said, b"0\n", "{errors}");
        }
        Err(error) => eprintln!("not tried as another user: {error}"),
    }
    node.stop().await;
}

#[tokio::test]
async fn a_write_over_one_link_is_the_same_over_the_other() {
    let node = Node::shm(options(ByteSize::mib(64))).await;
    let mut raw = Raw::open(&near(&node), 5).await.unwrap();
    let value = Bytes::from(bytes(MIB, 3));
    let write = Write { sequence: 1, acknowledged: 0, retry: false };
    let put = Request::Put {
        key: key("k"),
        write,
        condition: Condition::Always,
        expires_at: 0,
        sums: Sums::of(0, &value),
        value: value.clone(),
    };
    let first = raw.call(&put).await.unwrap();
    let mut over_tcp = Raw::open(&node.endpoint, 5).await.unwrap();
    assert_eq!(over_tcp.call(&put).await.unwrap(), first, "the same write, the same answer");
    assert!(node.client().get(&key("k")).await.unwrap().value == value);
    node.stop().await;
}

/// Values of any lengths are put, read, held and let go at the same time, over several loops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_never_changes_whoever_writes() {
    let mut options = options(ByteSize::mib(64));
    options.threads = 2;
    let node = Node::shm(options).await;
    let mut options = ClientOptions::default();
    options.small_connections = 3;
    options.verifies_mapped = true;
    let client = Client::new(&node.address, options);
    for name in 0..6 {
        client.put(&key(format!("{name}")), bytes(50_000, name)).await.unwrap();
    }
    let tasks = (1..=6).map(|seed| {
        let client = client.clone();
        tokio::spawn(async move {
            let (mut random, mut held, mut mapped) = (Random(seed), VecDeque::new(), 0);
            for _ in 0..400 {
                let name = key(format!("{}", random.below(6)));
                if random.below(3) == 0 {
                    let len = usize::try_from(10_000 + random.below(400_000)).unwrap();
                    client.put(&name, bytes(len, random.below(1 << 40))).await.unwrap();
                    continue;
                }
                let value = client.get(&name).await.unwrap().value;
                mapped += usize::from(value.len() > 16_384);
                held.push_back((Sums::of(0, &value), value));
                if held.len() > 8 {
                    let (sums, value) = held.pop_front().unwrap();
                    sums.check(0, &value).unwrap();
                }
            }
            held.iter().for_each(|(sums, value)| sums.check(0, value).unwrap());
            mapped
        })
    });
    let mut mapped = 0;
    for task in tasks.collect::<Vec<_>>() {
        mapped += task.await.unwrap();
    }
    assert!(mapped > 500, "{mapped} large values");
    nothing_is_pinned(&node).await;
    node.stop().await;
}

#[test]
fn a_value_may_outlive_the_runtime_that_it_came_in() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (of_node, of_client) = (runtime(), runtime());
    let node = of_node.block_on(Node::shm(options(ByteSize::mib(64))));
    let (address, value) = (node.address.clone(), bytes(2 * MIB, 1));
    let put = value.clone();
    let reader = std::thread::spawn(move || {
        let held = of_client.block_on(async {
            let client = Client::new(&address, ClientOptions::default());
            client.put(&key("k"), put).await.unwrap();
            client.get(&key("k")).await.unwrap().value
        });
        drop(of_client);
        held
    });
    of_node.block_on(until("the value has come", || reader.is_finished()));
    let held = reader.join().unwrap();
    assert!(held == value);
    assert_eq!(pinned(&node), 2 * MIB as u64);
    drop(held);
    of_node.block_on(nothing_is_pinned(&node));
    of_node.block_on(node.stop());
}

/// A node that says whatever it wants: it shares `file`, and answers gets over its socket for this
/// host by these places, one after the other. Over TCP every value is the same.
fn liar(file: OwnedFd, places: Vec<(u64, u64)>) -> String {
    const INCARNATION: u64 = 0xFEED;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let beside = impostor(&format!("cirrus-{INCARNATION:016x}-{}", address.port()));
    let mut answer = BytesMut::new();
    ServerHello {
        version: VERSION,
        status: Status::Ok,
        features: SHARED_MEMORY,
        session_life: 1,
        incarnation: INCARNATION,
        epoch: 1,
        limits: Limits::default(),
    }
    .put(&mut answer);
    let greeting = answer.clone();
    std::thread::spawn(move || {
        let (mut stream, _) = beside.accept().unwrap();
        stream.read_exact(&mut [0; 48]).unwrap();
        let (files, mut space) =
            ([file.as_fd()], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
        let mut with = SendAncillaryBuffer::new(&mut space);
        assert!(with.push(SendAncillaryMessage::ScmRights(&files)));
        let parts = [IoSlice::new(&greeting)];
        sendmsg(&stream, &parts, &mut with, SendFlags::empty()).unwrap();
        let mut places = places.into_iter();
        answer_each(stream, || {
            let (place, len) = places.next()?;
            let (version, size, sums) = (Version(1), len, Sums::default());
            let (offset, expires_at, modified_at, pin) = (0, 0, 0, 1);
            Some(Reply::Placed {
                version,
                size,
                offset,
                expires_at,
                modified_at,
                place,
                len,
                pin,
                sums,
            })
        });
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.read_exact(&mut [0; 48]).unwrap();
            stream.write_all(&answer).unwrap();
            std::thread::spawn(move || {
                let value = Bytes::from_static(b"over TCP");
                let (version, offset, expires_at, modified_at) = (Version(1), 0, 0, 0);
                let (size, sums) = (value.len() as u64, Sums::of(0, &value));
                let reply =
                    Reply::Value { version, size, offset, expires_at, modified_at, value, sums };
                answer_each(stream, || Some(reply.clone()));
            });
        }
    });
    address.to_string()
}

/// Answers every request that wants an answer, until there is none or the peer leaves.
fn answer_each(
    mut stream: impl std::io::Read + std::io::Write,
    mut next: impl FnMut() -> Option<Reply>,
) {
    let (mut buffer, mut read) = (BytesMut::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut read) {
        buffer.extend_from_slice(&read[..count]);
        let limits = HeadLimits { payload_bytes_max: 1 << 20 };
        while let Some(head) = Head::take(&mut buffer, limits).unwrap() {
            assert!(buffer.len() >= head.tail_bytes(), "a small frame comes in one piece");
            let id = head.request_id;
            let tail = buffer.split_to(head.tail_bytes()).freeze();
            let payload = tail.slice(..head.payload_bytes());
            let sums = Sums::of(0, &payload);
            let request = Request::from_part(Part::of(head, payload, sums)).unwrap();
            if matches!(request, Request::Unpin(_)) {
                continue;
            }
            let Some(reply) = next() else { return };
            let mut frame = BytesMut::new();
            encode_frame(&reply.to_part(), id, 0, &mut frame);
            stream.write_all(&frame).unwrap();
        }
    }
}

fn file_of(content: &[u8], seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("test", flags).unwrap();
    rustix::io::pwrite(&file, content, 0).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

#[tokio::test]
async fn a_place_outside_of_the_file_is_no_value() {
    let file = file_of(&bytes(100_000, 1), SealFlags::SHRINK);
    let outside =
        [(100_000, 1), (0, 100_001), (99_999, 2), (u64::MAX, 1), (1 << 40, 20_000), (5, 1 << 30)];
    let mut places = outside.to_vec();
    places.push((1_000, 99_000));
    let client = Client::new(&liar(file, places), ClientOptions::default());
    for place in outside {
        let error = client.get(&key("k")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol, "{place:?}: {error}");
    }
    let inside = client.get(&key("k")).await.unwrap().value;
    assert!(inside == bytes(100_000, 1)[1_000..]);
}

#[tokio::test]
async fn a_file_that_may_shrink_is_not_mapped() {
    let file = file_of(&bytes(100_000, 1), SealFlags::GROW);
    let client = Client::new(&liar(file, vec![(0, 5)]), ClientOptions::default());
    assert_eq!(client.get(&key("k")).await.unwrap().value, "over TCP");
}
