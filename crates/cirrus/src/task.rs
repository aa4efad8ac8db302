//! What a task is: a name, a demand, and a body.
//!
//! Owns [`Task`], which `#[cirrus::task]` makes, and the bounds on its arguments. May not know how
//! or where a body runs. Invariant: a body is a plain function, callable without Cirrus.

use std::future::Future;

use cirrus_plan::Demand;

use crate::context::Context;
use crate::error::Result;

/// What a task's arguments must be: `Clone + Send + 'static`, which is implemented by itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the arguments of a task",
    note = "arguments must be `Clone + Send + 'static`"
)]
pub trait TaskArgs: Clone + Send + 'static {}

impl<A: Clone + Send + 'static> TaskArgs for A {}

/// A task of an application: what it needs, what it runs, and what it reads and writes.
///
/// `#[cirrus::task]` on a function `decode` makes `decode::task()`, which returns one of these.
#[derive(Debug, Clone)]
pub struct Task<A> {
    pub(crate) name: &'static str,
    pub(crate) demand: Demand,
    pub(crate) run: fn(Context, A) -> Result<()>,
    pub(crate) reads: Vec<String>,
    pub(crate) writes: Vec<String>,
}

impl<A> Task<A> {
    /// A task that touches nothing yet.
    pub fn new(name: &'static str, demand: Demand, run: fn(Context, A) -> Result<()>) -> Self {
        Self { name, demand, run, reads: Vec::new(), writes: Vec::new() }
    }

    /// The task reads this channel or set.
    #[must_use]
    pub fn reads(mut self, name: &str) -> Self {
        self.reads.push(name.to_owned());
        self
    }

    /// The task writes this channel or set.
    #[must_use]
    pub fn writes(mut self, name: &str) -> Self {
        self.writes.push(name.to_owned());
        self
    }
}

/// Runs a future to its end on the calling thread: how an `async` body is called.
///
/// # Panics
///
/// When the operating system grants no event queue, or inside another runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system grants a process an event queue").block_on(future)
}
