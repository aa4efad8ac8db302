//! The task that puts a data set into memory.
//!
//! Owns `load`. May not decode images. Invariant: both sets hold the data set's samples in its own
//! order, one record each.

use cirrus::Context;

use super::{Args, TEST, TRAIN, open, record};
use crate::datasets::Split;
use crate::error::Error;
use crate::fetch::Silent;

/// The object that holds the names of the classes, as JSON.
pub(super) const CLASSES: &str = "classes";

/// How many test images there are for each training image under `--limit`.
const TEST_SHARE: u64 = 5;

/// Stores every image of the data set, encoded as it is.
#[cirrus::task(cpu = 1, memory = "1GiB")]
pub(super) fn load(ctx: Context, args: Args) -> cirrus::Result<()> {
    let data = open(&args, &Silent)?;
    let classes = serde_json::to_vec(data.classes())
        .map_err(|error| cirrus::Error::internal("the classes").with_source(error))?;
    ctx.store()?.put(CLASSES, classes)?;
    let count = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    let limits = [
        (Split::Test, TEST, args.limit.map(|limit| count(limit.div_ceil(TEST_SHARE)))),
        (Split::Train, TRAIN, args.limit.map(count)),
    ];
    for (split, name, limit) in limits {
        let mut set = ctx.write_set(name)?;
        let mut failed = None;
        let filled = data.for_each(split, limit, &mut |sample| {
            if ctx.is_cancelled() {
                failed = Some(cirrus::Error::new(cirrus::Kind::Cancelled, "loading"));
            } else if let Err(error) = set.push(record::encode(&sample)) {
                failed = Some(error);
            }
            match failed {
                None => Ok(()),
                Some(_) => Err(Error::input("the store failed")),
            }
        });
        match failed {
            Some(error) => return Err(error),
            None => filled?,
        }
        if set.seal()? == 0 {
            return Err(cirrus::Error::input(format!(
                "{} has no {name} images; give it more",
                args.data
            )));
        }
    }
    Ok(())
}
