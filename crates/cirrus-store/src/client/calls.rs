//! The open calls of a connection: who waits for which answer.
//!
//! Plain data behind the connection's lock; the clock is an argument. A call is a place in a slab,
//! taken again by later calls, so that none costs an allocation. Its number on the wire is the place
//! and how often it was taken. Invariant: an answer reaches the call that it belongs to or nobody.

use std::task::{Poll, Waker};

use tokio::time::Instant;

use crate::error::Result;
use crate::wire::Reply;

/// How a call ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The node answered, or the connection failed.
    Answered(Result<Reply>),
    /// The call's deadline has passed.
    Expired,
}

/// A slab of calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    places: Vec<Place>,
    /// The first of the free places, which are linked.
    free: Option<u32>,
    /// Calls that wait or whose answer has not been taken.
    open: usize,
    /// No call that waits has an earlier deadline.
    alarm: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    /// How often the place was taken.
    turn: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Free { next: Option<u32> },
    Waiting { waker: Option<Waker>, deadline: Instant },
    Ended(Ended),
}

impl Calls {
    /// A number for a new call.
    pub(super) fn open(&mut self, deadline: Instant) -> u64 {
        self.open += 1;
        self.alarm = Some(self.alarm.map_or(deadline, |alarm| alarm.min(deadline)));
        let state = State::Waiting { waker: None, deadline };
        if let Some(at) = self.free {
            let place = &mut self.places[at as usize];
            if let State::Free { next } = place.state {
                self.free = next;
            }
            place.turn = place.turn.wrapping_add(1);
            place.state = state;
            return id(at, place.turn);
        }
        let at = u32::try_from(self.places.len()).expect("calls are bounded by a semaphore");
        self.places.push(Place { turn: 0, state });
        id(at, 0)
    }

    /// How many calls are open.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// When to look for calls whose time is over.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    /// Looks for the call's answer; its waker is kept until there is one.
    pub(super) fn poll(&mut self, id: u64, waker: &Waker) -> Poll<Ended> {
        let Some((at, place)) = self.place(id) else { return Poll::Pending };
        match &mut place.state {
            State::Waiting { waker: kept, .. } => {
                match kept {
                    Some(kept) => kept.clone_from(waker),
                    None => *kept = Some(waker.clone()),
                }
                Poll::Pending
            }
            State::Ended(_) | State::Free { .. } => match self.release(at) {
                State::Ended(ended) => Poll::Ready(ended),
                State::Waiting { .. } | State::Free { .. } => Poll::Pending,
            },
        }
    }

    /// Ends a call; the waker of who waits for it. An answer to a call that was left is dropped.
    pub(super) fn end(&mut self, id: u64, ended: Ended) -> Option<Waker> {
        let (_, place) = self.place(id)?;
        let State::Waiting { waker, .. } = &mut place.state else { return None };
        let waker = waker.take();
        place.state = State::Ended(ended);
        waker
    }

    /// Its caller has left.
    pub(super) fn leave(&mut self, id: u64) {
        if let Some((at, _)) = self.place(id) {
            drop(self.release(at));
        }
    }

    /// Ends the calls that wait and for which `ended` has something, in the order of their places.
    /// The wakers of who waited for them.
    pub(super) fn end_each(
        &mut self,
        mut ended: impl FnMut(Instant) -> Option<Ended>,
    ) -> Vec<Waker> {
        let mut wakers = Vec::new();
        self.alarm = None;
        for place in &mut self.places {
            let State::Waiting { waker, deadline } = &mut place.state else { continue };
            match ended(*deadline) {
                Some(ended) => {
                    wakers.extend(waker.take());
                    place.state = State::Ended(ended);
                }
                None => {
                    let deadline = *deadline;
                    self.alarm = Some(self.alarm.map_or(deadline, |alarm| alarm.min(deadline)));
                }
            }
        }
        wakers
    }

    fn place(&mut self, id: u64) -> Option<(u32, &mut Place)> {
        let [a, b, c, d, e, f, g, h] = id.to_le_bytes();
        let (at, turn) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let place = self.places.get_mut(at as usize)?;
        let is_taken = place.turn == turn && !matches!(place.state, State::Free { .. });
        is_taken.then_some((at, place))
    }

    fn release(&mut self, at: u32) -> State {
        self.open -= 1;
        let next = self.free.replace(at);
        std::mem::replace(&mut self.places[at as usize].state, State::Free { next })
    }
}

fn id(at: u32, turn: u32) -> u64 {
    u64::from(turn) << 32 | u64::from(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pong() -> Ended {
        Ended::Answered(Ok(Reply::Pong))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_reaches_its_call_or_nobody() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut calls = Calls::default();
        let deadline = Instant::now() + Duration::from_secs(1);
        let (a, b) = (calls.open(deadline), calls.open(deadline));
        assert!(calls.poll(a, &waker).is_pending());
        calls.end(a, pong()).unwrap().wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(calls.end(a, pong()).is_none(), "it is answered");
        assert!(matches!(calls.poll(a, &waker), Poll::Ready(Ended::Answered(Ok(_)))));
        calls.leave(b);
        assert_eq!(calls.len(), 0);
        let c = calls.open(deadline);
        assert_ne!(b, c);
        assert!(calls.end(b, pong()).is_none() && calls.end(u64::MAX, pong()).is_none());
        assert!(calls.poll(c, &waker).is_pending(), "the late answer was another's");
    }

    #[tokio::test(start_paused = true)]
    async fn the_alarm_is_the_earliest_deadline() {
        let (now, waker) = (Instant::now(), Waker::noop());
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut calls = Calls::default();
        let (late, soon) = (calls.open(at(9)), calls.open(at(2)));
        assert_eq!(calls.alarm(), Some(at(2)));
        calls.end_each(|deadline| (deadline <= at(2)).then_some(Ended::Expired));
        assert!(matches!(calls.poll(soon, waker), Poll::Ready(Ended::Expired)));
        assert_eq!(calls.alarm(), Some(at(9)));
        assert!(calls.poll(late, waker).is_pending());
        let closed = |_| Some(Ended::Answered(Err(Error::new(Kind::Closed, "cut"))));
        assert_eq!(calls.end_each(closed).len(), 1);
        assert_eq!(calls.alarm(), None);
    }
}
