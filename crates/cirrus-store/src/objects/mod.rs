//! Nodes as an object store: the trait that DataFusion, Polars, Lance and Delta read through.
//!
//! Owns what a path is here, and [`object_store::ObjectStore`] on top of a [`Client`]. Knows no node
//! and no frame. Invariant: every write is one put of the client, so nobody sees a part of an object.
//!
//! | of the trait | here |
//! |---|---|
//! | path | the key, under the store's prefix. Keys under `!parts/` are kept for uploads, and refused |
//! | e_tag | the object's version, quoted; it is never given twice for a key |
//! | version | the same number; only the newest is there, so none is reported |
//! | `last_modified` | the clock of the node that was written to, in ms |
//! | attributes | `NotImplemented`. Tags are ignored, as the trait asks for |
//! | get | one version, or an error where it is written meanwhile; parts of 1 MiB, 4 asked for ahead |
//! | list | in no order; costs a look at every name of every node |
//! | copy, rename | through the client; a rename is no transaction, but loses no write to its source |
//! | upload | parts are objects of 24 hours, made one by `complete`: until then both are on the nodes |
//! | limits | an object has at most 1 GiB, parts together too; a key 1,024 bytes |
//! | queues | are no objects: not listed, and an error to a get |

mod errors;
mod list;
mod names;
mod read;
mod upload;
mod write;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
};

use crate::client::Client;
use crate::objects::names::Names;

/// The objects of a pool by their paths, as an [`ObjectStore`] and an
/// [`object_store::multipart::MultipartStore`]. Clones share the client.
///
/// Dropping the future of a write abandons its answer: the write may still be applied.
#[derive(Clone)]
pub struct PathStore {
    client: Client,
    names: Names,
}

impl PathStore {
    /// All of the client's objects.
    pub fn new(client: Client) -> Self {
        Self { client, names: Names::default() }
    }

    /// The objects below `prefix`, which is no part of their paths.
    pub fn with_prefix(client: Client, prefix: &Path) -> Self {
        Self { client, names: Names::new(prefix) }
    }
}

impl fmt::Display for PathStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cirrus({})", self.names.prefix())
    }
}

impl fmt::Debug for PathStore {
    /// Without the client, whose options hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathStore").field("prefix", &self.names.prefix()).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for PathStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.write(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.begin(location, &options)
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.read(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.read_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.remove(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.names_below(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.names_after(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.children(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.copied(from, to, options.mode).await.map(|_| ())
    }

    async fn rename_opts(
        &self,
        from: &Path,
        to: &Path,
        options: RenameOptions,
    ) -> object_store::Result<()> {
        self.renamed(from, to, options.target_mode).await
    }
}
