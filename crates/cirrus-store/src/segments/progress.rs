//! How far the order of writes has come.
//!
//! Owns which positions are settled, and which of them were lost. Knows no disk. Invariant: a
//! position is settled once, after its write is durable or will never be.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::segments::inbox::again;

/// Stretches of lost positions that are remembered. Between two of them the owner has taken note of
/// the first, so nobody sleeps through so many.
const LOST_MAX: usize = 1024;

/// Positions are given to writes in the order of submission, from 1 on.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    settled: u64,
    losses: u64,
    lost: Vec<(u64, u64)>,
    why: Option<Arc<Error>>,
}

impl Progress {
    /// Writes up to this position are durable, or lost.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// How often writes were lost.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// What came of this position; `None` as long as that is not known.
    pub fn of(&self, position: u64) -> Option<Result<()>> {
        if position > self.settled {
            return None;
        }
        let before = self.lost.partition_point(|(_, last)| *last < position);
        let is_lost = self.lost.get(before).is_some_and(|(first, _)| *first <= position);
        Some(match &self.why {
            Some(why) if is_lost => Err(again(why)),
            _ => Ok(()),
        })
    }

    fn settle(&mut self, through: u64) {
        self.settled = self.settled.max(through);
    }

    fn lose(&mut self, first: u64, last: u64, why: &Error) {
        self.losses += 1;
        self.why = Some(Arc::new(again(why)));
        match self.lost.last_mut() {
            Some((_, end)) if *end + 1 >= first => *end = last,
            _ => self.lost.push((first, last)),
        }
        if self.lost.len() > LOST_MAX {
            self.lost.remove(0);
        }
        self.settle(last);
    }
}

/// Tells everybody who waits.
#[derive(Debug)]
pub(super) struct Teller(watch::Sender<Progress>);

impl Teller {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Progress::default()))
    }

    pub(super) fn listen(&self) -> watch::Receiver<Progress> {
        self.0.subscribe()
    }

    pub(super) fn settle(&self, through: u64) {
        self.0.send_modify(|progress| progress.settle(through));
    }

    pub(super) fn lose(&self, first: u64, last: u64, why: &Error) {
        self.0.send_modify(|progress| progress.lose(first, last, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_position_is_unknown_durable_or_lost() {
        let teller = Teller::new();
        let progress = teller.listen();
        let is = |position| progress.borrow().of(position).map(|result| result.is_ok());
        teller.settle(3);
        let why = Error::new(Kind::OutOfMemory, "full").with_detail(7);
        teller.lose(4, 5, &why);
        teller.lose(6, 6, &why);
        teller.settle(8);
        assert_eq!(
            (is(3), is(4), is(6), is(8), is(9)),
            (Some(true), Some(false), Some(false), Some(true), None)
        );
        let error = progress.borrow().of(5).unwrap().unwrap_err();
        assert_eq!((error.kind(), error.detail()), (Kind::OutOfMemory, 7));
        assert_eq!(progress.borrow().lost, [(4, 6)]);
    }
}
