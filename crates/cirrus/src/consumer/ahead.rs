//! What the reading thread has ready for the body, bounded in bytes.
//!
//! Owns the queue between the two threads. May not know splits. Invariant: batches leave in the
//! order in which they came.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Batch;
use crate::error::{Error, Result};

/// Encoded bytes of batches that wait for the body, beside the split that is being read; one batch
/// waits even if it is larger.
const AHEAD_BYTES_MAX: usize = 64 << 20;

/// What the reader hands to the body, bounded in bytes.
#[derive(Debug)]
pub(super) struct Ahead<T> {
    state: Mutex<AheadState<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct AheadState<T> {
    batches: VecDeque<(usize, Batch<T>, bool)>,
    bytes: usize,
    window_full: bool,
    /// How reading ended.
    end: Option<Result<()>>,
    closed: bool,
}

pub(super) enum Taken<T> {
    Batch(Batch<T>, bool),
    End,
    Failed(Error),
    WindowFull,
    Nothing,
}

impl<T> Default for Ahead<T> {
    fn default() -> Self {
        let batches = VecDeque::new();
        let state = AheadState { batches, bytes: 0, window_full: false, end: None, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> Ahead<T> {
    /// Waits for room; false when nobody listens any more.
    pub(super) fn put(&self, bytes: usize, batch: Batch<T>, due: bool) -> bool {
        let mut state = self.state.lock();
        while !state.closed && state.bytes > 0 && state.bytes + bytes > AHEAD_BYTES_MAX {
            self.changed.wait(&mut state);
        }
        state.bytes += bytes;
        state.batches.push_back((bytes, batch, due));
        self.changed.notify_all();
        !state.closed
    }

    pub(super) fn take(&self, patience: Duration) -> Taken<T> {
        let mut state = self.state.lock();
        if state.batches.is_empty() && state.end.is_none() && !state.window_full {
            self.changed.wait_for(&mut state, patience);
        }
        if let Some((bytes, batch, due)) = state.batches.pop_front() {
            state.bytes -= bytes;
            self.changed.notify_all();
            return Taken::Batch(batch, due);
        }
        let window_full = state.window_full;
        match &mut state.end {
            // Nothing comes after it: whoever asks again is told the same.
            Some(Err(error)) => {
                let again = Error::new(error.kind(), error.to_string());
                Taken::Failed(std::mem::replace(error, again))
            }
            Some(Ok(())) => Taken::End,
            None if window_full => Taken::WindowFull,
            None => Taken::Nothing,
        }
    }

    /// Nothing more comes. The first end counts.
    pub(super) fn end(&self, end: Result<()>) {
        self.state.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Nothing more comes before a checkpoint: waits for one; false when nobody listens any more.
    pub(super) fn wait_for_window(&self) -> bool {
        let mut state = self.state.lock();
        state.window_full = true;
        self.changed.notify_all();
        while state.window_full && !state.closed {
            self.changed.wait(&mut state);
        }
        !state.closed
    }

    pub(super) fn window_moved(&self) {
        self.state.lock().window_full = false;
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}
