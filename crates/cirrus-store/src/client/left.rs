//! What caches leave behind that are dropped with writes under way.
//!
//! Owns [`Unwritten`] and the list of such writes. Tasks of the caches carry them out; knows nothing
//! of those. Invariant: each failure is reported once.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::error::Error;
use crate::key::Key;

/// A value that a cache had accepted and that could not be written.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unwritten {
    /// Its key.
    pub key: Key,
    /// The value.
    pub value: Bytes,
    /// Why. Of [`Kind::Unknown`](crate::Kind::Unknown) it may have been written all the same.
    pub error: Error,
}

impl Unwritten {
    /// `value`, which could not be written as `key` because of `error`.
    pub(crate) fn new(key: Key, value: Bytes, error: Error) -> Self {
        Self { key, value, error }
    }
}

/// The writes of caches that are gone.
#[derive(Default)]
pub(super) struct Left(Mutex<State>);

#[derive(Default)]
struct State {
    under_way: Vec<BoxFuture<'static, Vec<Unwritten>>>,
    failed: Vec<Unwritten>,
    /// Somebody waits for the end of those under way.
    is_awaited: bool,
}

impl Left {
    pub(super) fn add(&self, writes: BoxFuture<'static, Vec<Unwritten>>) {
        let mut state = self.0.lock();
        // So that those that are over do not pile up. Who waits does that itself, with its own waker.
        if !state.is_awaited {
            state.look(&mut Context::from_waker(Waker::noop()));
        }
        state.under_way.push(writes);
    }

    /// Waits for all of them; what has failed.
    pub(super) async fn finish(&self) -> Vec<Unwritten> {
        poll_fn(|context| {
            let mut state = self.0.lock();
            state.is_awaited = true;
            state.look(context);
            match state.under_way.is_empty() {
                true => Poll::Ready(mem::take(&mut state.failed)),
                false => Poll::Pending,
            }
        })
        .await
    }
}

impl State {
    /// Takes out those that are over.
    fn look(&mut self, context: &mut Context<'_>) {
        let Self { under_way, failed, .. } = self;
        under_way.retain_mut(|writes| match writes.poll_unpin(context) {
            Poll::Pending => true,
            Poll::Ready(unwritten) => {
                failed.extend(unwritten);
                false
            }
        });
    }
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Left").field("under_way", &self.0.lock().under_way.len()).finish()
    }
}
