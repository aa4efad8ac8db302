//! Temporary numbers.
use crate::rig::{Node, bytes, key, options};
use bytes::Bytes;
use cirrus_store::ByteSize;
use std::time::Instant;

#[test]
#[ignore = "numbers"]
fn numbers() {
    let server = std::thread::spawn(|| {});
    server.join().unwrap();
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let node = Node::tcp(options(ByteSize::gib(1))).await;
            tx.send((node.address.clone(), node.client_options())).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let (address, options) = rx.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let client = cirrus_store::Client::new(&address, options.clone());
        client.put(&key("k"), bytes(100, 1)).await.unwrap();
        for callers in [1, 64] {
            for round in 0..3 {
                let began = Instant::now();
                let n = 100_000 / if callers == 1 { 10 } else { 1 };
                let tasks: Vec<_> = (0..callers)
                    .map(|_| {
                        let c = client.clone();
                        tokio::spawn(async move {
                            let k = key("k");
                            for _ in 0..n / callers {
                                c.get(&k).await.unwrap();
                            }
                        })
                    })
                    .collect();
                for t in tasks {
                    t.await.unwrap();
                }
                eprintln!(
                    "get 100 B, {callers} callers, round {round}: {:.0}/s",
                    f64::from(n) / began.elapsed().as_secs_f64()
                );
                let began = Instant::now();
                let tasks: Vec<_> = (0..callers)
                    .map(|t| {
                        let c = client.clone();
                        tokio::spawn(async move {
                            let v = Bytes::from(bytes(100, 1));
                            let k = key(format!("p{t}"));
                            for _ in 0..n / callers {
                                c.put(&k, v.clone()).await.unwrap();
                            }
                        })
                    })
                    .collect();
                for t in tasks {
                    t.await.unwrap();
                }
                eprintln!(
                    "put 100 B, {callers} callers, round {round}: {:.0}/s",
                    f64::from(n) / began.elapsed().as_secs_f64()
                );
            }
        }
        let v = Bytes::from(bytes(16 << 20, 1));
        for round in 0..3 {
            let began = Instant::now();
            for _ in 0..20 {
                client.put(&key("large"), v.clone()).await.unwrap();
            }
            eprintln!(
                "put 16 MiB round {round}: {:.2} GB/s",
                20.0 * 16.777 / 1000.0 / began.elapsed().as_secs_f64()
            );
            let began = Instant::now();
            for _ in 0..20 {
                client.get(&key("large")).await.unwrap();
            }
            eprintln!(
                "get 16 MiB round {round}: {:.2} GB/s",
                20.0 * 16.777 / 1000.0 / began.elapsed().as_secs_f64()
            );
        }
        tokio::task::spawn_blocking(move || {
            let mut c = cirrus_store::BlockingClient::new(&address, options);
            let k = key("k");
            let began = Instant::now();
            for _ in 0..10_000 {
                c.get(&k).unwrap();
            }
            eprintln!("blocking get: {:.0}/s", 10_000.0 / began.elapsed().as_secs_f64());
            let k = key("large");
            let began = Instant::now();
            for _ in 0..20 {
                c.get(&k).unwrap();
            }
            eprintln!(
                "blocking get 16 MiB: {:.2} GB/s",
                20.0 * 16.777 / 1000.0 / began.elapsed().as_secs_f64()
            );
        })
        .await
        .unwrap();
    });
}
