//! Whether what is held may be handed out.
//!
//! Owns [`Freshness`]. Knows nothing of where an object is held.
//! Invariant: an object that has expired is never fresh.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::object::Object;

/// When an object that is held may be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Freshness {
    /// Always: keys are never written twice. Linearizable as long as that is true.
    Immutable,
    /// When the source confirms its version: a small round trip for a hit. Linearizable.
    #[default]
    VersionCheck,
    /// For this long after it was current. A read may be that much too old, no more.
    TimeToLive(Duration),
}

impl Freshness {
    /// Whether the object may be handed out as it is; it was current at `checked_at` or later.
    #[inline]
    pub(super) fn admits(self, checked_at: Instant, object: &Object) -> bool {
        let is_current = match self {
            Self::Immutable => true,
            Self::VersionCheck => false,
            Self::TimeToLive(limit) => checked_at.elapsed() < limit,
        };
        is_current && !has_expired(object)
    }
}

#[inline]
pub(super) fn has_expired(object: &Object) -> bool {
    object.expires_at.is_some_and(|at| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or(Duration::ZERO) >= Duration::from_millis(at)
    })
}
