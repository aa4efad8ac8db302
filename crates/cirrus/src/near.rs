//! A pool as a process reads it: through the cache that the application declares, or without.
//!
//! Owns the choice. May not know sets or tasks. Invariant: what is written is not seen here later
//! than the cache's freshness says.

use cirrus_store::cache::{Cache, Source};
use cirrus_store::{Client, Key, Object, Version};

/// Where reads of a pool go.
#[derive(Debug, Clone)]
pub(crate) enum Near {
    Client(Client),
    Cache(Cache<Client>),
}

type Result<T> = cirrus_store::Result<T>;

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything")]
impl Source for Near {
    async fn get(&self, key: &Key) -> Result<Object> {
        match self {
            Self::Client(client) => client.get(key).await,
            Self::Cache(cache) => cache.get(key).await,
        }
    }

    async fn get_if_newer(&self, key: &Key, version: Version) -> Result<Option<Object>> {
        match self {
            Self::Client(client) => client.get_if_newer(key, version).await,
            Self::Cache(cache) => Source::get_if_newer(cache, key, version).await,
        }
    }

    async fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Object> {
        match self {
            Self::Client(client) => client.get_range(key, offset, len).await,
            Self::Cache(cache) => cache.get_range(key, offset, len).await,
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Object>> {
        match self {
            Self::Client(client) => client.get_many(keys).await,
            Self::Cache(cache) => cache.get_many(keys).await,
        }
    }
}
