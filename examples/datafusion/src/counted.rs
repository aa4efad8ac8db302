//! What a query reads.
//!
//! Owns counting the bytes that a store is asked for. Knows nothing of what is behind the store.
//! Invariant: everything is handed on as it came.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
};
use futures_util::stream::BoxStream;

/// A store that counts what is read of it.
#[derive(Debug)]
pub(crate) struct Counted {
    store: Arc<dyn ObjectStore>,
    ranges: AtomicU64,
    bytes: AtomicU64,
}

/// Ranges of objects that were asked for, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) ranges: u64,
    pub(crate) bytes: u64,
}

impl Counted {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, ranges: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// What was read since this was last asked for.
    pub(crate) fn take(&self) -> Reads {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Reads { ranges: take(&self.ranges), bytes: take(&self.bytes) }
    }

    fn count(&self, bytes: u64) {
        self.ranges.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Counted {
    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let result = self.store.get_opts(location, options).await?;
        self.count(result.range.end - result.range.start);
        Ok(result)
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let values = self.store.get_ranges(location, ranges).await?;
        values.iter().for_each(|value| self.count(value.len() as u64));
        Ok(values)
    }

    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.store.copy_opts(from, to, options).await
    }

    async fn rename_opts(
        &self,
        from: &Path,
        to: &Path,
        options: RenameOptions,
    ) -> object_store::Result<()> {
        self.store.rename_opts(from, to, options).await
    }
}
