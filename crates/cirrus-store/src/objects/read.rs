//! Objects and ranges of them, under conditions.
//!
//! Owns gets: what is asked of the client, and what is said about an object. Invariant: conditions
//! are checked against the version whose bytes are handed out, never against another.
//!
//! A get is one round trip for the first part (at most 1 MiB), of whatever range; a range from the
//! end is two. A condition that does not hold has cost that part.

use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Attributes, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta};

use crate::client::ValueStream;
use crate::error::{Error, Kind};
use crate::key::{Key, Version};
use crate::objects::PathStore;
use crate::objects::errors;

/// How often a range from the end is asked for of an object that is written meanwhile.
const SUFFIX_TRIES: usize = 4;

/// The tag of a version, which no other content of the object has had.
pub(super) fn tag(version: Version) -> String {
    format!("\"{version}\"")
}

/// The version that a tag names, ours or as text.
pub(super) fn version_of(tag: &str) -> Option<Version> {
    tag.trim_matches('"').parse().ok().map(Version)
}

/// Where a node does not say when an object was written, it was in 1970.
pub(super) fn time_of(modified_at: Option<u64>) -> DateTime<Utc> {
    let ms = modified_at.and_then(|ms| i64::try_from(ms).ok());
    ms.and_then(DateTime::from_timestamp_millis).unwrap_or(DateTime::UNIX_EPOCH)
}

impl PathStore {
    pub(super) async fn read(
        &self,
        path: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let key = self.names.key(path)?;
        let stream = match (&options.range, options.head) {
            // A get of no bytes: unlike a stat it says that a queue is no object.
            (_, true) => self.client.get_stream_range(&key, 0..0).await,
            (None, false) => self.client.get_stream(&key).await,
            (Some(GetRange::Bounded(range)), false) => {
                self.client.get_stream_range(&key, range.clone()).await
            }
            (Some(GetRange::Offset(offset)), false) => {
                self.client.get_stream_range(&key, *offset..u64::MAX).await
            }
            (Some(GetRange::Suffix(len)), false) => self.suffix(&key, *len).await,
        };
        let stream = stream.map_err(|error| errors::of(path, error))?;
        let (version, size) = (stream.version(), stream.size());
        if let Some(wanted) = &options.version
            && version_of(wanted) != Some(version)
        {
            let text = format!("`{path}` has version {version}; others are not kept");
            return Err(errors::of(path, Error::new(Kind::NotFound, text)));
        }
        let meta = ObjectMeta {
            location: path.clone(),
            last_modified: time_of(stream.modified_at()),
            size,
            e_tag: Some(tag(version)),
            // It would promise that versions can be had which are no longer there.
            version: None,
        };
        options.check_preconditions(&meta)?;
        let range = match (options.range, options.head) {
            (_, true) => 0..0,
            (None, false) => 0..size,
            (Some(range), false) => range.as_range(size).map_err(|error| {
                let text = format!("a range of `{path}`, which has {size} bytes");
                errors::of(path, Error::new(Kind::Invalid, text).with_source(error))
            })?,
        };
        let path = path.clone();
        let parts = stream.map(move |part| part.map_err(|error| errors::of(&path, error)));
        let payload = GetResultPayload::Stream(parts.boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
    }

    /// The last `len` bytes, which cannot be asked for before the size is known.
    async fn suffix(&self, key: &Key, len: u64) -> crate::Result<ValueStream> {
        let mut size = self.client.stat(key).await?.size;
        for _ in 0..SUFFIX_TRIES {
            let range = size.saturating_sub(len)..u64::MAX;
            let stream = self.client.get_stream_range(key, range).await?;
            if stream.size() == size {
                return Ok(stream);
            }
            size = stream.size();
        }
        Err(Error::new(Kind::Busy, format!("{key:?} is written again and again")))
    }

    /// All ranges in batches, whatever lies between them: they are few round trips as they are.
    pub(super) async fn read_ranges(
        &self,
        path: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let key = self.names.key(path)?;
        let invalid = |range: &Range<u64>| {
            let text = format!("bytes {} to {} of `{path}`", range.start, range.end);
            errors::of(path, Error::new(Kind::Invalid, text))
        };
        if let Some(range) = ranges.iter().find(|range| range.start >= range.end) {
            return Err(invalid(range));
        }
        let mut first = None;
        let mut values = Vec::with_capacity(ranges.len());
        for (range, object) in ranges.iter().zip(self.client.get_ranges(&key, ranges).await) {
            let object = object.map_err(|error| errors::of(path, error))?;
            let version = *first.get_or_insert(object.version);
            if object.version != version {
                let text = format!("`{path}` was written while ranges of it were read");
                return Err(errors::of(path, Error::new(Kind::WrongVersion, text)));
            }
            if object.value.is_empty() {
                return Err(invalid(range));
            }
            values.push(object.value);
        }
        Ok(values)
    }
}
