//! The thread that leases splits and reads their records ahead of the body.
//!
//! Owns asking for leases and the order of records within a split. May not map or commit.
//! Invariant: the body hears of a split's beginning before any of its records.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use cirrus_store::iter::{
    EpochSeed, Order, Records, RecordsOptions, Sequential, Shuffled, Strided, Windowed,
};

use super::Record;
use crate::api::{Grant, LeaseAnswer, Refusal, RefusalKind};
use crate::context::Context;
use crate::counters::BYTES_IN;
use crate::error::{Error, Result};
use crate::sets::SetReader;
use crate::split::{OrderSpec, SplitSpec};

/// Records that cross to the body's thread together.
const GROUP_RECORDS: usize = 32;
/// Groups that may wait there.
pub(super) const GROUPS_MAX: usize = 4;

/// What the reading thread hands over.
pub(super) enum Read {
    Begin(Grant),
    Records(Vec<Record>),
    End(Grant),
    Failed(Error),
}

impl Read {
    /// The split that begins here.
    pub(super) fn grant(self) -> Option<Grant> {
        match self {
            Self::Begin(grant) => Some(grant),
            Self::Records(_) | Self::End(_) | Self::Failed(_) => None,
        }
    }
}

/// The thread that leases and reads ahead.
pub(super) struct Reader {
    pub(super) context: Context,
    pub(super) name: String,
    pub(super) spec: SplitSpec,
    pub(super) set: SetReader,
    pub(super) sender: SyncSender<Read>,
    /// The body maps no more: a send tells so as well, but not to one that waits for a lease.
    pub(super) ended: Arc<AtomicBool>,
}

impl Reader {
    pub(super) fn run(self) {
        if let Err(error) = self.read_all() {
            // Nobody listens when the body has ended; then its own error says why.
            let _ = self.sender.send(Read::Failed(error));
        }
    }

    fn read_all(&self) -> Result<()> {
        let (member, control) = (self.context.member(), self.context.control());
        let mut request = control.request();
        while !self.context.is_cancelled() && !self.ended.load(Ordering::Relaxed) {
            match control.lease(member, &self.name, request) {
                // What it was answered with was taken back before the answer came.
                Err(error) if is_stale_request(&error) => request = control.request(),
                Err(error) => return Err(error),
                Ok(LeaseAnswer::Wait) => {}
                Ok(LeaseAnswer::Ended) => return Ok(()),
                Ok(LeaseAnswer::Granted(grant)) => {
                    request = control.request();
                    if self.read_split(grant)?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn read_split(&self, grant: Grant) -> Result<ControlFlow<()>> {
        if self.sender.send(Read::Begin(grant)).is_err() {
            return Ok(ControlFlow::Break(()));
        }
        let range = grant.range;
        let seed = EpochSeed { seed: self.spec.seed, epoch: u64::from(range.epoch) };
        let order: Arc<dyn Order> = match self.spec.order {
            OrderSpec::Sequential => Arc::new(Sequential::new(self.set.len())),
            OrderSpec::Shuffled => Arc::new(Shuffled::new(seed, self.set.len())),
            OrderSpec::Windowed { objects } => {
                Arc::new(Windowed::new(seed, self.set.set().manifest(), objects))
            }
            OrderSpec::Strided { step } => Arc::new(Strided::new(self.set.len(), step)?),
        };
        let positions = range.first_position..range.first_position + range.records;
        let (pool, set) = (self.set.pool().clone(), self.set.set().clone());
        let mut records = Records::new(pool, set, order, positions, RecordsOptions::default());
        let (runtime, read) = (self.context.runtime(), self.context.counter(BYTES_IN));
        loop {
            let group = runtime.block_on(async {
                let mut group = Vec::with_capacity(GROUP_RECORDS);
                while group.len() < GROUP_RECORDS {
                    let Some(record) = records.next().await.transpose()? else { break };
                    group.push(Record {
                        epoch: range.epoch,
                        position: record.position,
                        index: record.index,
                        bytes: record.bytes,
                    });
                }
                Ok::<_, cirrus_store::Error>(group)
            })?;
            if group.is_empty() {
                break;
            }
            let bytes: usize = group.iter().map(|record| record.bytes.len()).sum();
            read.add(bytes as u64);
            if self.sender.send(Read::Records(group)).is_err() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(match self.sender.send(Read::End(grant)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    }
}

fn is_stale_request(error: &Error) -> bool {
    Refusal::of(error).is_some_and(|refusal| refusal.kind == RefusalKind::StaleRequest)
}
