//! Where a channel's batches lie in the store.
//!
//! Owns the layout `!channel/<channel>/{<split>.<attempt>}/<batch>`. May not know a store.
//! Invariant: the objects of one attempt share one prefix, one slot, and nothing with others.

use crate::api::Attempt;

/// What every object of one attempt begins with. The braces are the hash tag that puts an
/// attempt's batches into one slot, hence on one node.
pub(crate) fn attempt_prefix(channel: &str, split: u64, attempt: Attempt) -> String {
    format!("!channel/{channel}/{{{split:016x}.{:x}}}/", attempt.0)
}

/// The object of batch `batch` of the split, counted within the split.
pub(crate) fn batch_key(channel: &str, split: u64, attempt: Attempt, batch: u32) -> String {
    format!("{}{batch:08x}", attempt_prefix(channel, split, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attempts_prefix_begins_anothers() {
        let key = batch_key("batches", 26, Attempt(17), 3);
        assert_eq!(key, "!channel/batches/{000000000000001a.11}/00000003");
        assert!(!key.starts_with(&attempt_prefix("batches", 26, Attempt(1))));
        assert!(key.starts_with(&attempt_prefix("batches", 26, Attempt(17))));
    }
}
