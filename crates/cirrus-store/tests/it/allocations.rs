//! What a request costs the node in allocations: none, for the small and the frequent. And a call
//! its client; and a cache's hit: none.
//!
//! Owns the allocator that counts. Invariant: only threads that asked for it are watched.

#![expect(unsafe_code, reason = "an allocator that counts")]

mod cache;
mod client;
mod records;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};

use bytes::{Bytes, BytesMut};
use cirrus_store::server::Server;
use cirrus_store::wire::{Condition, Delivery, Request, Write, encode_frame};
use cirrus_store::{ByteSize, Key, Sums, Version};
use tokio_util::sync::CancellationToken;

use crate::raw::hello;
use crate::rig::{bytes, options};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the threads that are watched.
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends allocates without its locals.
        if IS_WATCHED.try_with(Cell::get).unwrap_or(false) {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The count is one: tests that read it take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A node, whose only thread may be watched.
fn node(is_watched: bool) -> (String, CancellationToken, std::thread::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel();
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let thread = std::thread::spawn(move || {
        IS_WATCHED.set(is_watched);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut options = options(ByteSize::mib(64));
            // Its housekeeping allocates.
            options.sweep_interval = std::time::Duration::from_secs(3600);
            let server = Server::bind("127.0.0.1:0", options).await.unwrap();
            sender.send(server.local_address().unwrap().to_string()).unwrap();
            server.run(stop).await.unwrap();
        });
    });
    (receiver.recv().unwrap(), cancel, thread)
}

/// Sends what makes `answer_len` bytes of answers; allocations meanwhile.
fn exchange(stream: &mut TcpStream, sent: &[u8], answer_len: usize) -> u64 {
    let before = COUNT.load(Ordering::Relaxed);
    stream.write_all(sent).unwrap();
    let mut answer = vec![0; answer_len];
    stream.read_exact(&mut answer).unwrap();
    COUNT.load(Ordering::Relaxed) - before
}

#[test]
fn a_small_get_or_put_allocates_nothing() {
    let _turn = TURN.lock().unwrap();
    let (address, cancel, thread) = node(true);
    let mut stream = TcpStream::connect(address).unwrap();
    exchange(&mut stream, &hello(1), 56);
    const FRAMES: u64 = 16;
    let value = Bytes::from(bytes(1000, 1));
    let mut sequence = 0;
    let mut frames = |is_put: bool| {
        let mut sent = BytesMut::new();
        for number in 0..FRAMES {
            let key = Key::try_from(format!("key {number}")).unwrap();
            let request = if is_put {
                sequence += 1;
                let acknowledged = sequence - 1;
                let write = Write { sequence, acknowledged, retry: false };
                let (value, sums) = (value.clone(), Sums::of(0, &value));
                let condition = Condition::Always;
                Request::Put { key, write, condition, expires_at: 0, value, sums }
            } else {
                let (offset, len, newer_than) = (0, u64::MAX, Version(0));
                Request::Get {
                    key,
                    offset,
                    len,
                    newer_than,
                    inline_bytes_max: 65_536,
                    delivery: Delivery::Inline,
                }
            };
            encode_frame(&request.to_part(), number, 0, &mut sent);
        }
        sent
    };
    let (written, got) = (16 * (32 + 8), 16 * (32 + 40 + 1000 + 4));
    // Buffers and rings grow to their size first.
    for _ in 0..200 {
        exchange(&mut stream, &frames(true), written);
        exchange(&mut stream, &frames(false), got);
    }
    assert!(COUNT.load(Ordering::Relaxed) > 100, "what the node allocated to start is counted");
    let (mut puts, mut gets) = (0, 0);
    for _ in 0..100 {
        puts += exchange(&mut stream, &frames(true), written);
        gets += exchange(&mut stream, &frames(false), got);
    }
    let per_request = |count: u64| count as f64 / (100 * FRAMES) as f64;
    println!("a put: {}, a get: {} allocations", per_request(puts), per_request(gets));
    // A hundredth is what the runtime may take for itself.
    assert!(puts < FRAMES, "{puts} allocations for {} puts", 100 * FRAMES);
    assert!(gets < FRAMES, "{gets} allocations for {} gets", 100 * FRAMES);
    cancel.cancel();
    drop(stream);
    thread.join().unwrap();
}

#[test]
fn a_small_command_of_resp_allocates_nothing() {
    let _turn = TURN.lock().unwrap();
    let (address, cancel, thread) = node(true);
    let mut stream = TcpStream::connect(address).unwrap();
    const COMMANDS: u64 = 16;
    let value = "v".repeat(1000);
    let set = format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1000\r\n{value}\r\n");
    let cases = [
        ("SET", set.as_str(), 5),
        ("GET", "*2\r\n$3\r\nget\r\n$3\r\nkey\r\n", 7 + 1000 + 2),
        ("INCR", "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n", 5),
        ("SETEX", "*4\r\n$5\r\nSETEX\r\n$1\r\ne\r\n$3\r\n100\r\n$1\r\nv\r\n", 5),
        ("STRLEN", "*2\r\n$6\r\nstrlen\r\n$3\r\nkey\r\n", 7),
    ];
    for (name, command, answer_len) in cases {
        let many = command.repeat(usize::try_from(COMMANDS).unwrap());
        let mut run = |rounds: u64| {
            let mut count = 0;
            for _ in 0..rounds {
                // So that all answers to INCR have two digits.
                if name == "INCR" {
                    exchange(&mut stream, b"*3\r\n$3\r\nset\r\n$1\r\nn\r\n$2\r\n10\r\n", 5);
                }
                count += exchange(&mut stream, many.as_bytes(), 16 * answer_len);
            }
            count
        };
        run(100);
        let count = run(100);
        println!("{name}: {count} allocations for {}", 100 * COMMANDS);
        assert!(count < COMMANDS, "{name}: {count} allocations for {} commands", 100 * COMMANDS);
    }
    cancel.cancel();
    drop(stream);
    thread.join().unwrap();
}
