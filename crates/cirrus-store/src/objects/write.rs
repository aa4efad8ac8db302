//! Puts, deletes, copies and renames.
//!
//! Owns what the trait's modes ask of the client. Invariant: a condition is the node's to check, in
//! the write itself.

use std::error::Error as StdError;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, Stream, StreamExt, TryStreamExt, iter};
use object_store::path::Path;
use object_store::{
    CopyMode, PutMode, PutOptions, PutPayload, PutResult, RenameTargetMode, UpdateVersion,
};

use crate::client::{Condition, PutOptions as ClientPutOptions};
use crate::error::{Error, Kind};
use crate::key::{Key, Version};
use crate::objects::PathStore;
use crate::objects::errors;
use crate::objects::read::{tag, version_of};

/// A value of chunks is gathered up to here; a longer one is streamed, over a connection of its own.
const GATHERED_BYTES_MAX: u64 = 4 << 20;

/// Names that are deleted in one batch.
const DELETES_MAX: usize = 512;

pub(super) fn put_result(version: Version) -> PutResult {
    PutResult { e_tag: Some(tag(version)), version: None }
}

impl PathStore {
    pub(super) async fn write(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if !options.attributes.is_empty() {
            return Err(errors::not_implemented("put_opts with attributes"));
        }
        let key = self.names.key(path)?;
        let condition = match &options.mode {
            PutMode::Overwrite => Condition::Always,
            PutMode::Create => Condition::IfAbsent,
            PutMode::Update(update) => Condition::IfVersion(wanted(path, update)?),
        };
        let put = ClientPutOptions { condition, expires_at: None };
        let version = match payload.as_ref() {
            [whole] => self.client.put_with(&key, whole.clone(), put).await,
            _ => {
                let len = payload.content_length() as u64;
                let chunks = iter(payload.into_iter().map(Ok::<_, Error>));
                self.put_chunks(&key, len, chunks, put).await
            }
        };
        match (version, options.mode) {
            (Ok(version), _) => Ok(put_result(version)),
            (Err(error), PutMode::Create) => Err(errors::of_new(path, error)),
            (Err(error), PutMode::Overwrite | PutMode::Update(_)) => Err(errors::of(path, error)),
        }
    }

    /// One object of `len` bytes that come in chunks.
    pub(super) async fn put_chunks<E>(
        &self,
        key: &Key,
        len: u64,
        chunks: impl Stream<Item = Result<Bytes, E>>,
        options: ClientPutOptions,
    ) -> crate::Result<Version>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        if len > GATHERED_BYTES_MAX {
            return Box::pin(self.client.put_stream(key, len, chunks, options)).await;
        }
        let failed =
            |error| Error::new(Kind::Closed, "the source of the value failed").with_source(error);
        let mut value = BytesMut::new();
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
            value.extend_from_slice(&chunk);
        }
        self.client.put_with(key, value.freeze(), options).await
    }

    /// In order; a name that is not there is an error of its own.
    pub(super) fn remove(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let store = self.clone();
        let batches = paths.ready_chunks(DELETES_MAX).then(move |batch| {
            let store = store.clone();
            async move { iter(store.remove_batch(batch).await) }
        });
        batches.flatten().boxed()
    }

    async fn remove_batch(
        &self,
        batch: Vec<object_store::Result<Path>>,
    ) -> Vec<object_store::Result<Path>> {
        let named = |path: object_store::Result<Path>| {
            let path = path?;
            Ok((self.names.key(&path)?, path))
        };
        let named: Vec<object_store::Result<(Key, Path)>> = batch.into_iter().map(named).collect();
        let keys: Vec<Key> = named.iter().flatten().map(|(key, _)| key.clone()).collect();
        let mut answers = self.client.delete_many(&keys).await.into_iter();
        let each = named.into_iter().map(|named| {
            let (key, path) = named?;
            let missing = || Error::new(Kind::Protocol, format!("no answer for {key:?}"));
            match answers.next().unwrap_or_else(|| Err(missing())) {
                Ok(()) => Ok(path),
                Err(error) => Err(errors::of(&path, error)),
            }
        });
        each.collect()
    }

    /// The version of `from` that was copied.
    pub(super) async fn copied(
        &self,
        from: &Path,
        to: &Path,
        mode: CopyMode,
    ) -> object_store::Result<Version> {
        let (source, target) = (self.names.key(from)?, self.names.key(to)?);
        let stream = self.client.get_stream(&source).await;
        let stream = stream.map_err(|error| errors::of(from, error))?;
        let (version, size) = (stream.version(), stream.size());
        let condition = match mode {
            CopyMode::Overwrite => Condition::Always,
            CopyMode::Create => Condition::IfAbsent,
        };
        let put = ClientPutOptions { condition, expires_at: None };
        match (self.put_chunks(&target, size, stream, put).await, mode) {
            (Ok(_), _) => Ok(version),
            (Err(error), CopyMode::Create) => Err(errors::of_new(to, error)),
            (Err(error), CopyMode::Overwrite) => Err(errors::of(to, error)),
        }
    }

    /// A copy, then a delete of what was copied: a write to `from` in between is kept, and makes
    /// this fail with the copy in its place.
    pub(super) async fn renamed(
        &self,
        from: &Path,
        to: &Path,
        mode: RenameTargetMode,
    ) -> object_store::Result<()> {
        let mode = match mode {
            RenameTargetMode::Overwrite => CopyMode::Overwrite,
            RenameTargetMode::Create => CopyMode::Create,
        };
        let copied = self.copied(from, to, mode).await?;
        if from == to {
            return Ok(());
        }
        let condition = Condition::IfVersion(copied);
        let deleted = self.client.delete_with(&self.names.key(from)?, condition).await;
        deleted.map_err(|error| errors::of(from, error))
    }
}

/// The version that an update asks for.
fn wanted(path: &Path, update: &UpdateVersion) -> object_store::Result<Version> {
    let named = update.e_tag.as_deref().or(update.version.as_deref());
    match named.and_then(version_of) {
        // Version 0 is that of no object, and an update of nothing is no update.
        Some(version) if version > Version(0) => Ok(version),
        Some(_) | None => {
            let text = format!("`{path}` has never had the tag {named:?}");
            Err(errors::of(path, Error::new(Kind::WrongVersion, text)))
        }
    }
}
