//! Which objects there are.
//!
//! Owns listings. Invariant: what a listing shows can be had by its path.
//!
//! A node has no order of names: a scan goes over its slots, and it looks at every name that it
//! holds, whatever the prefix. So a listing comes in no order, one from an offset costs what a whole
//! one does, and one with a delimiter is gathered and sorted here.

use std::collections::BTreeSet;

use futures_util::future::ready;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt, iter, try_unfold};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta};

use crate::client::PageItem;
use crate::key::SLOTS;
use crate::objects::PathStore;
use crate::objects::errors;
use crate::objects::names::Names;
use crate::objects::read::{tag, time_of};

/// Names that are asked for at once.
const PAGE_NAMES: u32 = 4096;

impl PathStore {
    pub(super) fn names_below(
        &self,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let begin = self.names.below(prefix);
        let pages = try_unfold((self.clone(), (0, 0)), move |(store, from)| {
            let begin = begin.clone();
            async move {
                if from.0 >= SLOTS {
                    return Ok::<_, object_store::Error>(None);
                }
                let page = store.client.scan(begin.as_bytes(), from, PAGE_NAMES).await;
                let page = page.map_err(errors::generic)?;
                let metas: Vec<_> =
                    page.items.into_iter().filter_map(|item| meta(&store.names, item)).collect();
                Ok(Some((iter(metas.into_iter().map(Ok)), (store, page.next))))
            }
        });
        pages.try_flatten().boxed()
    }

    pub(super) fn names_after(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let offset = offset.clone();
        let is_after = move |meta: &ObjectMeta| ready(meta.location > offset);
        self.names_below(prefix).try_filter(is_after).boxed()
    }

    pub(super) async fn children(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let root = prefix.cloned().unwrap_or_default();
        let (mut common, mut objects) = (BTreeSet::new(), Vec::new());
        let mut names = self.names_below(prefix);
        while let Some(meta) = names.try_next().await? {
            let Some(mut below) = meta.location.prefix_match(&root) else { continue };
            let (child, grandchild) = (below.next(), below.next());
            match (child, grandchild) {
                (Some(child), Some(_)) => {
                    common.insert(root.clone().join(child));
                }
                (Some(_), None) => {
                    drop(below);
                    objects.push(meta);
                }
                (None, _) => {}
            }
        }
        objects.sort_unstable_by(|a: &ObjectMeta, b| a.location.cmp(&b.location));
        Ok(ListResult { common_prefixes: common.into_iter().collect(), objects })
    }
}

/// `None` for a queue, and for a key that no path has.
fn meta(names: &Names, item: PageItem) -> Option<ObjectMeta> {
    let location = names.path(&item.key).filter(|_| !item.queue)?;
    Some(ObjectMeta {
        location,
        last_modified: time_of((item.modified_at > 0).then_some(item.modified_at)),
        size: item.size,
        e_tag: Some(tag(item.version)),
        version: None,
    })
}
