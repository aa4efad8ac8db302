//! What to do after an attempt has failed.
//!
//! Owns the one decision between trying again, giving up, and admitting that nobody knows. Plain
//! functions, shared by the async and the blocking client. Invariant: a write is repeated only
//! where the node will recognise it, and no error but [`Kind::Unknown`] hides that it may have
//! been applied.

use std::time::Duration;

use crate::error::{Error, Kind};

/// Which life of a node, and which life of our session there: the results of our writes last as
/// long as both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) incarnation: u64,
    pub(super) session_life: u64,
}

/// How far an attempt came before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// Nothing was sent.
    Nowhere,
    /// It was sent to the node that greeted us so, and no answer came.
    Sent(Greeting),
    /// The error is the node's own answer.
    Answered,
}

/// The story of one request so far.
#[derive(Debug)]
pub(super) struct Attempts {
    is_write: bool,
    /// To whom a write was sent without an answer coming back.
    in_doubt: Option<Greeting>,
    count: u32,
}

impl Attempts {
    pub(super) fn new(is_write: bool) -> Self {
        Self { is_write, in_doubt: None, count: 0 }
    }

    /// The story of a write that was sent to the node that greeted us so, without an answer.
    pub(super) fn in_doubt_about(greeting: Greeting) -> Self {
        Self { is_write: true, in_doubt: Some(greeting), count: 0 }
    }

    /// Whether the request is a write that may have been carried out already.
    pub(super) fn in_doubt(&self) -> bool {
        self.in_doubt.is_some()
    }

    /// May the request be sent to the node that greeted us so? [`Kind::Unknown`] if not.
    pub(super) fn check(&self, greeting: Greeting) -> Result<(), Error> {
        match self.in_doubt {
            Some(earlier) if earlier != greeting => Err(Error::new(
                Kind::Unknown,
                "the node lost track of a write that it had been sent; nobody knows whether it \
                 was applied",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes note of a failed attempt: how long to wait before the next, or the final error.
    pub(super) fn failed(&mut self, error: Error, reached: Reached) -> Result<Duration, Error> {
        self.note(reached);
        if !error.is_retryable() {
            let answered = reached == Reached::Answered;
            return Err(if answered { error } else { self.given_up(error) });
        }
        self.count += 1;
        let doubled = Duration::from_millis(5) * (1 << self.count.min(7));
        Ok(doubled.min(Duration::from_millis(500)))
    }

    /// Takes note of how far an attempt came.
    pub(super) fn note(&mut self, reached: Reached) {
        if let (true, Reached::Sent(greeting)) = (self.is_write, reached) {
            self.in_doubt = Some(greeting);
        }
    }

    /// The final error when `error` makes further attempts pointless.
    pub(super) fn given_up(&self, error: Error) -> Error {
        match self.in_doubt {
            None => error,
            Some(_) => {
                let text = "the write was sent, and nobody knows whether it was applied";
                Error::new(Kind::Unknown, text).with_source(error)
            }
        }
    }

    /// The final error when the time is over.
    pub(super) fn out_of_time(&self, limit: Duration, last: Option<Error>) -> Error {
        let (kind, text) = match (self.in_doubt, self.is_write) {
            (Some(_), _) => (Kind::Unknown, "nobody knows whether the write was applied"),
            (None, true) => (Kind::Timeout, "the write was not applied"),
            (None, false) => (Kind::Timeout, "it may be asked again"),
        };
        let error = Error::new(kind, format!("no answer within {limit:?}; {text}"));
        match last {
            Some(last) => error.with_source(last),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Greeting = Greeting { incarnation: 7, session_life: 3 };

    fn closed() -> Error {
        Error::new(Kind::Closed, "cut")
    }

    #[test]
    fn a_write_is_repeated_only_to_a_node_that_remembers_it() {
        let mut attempts = Attempts::new(true);
        assert!(attempts.check(HERE).is_ok());
        attempts.failed(closed(), Reached::Sent(HERE)).unwrap();
        assert!(attempts.in_doubt());
        assert!(attempts.check(HERE).is_ok());
        for other in [
            Greeting { incarnation: 8, session_life: 3 },
            Greeting { incarnation: 7, session_life: 4 },
        ] {
            assert_eq!(attempts.check(other).unwrap_err().kind(), Kind::Unknown);
        }
    }

    #[test]
    fn what_was_never_sent_or_was_refused_may_go_anywhere() {
        let mut attempts = Attempts::new(true);
        attempts.failed(closed(), Reached::Nowhere).unwrap();
        attempts.failed(Error::new(Kind::Busy, "full"), Reached::Answered).unwrap();
        assert!(!attempts.in_doubt());
        assert_eq!(attempts.out_of_time(Duration::ZERO, None).kind(), Kind::Timeout);
        let mut read = Attempts::new(false);
        read.failed(closed(), Reached::Sent(HERE)).unwrap();
        assert!(!read.in_doubt());
    }

    #[test]
    fn only_the_nodes_own_answer_ends_a_doubt() {
        let refused = || Error::new(Kind::Unauthorized, "no");
        let mut attempts = Attempts::new(true);
        attempts.failed(closed(), Reached::Sent(HERE)).unwrap();
        let error = attempts.failed(refused(), Reached::Nowhere).unwrap_err();
        assert_eq!(error.kind(), Kind::Unknown);
        let error = attempts.failed(Error::new(Kind::NotFound, "k"), Reached::Answered);
        assert_eq!(error.unwrap_err().kind(), Kind::NotFound);
        let error = Attempts::new(true).failed(refused(), Reached::Nowhere);
        assert_eq!(error.unwrap_err().kind(), Kind::Unauthorized);
        let garbled = Error::new(Kind::Protocol, "garbled");
        let error = Attempts::new(true).failed(garbled, Reached::Sent(HERE)).unwrap_err();
        assert_eq!(error.kind(), Kind::Unknown);
    }
}
