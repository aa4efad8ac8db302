//! `ObjectStore`: the trait's own tests, against a node over TCP, and what they do not ask.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cirrus_store::objects::PathStore;
use cirrus_store::{ByteSize, Client, ClientOptions};
use futures_util::TryStreamExt;
use object_store::integration::{
    copy_if_not_exists, copy_rename_nonexistent_object, get_nonexistent_object, get_opts,
    list_uses_directories_correctly, list_with_delimiter, list_with_offset_exclusivity, multipart,
    multipart_out_of_order, multipart_race_condition, put_get_attributes, put_get_delete_list,
    put_opts, rename_and_copy, stream_get,
};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion,
};

use crate::rig::{Node, bytes, key, options};

async fn node() -> Node {
    Node::tcp(options(ByteSize::new(256 << 20))).await
}

/// Every object of the node, parts of uploads too.
async fn held(client: &Client) -> usize {
    client.list(b"").await.unwrap().len()
}

/// Bytes in small chunks, as writers hand them over.
fn chunked(value: &[u8]) -> PutPayload {
    value.chunks(100_000).map(Bytes::copy_from_slice).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_traits_own_tests_pass() {
    let node = node().await;
    // One after the other in the same place: each begins with deleting what is there.
    for prefix in ["", "tables/one"] {
        let store = PathStore::with_prefix(node.client(), &Path::from(prefix));
        put_get_delete_list(&store).await;
        put_get_attributes(&store).await;
        get_opts(&store).await;
        put_opts(&store, true).await;
        list_uses_directories_correctly(&store).await;
        list_with_delimiter(&store).await;
        list_with_offset_exclusivity(&store).await;
        let missing = get_nonexistent_object(&store, None).await.unwrap_err();
        assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
        rename_and_copy(&store).await;
        copy_if_not_exists(&store).await;
        copy_rename_nonexistent_object(&store).await;
        stream_get(&store).await;
        multipart(&store, &store).await;
        multipart_race_condition(&store, true).await;
        multipart_out_of_order(&store).await;
        let all = store.list(None).map_ok(|meta| meta.location);
        let _: Vec<_> = store.delete_stream(Box::pin(all)).try_collect().await.unwrap();
        assert_eq!(held(&node.client()).await, 0, "uploads leave nothing");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_listing_and_a_get_say_the_same_time() {
    let node = node().await;
    let store = PathStore::new(node.client());
    let path = Path::from("a/b");
    let before = SystemTime::now() - Duration::from_millis(1);
    store.put(&path, "first".into()).await.unwrap();
    let first = store.head(&path).await.unwrap();
    let written = SystemTime::from(first.last_modified);
    assert!(before <= written && written <= SystemTime::now(), "{written:?}");
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&first));
    assert_eq!(store.get(&path).await.unwrap().meta, first);
    let stat = node.client().stat(&key("a/b")).await.unwrap();
    let ms = u64::try_from(first.last_modified.timestamp_millis()).unwrap();
    assert_eq!(stat.modified_at, Some(ms));
    assert_eq!(node.client().get(&key("a/b")).await.unwrap().modified_at, Some(ms));
    // A later write says so, as soon as the clock has gone on.
    let mut second = first.clone();
    while second.last_modified == first.last_modified {
        store.put(&path, "second".into()).await.unwrap();
        second = store.head(&path).await.unwrap();
    }
    assert!(second.last_modified > first.last_modified && second.e_tag != first.e_tag);
    let since = GetOptions::new().with_if_modified_since(Some(first.last_modified));
    assert_eq!(store.get_opts(&path, since).await.unwrap().bytes().await.unwrap(), "second");
    let until = GetOptions::new().with_if_unmodified_since(Some(first.last_modified));
    let refused = store.get_opts(&path, until).await.unwrap_err();
    assert!(matches!(refused, Error::Precondition { .. }), "{refused}");
    node.stop().await;
}

#[tokio::test]
async fn ranges_of_values_of_any_size_are_what_was_put() {
    let node = node().await;
    let store = PathStore::new(node.client());
    for len in [1, 70_000, 1 << 20, (5 << 20) + 77] {
        let (path, value) = (Path::from(format!("of/{len}")), bytes(len, 7));
        store.put(&path, chunked(&value)).await.unwrap();
        let end = len as u64;
        for range in [0..end, end - 1..end, end / 3..end / 2 + 1, 0..1] {
            let at = |at: u64| usize::try_from(at).unwrap();
            let expected = &value[at(range.start)..at(range.end)];
            let got = store.get_range(&path, range.clone()).await.unwrap();
            assert!(got == expected, "{range:?} of {len}");
            let got = store.get_ranges(&path, &[range.clone(), 0..1]).await.unwrap();
            assert!(got[0] == expected && got[1] == value[..1], "{range:?} of {len}");
            let options = GetOptions::new().with_range(Some(GetRange::Suffix(end - range.start)));
            let got = store.get_opts(&path, options).await.unwrap();
            assert_eq!((got.range.clone(), got.meta.size), (range.start..end, end));
            assert!(got.bytes().await.unwrap() == value[at(range.start)..]);
        }
        for beyond in [end..end + 1, end + 5..end + 9] {
            store.get_range(&path, beyond.clone()).await.unwrap_err();
            store.get_ranges(&path, &[0..1, beyond]).await.unwrap_err();
        }
        store.get_ranges(&path, std::slice::from_ref(&(1..1))).await.unwrap_err();
    }
    assert!(store.get_ranges(&Path::from("none"), &[]).await.unwrap().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn uploads_show_nothing_before_they_are_complete_and_leave_nothing() {
    let node = node().await;
    let (client, store) = (node.client(), PathStore::new(node.client()));
    let path = Path::from("big");
    let value = bytes(9 << 20, 3);
    let mut upload = store.put_multipart(&path).await.unwrap();
    let parts: Vec<_> = value.chunks(2 << 20).map(|part| upload.put_part(chunked(part))).collect();
    for part in parts.into_iter().rev() {
        part.await.unwrap();
    }
    assert!(held(&client).await == 5 && client.list(b"!parts/").await.unwrap().len() == 5);
    assert!(store.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty());
    let part = client.list(b"!parts/").await.unwrap().remove(0).key;
    assert!(client.stat(&part).await.unwrap().expires_at.is_some(), "it ends by itself");
    upload.complete().await.unwrap();
    assert!(store.get(&path).await.unwrap().bytes().await.unwrap() == value);
    assert_eq!(held(&client).await, 1);
    upload.complete().await.unwrap_err();
    upload.put_part("late".into()).await.unwrap_err();

    // A part that was never sent is missed.
    let mut upload = store.put_multipart(&path).await.unwrap();
    upload.put_part("one".into()).await.unwrap();
    drop(upload.put_part("two".into()));
    let error = upload.complete().await.unwrap_err();
    assert!(error.to_string().contains("1 of 2 parts"), "{error}");
    upload.abort().await.unwrap();
    assert_eq!(held(&client).await, 1);

    // Parts by number, one of them sent twice: the caller says which it means.
    let id = store.create_multipart(&path).await.unwrap();
    let old = MultipartStore::put_part(&store, &path, &id, 0, "old".into()).await.unwrap();
    let one = MultipartStore::put_part(&store, &path, &id, 1, "world".into()).await.unwrap();
    let new = MultipartStore::put_part(&store, &path, &id, 0, "hello ".into()).await.unwrap();
    store.complete_multipart(&path, &id, vec![old, one.clone()]).await.unwrap_err();
    store.complete_multipart(&path, &id, vec![new, one]).await.unwrap();
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "hello world");
    let id = store.create_multipart(&path).await.unwrap();
    MultipartStore::put_part(&store, &path, &id, 3, "left".into()).await.unwrap();
    store.abort_multipart(&path, &id).await.unwrap();
    assert_eq!(held(&client).await, 1);
    store.abort_multipart(&path, &"../x".to_owned()).await.unwrap_err();
    node.stop().await;
}

#[tokio::test]
async fn what_is_too_large_or_not_a_path_is_refused_and_changes_nothing() {
    let node = node().await;
    let store = PathStore::new(node.client());
    let path = Path::from("huge");
    // More than 1 GiB of one buffer's clones; nothing is sent once the sum is over it.
    let chunk = Bytes::from(vec![0; 64 << 20]);
    let huge: PutPayload = std::iter::repeat_n(chunk, 17).collect();
    let mut upload = store.put_multipart(&path).await.unwrap();
    let error = upload.put_part(huge.clone()).await.unwrap_err();
    assert!(error.to_string().contains("more than 1073741824 bytes"), "{error}");
    upload.complete().await.unwrap_err();
    store.put(&path, huge).await.unwrap_err();
    for wrong in ["", "!parts/00000000000000000000000000000000/0", &"a".repeat(1025)] {
        let wrong = Path::from(wrong);
        store.put(&wrong, "x".into()).await.unwrap_err();
        store.get(&wrong).await.unwrap_err();
        assert!(store.put_multipart(&wrong).await.is_err(), "{wrong}");
    }
    assert_eq!(held(&node.client()).await, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_rename_loses_nothing() {
    let node = node().await;
    let store = PathStore::new(node.client());
    let (a, b) = (Path::from("a"), Path::from("b"));
    let value = bytes(6 << 20, 1);
    store.put(&a, value.clone().into()).await.unwrap();
    store.rename(&a, &a).await.unwrap();
    assert!(store.get(&a).await.unwrap().bytes().await.unwrap() == value, "onto itself");
    store.put(&b, "there".into()).await.unwrap();
    let error = store.rename_if_not_exists(&a, &b).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert_eq!(store.get(&b).await.unwrap().bytes().await.unwrap(), "there");
    store.rename(&a, &b).await.unwrap();
    assert!(store.get(&b).await.unwrap().bytes().await.unwrap() == value);
    assert!(matches!(store.head(&a).await.unwrap_err(), Error::NotFound { .. }));
    node.stop().await;
}

#[tokio::test]
async fn prefixes_keep_stores_apart_and_queues_are_no_objects() {
    let node = node().await;
    let client = node.client();
    let whole = PathStore::new(client.clone());
    let one = PathStore::with_prefix(client.clone(), &Path::from("one"));
    let other = PathStore::with_prefix(client.clone(), &Path::from("on"));
    one.put(&Path::from("x"), "1".into()).await.unwrap();
    assert_eq!(client.get(&key("one/x")).await.unwrap().value, "1");
    client.push(&key("one/queue"), "item", 100).await.unwrap();
    client.put(&key("one//y"), "no path").await.unwrap();
    let names = |store: PathStore| async move {
        store.list(None).map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>().await
    };
    assert_eq!(names(one.clone()).await.unwrap(), ["x"]);
    assert_eq!(names(whole).await.unwrap(), ["one/x"]);
    assert!(names(other).await.unwrap().is_empty());
    one.head(&Path::from("queue")).await.unwrap_err();
    one.get(&Path::from("queue")).await.unwrap_err();
    node.stop().await;
}

#[tokio::test]
async fn errors_and_debug_say_what_they_should() {
    let mut with_token = options(ByteSize::new(64 << 20));
    with_token.token = "s3cret".into();
    let node = Node::tcp(with_token).await;
    let path = Path::from("a");
    let mut known = ClientOptions::default();
    known.token = "s3cret".into();
    let store = PathStore::with_prefix(Client::new(&node.address, known), &Path::from("p/q"));
    assert_eq!(store.to_string(), "Cirrus(p/q/)");
    assert_eq!(format!("{store:?}"), "PathStore { prefix: \"p/q/\", .. }");
    store.put(&path, "x".into()).await.unwrap();
    let upload = store.put_multipart(&path).await.unwrap();
    assert!(!format!("{upload:?}").contains("s3cret"));
    let stranger = PathStore::new(node.client());
    let error = stranger.get(&path).await.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error}");
    let update =
        |tag: &str| PutMode::Update(UpdateVersion { e_tag: Some(tag.to_owned()), version: None });
    for tag in ["\"0\"", "never", "\"999\""] {
        for path in [&path, &Path::from("none")] {
            let put = store.put_opts(path, "y".into(), update(tag).into()).await;
            assert!(matches!(put.unwrap_err(), Error::Precondition { .. }), "{tag}");
        }
    }
    let old = GetOptions { version: Some("7000".into()), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&path, old).await.unwrap_err(), Error::NotFound { .. }));
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let tag = store.head(&path).await.unwrap().e_tag.unwrap();
    let now = GetOptions { version: Some(tag), ..GetOptions::default() };
    assert_eq!(store.get_opts(&path, now).await.unwrap().bytes().await.unwrap(), "x");
    node.stop().await;
}
