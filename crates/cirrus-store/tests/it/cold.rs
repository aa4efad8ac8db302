//! Storage nodes with a bucket behind the disk: a folder, through the `object_store` crate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cirrus_store::segments::{Engine, ObjectBucket, Options};
use cirrus_store::server::NodeOptions;
use cirrus_store::{ByteSize, Client, Kind};

use crate::rig::{Node, bytes, key, options, until_within};

const DISK_BYTES: u64 = 16 << 20;
const VALUE_BYTES: usize = 200_000;

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// A node of 16 MiB of memory and 16 MiB of disk, and the bucket in `folder`.
fn with_bucket(folder: &Path) -> (NodeOptions, Arc<Engine>) {
    let mut engine = Options::default();
    engine.capacity = DISK_BYTES;
    let bucket = ObjectBucket::from_url(&url(&folder.join("bucket"))).unwrap();
    engine.cold = Some(Arc::new(bucket));
    let engine = Arc::new(Engine::open_folder(folder.join("disk"), engine).unwrap());
    let mut options = options(ByteSize::mib(16));
    options.engine = Some(Arc::clone(&engine));
    (options, engine)
}

async fn put(client: &Client, numbers: std::ops::Range<u64>, seed: u64) {
    for number in numbers {
        let value = bytes(VALUE_BYTES, number + seed);
        client.put(&key(format!("k/{number}")), value).await.unwrap();
    }
}

async fn holds(client: &Client, numbers: std::ops::Range<u64>, seed: u64) {
    for number in numbers {
        let got = client.get(&key(format!("k/{number}"))).await.unwrap();
        assert!(got.value == bytes(VALUE_BYTES, number + seed), "k/{number}");
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let stores = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    stores.flat_map(|store| std::fs::read_dir(store).unwrap()).map(|e| e.unwrap().path()).collect()
}

#[tokio::test]
async fn a_node_holds_more_than_its_disk_and_is_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (options, engine) = with_bucket(folder.path());
    let node = Node::tcp(options).await;
    // 60 MB, and then a third of it again.
    put(&node.client(), 0..300, 0).await;
    put(&node.client(), 100..200, 7).await;
    for number in 200..250 {
        node.client().delete(&key(format!("k/{number}"))).await.unwrap();
    }
    let stats = engine.stats().unwrap();
    assert!(stats.disk_bytes <= DISK_BYTES && stats.cold_bytes > 30_000_000, "{stats:?}");
    holds(&node.client(), 0..100, 0).await;
    node.stop().await;
    drop(engine);

    let (options, engine) = with_bucket(folder.path());
    let node = Node::tcp(options).await;
    let client = node.client();
    holds(&client, 0..100, 0).await;
    holds(&client, 100..200, 7).await;
    holds(&client, 250..300, 0).await;
    assert_eq!(client.get(&key("k/220")).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(client.list(b"k/").await.unwrap().len(), 250);
    let stats = engine.stats().unwrap();
    assert_eq!(files(&folder.path().join("bucket")).len() as u64, stats.cold_segments);
    node.stop().await;
}

#[tokio::test]
async fn a_bucket_that_fails_stops_only_what_needs_it_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let (options, engine) = with_bucket(folder.path());
    let node = Node::tcp(options).await;
    let client = node.client();
    put(&client, 0..200, 0).await;
    // Whatever is looked for in it: not a folder.
    let (bucket, away) = (folder.path().join("bucket"), folder.path().join("away"));
    std::fs::rename(&bucket, &away).unwrap();
    std::fs::write(&bucket, b"").unwrap();
    let refused = client.get(&key("k/0")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Io, "{refused}");
    let mut next = 1000;
    let refused = loop {
        match client.put(&key(format!("k/{next}")), bytes(VALUE_BYTES, next)).await {
            Ok(_) => next += 1,
            Err(error) => break error,
        }
        assert!(next < 1200, "40 MB on a disk of 16 MiB");
    };
    assert_eq!(refused.kind(), Kind::OutOfMemory, "{refused}");
    holds(&client, next - 1..next, 0).await;
    assert_eq!(client.get(&key("none")).await.unwrap_err().kind(), Kind::NotFound);
    client.delete(&key("k/5")).await.unwrap();

    std::fs::remove_file(&bucket).unwrap();
    std::fs::rename(&away, &bucket).unwrap();
    let is_well = || engine.reserve(8 << 20, false).map(|()| engine.release(8 << 20)).is_ok();
    until_within(Duration::from_secs(60), "the bucket is used again", is_well).await;
    holds(&client, 0..1, 0).await;
    put(&client, 2000..2100, 0).await;
    holds(&client, 1000..next, 0).await;
    node.stop().await;
}

#[test]
fn a_url_with_a_secret_is_refused_and_not_shown() {
    for url in ["https://user:secret@host/folder", "s3://bucket/folder?sig=secret", "secret"] {
        let refused = ObjectBucket::from_url(url).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
    let refused = ObjectBucket::from_url("memory:///folder").unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
}
