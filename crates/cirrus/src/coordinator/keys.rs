//! Where a channel's batches and its consumer's checkpoints lie in the store.
//!
//! Owns the layouts `!channel/<channel>/{<split>.<attempt>}/<batch>` and
//! `!checkpoint/<channel>/<generation>.<batches>`. May not know a store. Invariant: the objects of one
//! attempt share one prefix, one slot, and nothing with others; so do a generation's, but the slot.

use crate::api::{Attempt, Generation};

/// What every object of one attempt begins with. The braces are the hash tag that puts an
/// attempt's batches into one slot, hence on one node.
pub(crate) fn attempt_prefix(channel: &str, split: u64, attempt: Attempt) -> String {
    format!("!channel/{channel}/{{{split:016x}.{:x}}}/", attempt.0)
}

/// The object of batch `batch` of the split, counted within the split.
pub(crate) fn batch_key(channel: &str, split: u64, attempt: Attempt, batch: u32) -> String {
    format!("{}{batch:08x}", attempt_prefix(channel, split, attempt))
}

/// What every checkpoint of one generation begins with.
pub(crate) fn checkpoint_prefix(channel: &str, generation: Generation) -> String {
    format!("!checkpoint/{channel}/{generation}.")
}

/// The checkpoint that covers so many batches.
pub(crate) fn checkpoint_key(channel: &str, generation: Generation, batches: u64) -> String {
    format!("{}{batches}", checkpoint_prefix(channel, generation))
}

/// The generation that a checkpoint is of; `None` if its key is none of [`checkpoint_key`]'s.
pub(crate) fn generation_of(channel: &str, key: &str) -> Option<Generation> {
    let (generation, _) =
        key.strip_prefix("!checkpoint/")?.strip_prefix(channel)?.split_once('.')?;
    generation.strip_prefix('/')?.parse().ok().map(Generation)
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

    #[test]
    fn a_checkpoint_tells_its_generation() {
        let key = checkpoint_key("batches", Generation(12), 40);
        assert_eq!(key, "!checkpoint/batches/12.40");
        assert!(!key.starts_with(&checkpoint_prefix("batches", Generation(1))));
        assert_eq!(generation_of("batches", &key), Some(Generation(12)));
        assert_eq!(generation_of("batch", &key), None);
        assert_eq!(generation_of("batches", "!checkpoint/batches/x.40"), None);
    }
}
