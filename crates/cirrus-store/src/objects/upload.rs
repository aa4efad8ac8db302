//! Objects that are made of parts.
//!
//! Owns uploads: their names, their parts, and making one object of them. Invariant: the object is
//! put once, whole, of the parts that were sent for it, in the order of their numbers.
//!
//! Parts are objects of their own, each on the node of its slot, so they come in any order and from
//! anywhere. `complete` reads them one after the other and streams them into the object: at most a
//! few parts of 1 MiB are here at once. Parts of an upload that nobody ends go after 24 hours.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    MultipartId, MultipartUpload, PutMultipartOptions, PutPayload, PutResult, UploadPart,
};
use parking_lot::Mutex;

use crate::client::{Condition, PutOptions};
use crate::error::{Error, Kind};
use crate::key::{Key, Version};
use crate::objects::write::put_result;
use crate::objects::{PathStore, errors, names};

/// The most bytes of an object.
const OBJECT_BYTES_MAX: u64 = 1 << 30;

/// How long a part is kept.
const PART_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// A part that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    number: usize,
    version: Version,
    bytes: u64,
}

impl Part {
    fn to_id(self) -> PartId {
        PartId { content_id: format!("{}.{}.{}", self.number, self.version, self.bytes) }
    }

    fn of(id: &PartId) -> Result<Self, Error> {
        let invalid = || Error::new(Kind::Invalid, format!("`{}` is no part", id.content_id));
        let fields: Vec<&str> = id.content_id.split('.').collect();
        let [number, version, bytes] = fields[..] else { return Err(invalid()) };
        Ok(Self {
            number: number.parse().map_err(|_| invalid())?,
            version: Version(version.parse().map_err(|_| invalid())?),
            bytes: bytes.parse().map_err(|_| invalid())?,
        })
    }
}

impl PathStore {
    /// Asks nothing of a node: an upload is its name until it has a part.
    pub(super) fn begin(
        &self,
        path: &Path,
        options: &PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            return Err(errors::not_implemented("put_multipart_opts with attributes"));
        }
        self.names.key(path)?;
        let (store, path, upload) = (self.clone(), path.clone(), name());
        Ok(Box::new(Upload {
            store,
            path,
            upload,
            begun: 0,
            bytes: 0,
            sent: Arc::default(),
            ended: false,
        }))
    }

    async fn put_part(&self, upload: &str, number: usize, data: PutPayload) -> crate::Result<Part> {
        let key = names::part(upload, number)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ends = u64::try_from((since + PART_LIFE).as_millis()).unwrap_or(u64::MAX);
        let options = PutOptions { condition: Condition::Always, expires_at: Some(ends) };
        let bytes = data.content_length() as u64;
        let version = match data.as_ref() {
            [whole] => self.client.put_with(&key, whole.clone(), options).await?,
            _ => {
                let chunks = iter(data.into_iter().map(Ok::<_, Error>));
                self.put_chunks(&key, bytes, chunks, options).await?
            }
        };
        Ok(Part { number, version, bytes })
    }

    /// Puts the object; its parts stay.
    async fn assemble(&self, path: &Path, upload: &str, parts: &[Part]) -> crate::Result<Version> {
        let key = self
            .names
            .key(path)
            .map_err(|error| Error::new(Kind::Invalid, format!("`{path}`")).with_source(error))?;
        let bytes = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.bytes));
        let bytes = bytes.filter(|bytes| *bytes <= OBJECT_BYTES_MAX).ok_or_else(too_large)?;
        let mut keys = Vec::with_capacity(parts.len());
        for part in parts {
            keys.push((names::part(upload, part.number)?, *part));
        }
        let client = self.client.clone();
        let streams = iter(keys).then(move |(key, part)| {
            let client = client.clone();
            async move {
                let stream = client.get_stream(&key).await?;
                match (stream.version(), stream.size()) == (part.version, part.bytes) {
                    true => Ok(stream),
                    false => Err(Error::new(Kind::Invalid, format!("{key:?} was sent again"))),
                }
            }
        });
        let chunks = streams.try_flatten();
        Box::pin(self.put_chunks(&key, bytes, chunks, PutOptions::default())).await
    }

    async fn discard(&self, keys: &[Key]) -> crate::Result<()> {
        for deleted in self.client.delete_many(keys).await {
            match deleted {
                Err(error) if error.kind() != Kind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The object, and its parts gone: where they cannot be deleted they end by themselves.
    async fn finish(
        &self,
        path: &Path,
        upload: &str,
        parts: &[Part],
    ) -> object_store::Result<PutResult> {
        let version = self.assemble(path, upload, parts).await;
        let version = version.map_err(|error| errors::of(path, error))?;
        let deleted = match names_of(upload, parts.iter().map(|part| part.number)) {
            Ok(keys) => self.discard(&keys).await,
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            tracing::warn!(%path, %error, "parts of a complete upload are left for their time");
        }
        Ok(put_result(version))
    }
}

/// An upload of one writer.
struct Upload {
    store: PathStore,
    path: Path,
    upload: MultipartId,
    /// Parts that were handed in, and their bytes.
    begun: usize,
    bytes: u64,
    /// Those that are stored.
    sent: Arc<Mutex<Vec<Part>>>,
    ended: bool,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({} of `{}`, {} parts)", self.upload, self.path, self.begun)
    }
}

impl Upload {
    fn open(&self) -> object_store::Result<()> {
        match self.ended {
            false => Ok(()),
            true => {
                let text = format!("the upload of `{}` has ended", self.path);
                Err(errors::of(&self.path, Error::new(Kind::Invalid, text)))
            }
        }
    }
}

#[async_trait::async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let number = self.begun;
        self.begun += 1;
        self.bytes = self.bytes.saturating_add(data.content_length() as u64);
        let admitted = match self.bytes <= OBJECT_BYTES_MAX {
            true => self.open(),
            false => Err(errors::of(&self.path, too_large())),
        };
        let (store, path, upload) = (self.store.clone(), self.path.clone(), self.upload.clone());
        let sent = self.sent.clone();
        Box::pin(async move {
            admitted?;
            let part = store.put_part(&upload, number, data).await;
            sent.lock().push(part.map_err(|error| errors::of(&path, error))?);
            Ok(())
        })
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        self.open()?;
        let mut parts = self.sent.lock().clone();
        parts.sort_unstable_by_key(|part| part.number);
        if parts.len() != self.begun {
            let text = format!(
                "{} of {} parts of `{}` were not stored",
                self.begun - parts.len().min(self.begun),
                self.begun,
                self.path
            );
            return Err(errors::of(&self.path, Error::new(Kind::Invalid, text)));
        }
        let result = self.store.finish(&self.path, &self.upload, &parts).await?;
        self.ended = true;
        Ok(result)
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.ended = true;
        let discarded = match names_of(&self.upload, 0..self.begun) {
            Ok(keys) => self.store.discard(&keys).await,
            Err(error) => Err(error),
        };
        discarded.map_err(|error| errors::of(&self.path, error))
    }
}

#[async_trait::async_trait]
impl MultipartStore for PathStore {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.names.key(path)?;
        Ok(name())
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> object_store::Result<PartId> {
        let part = Self::put_part(self, id, part_idx, data).await;
        part.map(Part::to_id).map_err(|error| errors::of(path, error))
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> object_store::Result<PutResult> {
        let parts = parts.iter().map(Part::of).collect::<crate::Result<Vec<Part>>>();
        let parts = parts.map_err(|error| errors::of(path, error))?;
        self.finish(path, id, &parts).await
    }

    /// Costs a listing: who aborts need not know which parts there are.
    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        let discarded = async {
            let parts = self.client.list(names::parts(id)?.as_bytes()).await?;
            let keys: Vec<Key> = parts.into_iter().map(|part| part.key).collect();
            self.discard(&keys).await
        };
        discarded.await.map_err(|error| errors::of(path, error))
    }
}

fn names_of(upload: &str, numbers: impl Iterator<Item = usize>) -> Result<Vec<Key>, Error> {
    numbers.map(|number| names::part(upload, number)).collect()
}

/// A name that no other upload has.
fn name() -> MultipartId {
    // The standard library's hasher keys are random for each process and instance.
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", half(), half())
}

fn too_large() -> Error {
    let text = format!("an object of more than {OBJECT_BYTES_MAX} bytes");
    Error::new(Kind::TooLarge, text).with_detail(OBJECT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_as_it_was_named() {
        let part = Part { number: 7, version: Version(1 << 41), bytes: OBJECT_BYTES_MAX };
        assert_eq!(Part::of(&part.to_id()).unwrap(), part);
        for text in ["", "1", "1.2", "1.2.3.4", "a.2.3", "1.-2.3"] {
            assert_eq!(
                Part::of(&PartId { content_id: text.into() }).unwrap_err().kind(),
                Kind::Invalid
            );
        }
        assert_ne!(name(), name());
        assert!(names::part(&name(), 0).is_ok());
    }
}
