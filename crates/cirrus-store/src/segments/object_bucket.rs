//! A bucket of the `object_store` crate: S3, GCS, Azure, `WebDAV`, or a folder.
//!
//! Owns the threads that its requests run on, and their time limits. Knows nothing of segments.
//! Invariant: no call takes more memory than a few parts, or longer than [`PATIENCE`] a part; a URL
//! with a secret is refused, so no name and no error shows one.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::segments::bucket::Bucket;
use crate::segments::disk::ReadAt;

/// What is sent or asked for at once. S3 takes parts of 5 MiB or more, and 10,000 of them.
const PART_BYTES: usize = 8 << 20;
/// How long one request may take, with all that is tried again inside it: one that somebody waits for
/// less than a client waits for its answer.
const READ_PATIENCE: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(60);

/// Variables of the environment that a bucket is told of.
const VARIABLES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// A bucket, or a folder of one.
pub struct ObjectBucket {
    name: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Where it is, if it is a folder of this machine.
    folder: Option<PathBuf>,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl ObjectBucket {
    /// The bucket of a URL, such as `s3://bucket/folder`, `gs://…`, `az://…` or `file:///folder`.
    /// Credentials and the like come from the environment's variables `AWS_…`, `GOOGLE_…` and
    /// `AZURE_…`. Sends nothing. Fails with [`Kind::Invalid`].
    pub fn from_url(url: &str) -> Result<Self> {
        // What is no URL may hold a secret all the same: it is not shown.
        let parsed = Url::parse(url).map_err(|error| {
            let text = "this is no URL of a bucket; expected s3://BUCKET/FOLDER, gs://, az:// or \
                        file:///FOLDER";
            Error::new(Kind::Invalid, text).with_source(error)
        })?;
        if parsed.password().is_some() || parsed.query().is_some() {
            let text = "a bucket's URL has no password and no query; give credentials in the \
                        environment: AWS_…, GOOGLE_… or AZURE_…";
            return Err(Error::new(Kind::Invalid, text));
        }
        let name = parsed.as_str().trim_end_matches('/').to_owned();
        let invalid = |why: &str| Error::new(Kind::Invalid, format!("the bucket {name}: {why}"));
        if parsed.scheme() == "memory" {
            let text = "a bucket in memory does not outlive the process; give the URL of another";
            return Err(Error::new(Kind::Invalid, text));
        }
        let variables = std::env::vars_os().filter_map(|(key, value)| {
            let (key, value) = (key.into_string().ok()?, value.into_string().ok()?);
            VARIABLES.iter().any(|start| key.starts_with(start)).then_some((key, value))
        });
        let plain = (parsed.scheme() == "http").then(|| ("allow_http".into(), "true".into()));
        let (store, prefix) = object_store::parse_url_opts(&parsed, variables.chain(plain))
            .map_err(|error| invalid(&error.to_string()))?;
        let folder = match parsed.scheme() {
            "file" => Some(parsed.to_file_path().map_err(|()| invalid("it is no folder's path"))?),
            _ => None,
        };
        Self::new(store.into(), prefix, folder, name)
    }

    fn new(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        folder: Option<PathBuf>,
        name: String,
    ) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store-bucket")
            .enable_all()
            .build()
            .map_err(|error| Error::io("cannot start the bucket's thread", error))?;
        Ok(Self { name, store, prefix, folder, runtime: Some(runtime) })
    }

    fn path(&self, object: &str) -> Path {
        object.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Runs a request on the bucket's own thread, so that any thread may call it, also one that
    /// serves others.
    fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        self.run_within(PATIENCE, request)
    }

    fn run_within<T: Send + 'static>(
        &self,
        patience: Duration,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let Some(runtime) = &self.runtime else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            let result = tokio::time::timeout(patience, request).await;
            // Whoever asked waits for it.
            let _ = sender.send(result);
        });
        match receiver.recv() {
            Ok(Ok(result)) => result.map_err(fault),
            Ok(Err(_)) => {
                let text = format!("no answer within {} s", patience.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
            Err(_) => Err(io::Error::other("the bucket's thread ended")),
        }
    }

    fn put_whole(&self, path: Path, source: &dyn ReadAt, len: u64) -> io::Result<()> {
        let mut parts = Vec::new();
        for at in (0..len).step_by(PART_BYTES) {
            parts.push(part(source, at, len)?);
        }
        let store = Arc::clone(&self.store);
        let payload: PutPayload = parts.into_iter().collect();
        self.run(async move { store.put(&path, payload).await }).map(|_| ())
    }

    fn put_parts(&self, path: &Path, source: &dyn ReadAt, len: u64) -> io::Result<()> {
        let (store, to) = (Arc::clone(&self.store), path.clone());
        let begun = self.run(async move {
            match store.put_multipart(&to).await {
                Err(StoreError::NotImplemented { .. }) => Ok(None),
                begun => begun.map(Some),
            }
        })?;
        // WebDAV has no parts: then it takes memory for all of it.
        let Some(mut upload) = begun else { return self.put_whole(path.clone(), source, len) };
        for at in (0..len).step_by(PART_BYTES) {
            let sent = part(source, at, len)
                .and_then(|bytes| self.run(upload.put_part(PutPayload::from_bytes(bytes))));
            if let Err(error) = sent {
                // The bucket may keep parts that nobody takes back: its own rules end them.
                let _ = self.run(async move { upload.abort().await });
                return Err(error);
            }
        }
        self.run(async move { upload.complete().await }).map(|_| ())
    }

    /// Makes a file of a folder durable, which the crate does not.
    fn sync(&self, object: &str) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let file = folder.join(object);
        File::open(&file)?.sync_all()?;
        for above in file.ancestors().skip(1) {
            File::open(above)?.sync_all()?;
            if folder.parent() == Some(above) {
                break;
            }
        }
        Ok(())
    }
}

/// The bytes of a part, the last one shorter.
fn part(source: &dyn ReadAt, at: u64, len: u64) -> io::Result<Bytes> {
    let bytes = usize::try_from(len - at).unwrap_or(PART_BYTES).min(PART_BYTES);
    let mut buffer = BytesMut::zeroed(bytes);
    source.read_exact_at(&mut buffer, at)?;
    Ok(buffer.freeze())
}

fn fault(error: StoreError) -> io::Error {
    let kind = match &error {
        StoreError::NotFound { .. } => io::ErrorKind::NotFound,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl Bucket for ObjectBucket {
    fn name(&self) -> &str {
        &self.name
    }

    fn put(&self, object: &str, source: &dyn ReadAt, len: u64) -> io::Result<()> {
        let path = self.path(object);
        match len <= PART_BYTES as u64 {
            true => self.put_whole(path, source, len)?,
            false => self.put_parts(&path, source, len)?,
        }
        self.sync(object)
    }

    fn read(&self, object: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        for part in buffer.chunks_mut(PART_BYTES) {
            let (store, path) = (Arc::clone(&self.store), self.path(object));
            let range = at..at + part.len() as u64;
            let read = async move { store.get_range(&path, range).await };
            let bytes = self.run_within(READ_PATIENCE, read)?;
            if bytes.len() != part.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            part.copy_from_slice(&bytes);
            at += bytes.len() as u64;
        }
        Ok(())
    }

    fn remove(&self, object: &str) -> io::Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(object));
        self.run(async move {
            match store.delete(&path).await {
                Err(StoreError::NotFound { .. }) => Ok(()),
                result => result,
            }
        })
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let below = self.path(folder);
        let (store, prefix) = (Arc::clone(&self.store), below.clone());
        let found =
            self.run(async move { store.list(Some(&prefix)).try_collect::<Vec<_>>().await })?;
        let name = |path: &Path| {
            let parts: Vec<_> = path.prefix_match(&below)?.collect();
            Some(parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/"))
        };
        Ok(found.iter().filter_map(|meta| Some((name(&meta.location)?, meta.size))).collect())
    }
}

impl fmt::Debug for ObjectBucket {
    /// Without the store, which may show what it was given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBucket").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for ObjectBucket {
    fn drop(&mut self) {
        // Waiting for it is not allowed on every thread.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
