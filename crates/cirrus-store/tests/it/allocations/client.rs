//! What a call costs the client in allocations, once it is warm: its value, and nothing else.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use cirrus_store::{BlockingClient, Client, ClientOptions, Key};
use futures_util::future::join_all;

use super::{COUNT, IS_WATCHED, TURN, node};

const CALLS: u32 = 2000;

/// Allocations of this thread for each of `CALLS` calls.
fn each(work: impl FnOnce()) -> f64 {
    let before = COUNT.load(Ordering::Relaxed);
    work();
    let count = COUNT.load(Ordering::Relaxed) - before;
    f64::from(u32::try_from(count).unwrap()) / f64::from(CALLS)
}

async fn gets(client: &Client, key: &Key, count: u32) {
    for _ in 0..count {
        assert_eq!(client.get(key).await.unwrap().value.len(), 1000);
    }
}

async fn puts(client: &Client, key: &Key, value: &Bytes, count: u32) {
    for _ in 0..count {
        client.put(key, value.clone()).await.unwrap();
    }
}

#[test]
fn a_small_get_allocates_its_value_and_a_small_put_nothing() {
    let _turn = TURN.lock().unwrap();
    let (address, cancel, thread) = node(false);
    IS_WATCHED.set(true);
    let client = Client::new(&address, ClientOptions::default());
    let mut blocking = BlockingClient::new(&address, ClientOptions::default());
    let (key, value) = (Key::try_from("key").unwrap(), Bytes::from(vec![1; 1000]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let many = async |work: &dyn AsyncWork| {
        join_all((0..20).map(|_| work.run(CALLS / 20))).await;
    };
    let (get, put) = (Gets(&client, &key), Puts(&client, &key, &value));
    runtime.block_on(async {
        puts(&client, &key, &value, 100).await;
        many(&get).await;
        many(&put).await;
    });
    let counts = [
        each(|| runtime.block_on(gets(&client, &key, CALLS))),
        each(|| runtime.block_on(puts(&client, &key, &value, CALLS))),
        each(|| runtime.block_on(many(&get))),
        each(|| runtime.block_on(many(&put))),
    ];
    blocking.put(&key, value.clone()).unwrap();
    blocking.get(&key).unwrap();
    let blocking = [
        each(|| (0..CALLS).for_each(|_| drop(blocking.get(&key).unwrap()))),
        each(|| (0..CALLS).for_each(|_| assert!(blocking.put(&key, value.clone()).is_ok()))),
    ];
    println!("allocations per call: {counts:?}, blocking {blocking:?}");
    // A few belong to the futures of all callers together.
    for get in [counts[0], counts[2], blocking[0]] {
        assert!((1.0..1.1).contains(&get), "{get} allocations for a get");
    }
    for put in [counts[1], counts[3], blocking[1]] {
        assert!(put < 0.1, "{put} allocations for a put");
    }
    IS_WATCHED.set(false);
    cancel.cancel();
    thread.join().unwrap();
}

/// What one of many callers does.
trait AsyncWork {
    fn run(&self, count: u32) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>>;
}

struct Gets<'a>(&'a Client, &'a Key);
struct Puts<'a>(&'a Client, &'a Key, &'a Bytes);

impl AsyncWork for Gets<'_> {
    fn run(&self, count: u32) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(gets(self.0, self.1, count))
    }
}

impl AsyncWork for Puts<'_> {
    fn run(&self, count: u32) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(puts(self.0, self.1, self.2, count))
    }
}
