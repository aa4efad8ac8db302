//! Many objects at a time.
//!
//! Owns [`Cache::get_many`] and the task that fetches what of it is absent, with one request to the
//! source. Knows nothing of policies. Invariant: each key has a flight of its own, which others
//! join, although flights share the request.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Cache;
use super::fetch::{Landing, Shared, Step, Ticket, await_answer, closed};
use super::source::Source;
use crate::error::Result;
use crate::key::Key;
use crate::object::Object;

/// Keys that are looked for while the desk is kept busy.
const KEYS_AT_ONCE: usize = 256;

impl<S: Source> Cache<S> {
    /// An answer for each key, in their order, as [`Cache::get`] gives it. Not atomic.
    ///
    /// What is absent, and what nobody fetches yet, is fetched with one [`Source::get_many`], which
    /// is one of [`CacheOptions::fetches_max`](super::CacheOptions::fetches_max); a version check is
    /// a request of its own. Dropping the future leaves the fetches going.
    pub async fn get_many(&self, keys: &[Key]) -> Vec<Result<Object>> {
        // The prefetch policy hears of them together: what is asked for here is no guess.
        let mut answers: Vec<_> =
            keys.iter().map(|key| self.owner.shared.hit(key).map(Ok)).collect();
        let rest: Vec<&Key> = keys
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_none())
            .map(|of| of.0)
            .collect();
        if !rest.is_empty() {
            let mut brought = self.fetch_many(&rest).await.into_iter();
            for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
                *answer = brought.next();
            }
        }
        keys.iter()
            .zip(answers)
            .map(|(key, answer)| answer.unwrap_or_else(|| Err(closed(key))))
            .collect()
    }

    async fn fetch_many(&self, keys: &[&Key]) -> Vec<Result<Object>> {
        let shared = &self.owner.shared;
        let (mut tickets, mut guesses, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for some in keys.chunks(KEYS_AT_ONCE) {
            steps.extend(shared.step_together(some, &mut tickets, &mut guesses));
        }
        if !tickets.is_empty() {
            shared.tasks.spawn(fly_together(Arc::clone(shared), tickets));
        }
        shared.launch(&mut guesses);
        let answers = keys.iter().zip(steps).map(|(key, step)| self.answer(key, step));
        join_all(answers).await
    }

    async fn answer(&self, key: &Key, step: Option<Step>) -> Result<Object> {
        match step {
            Some(Step::Held(object)) => Ok(object),
            Some(Step::Join(answer)) => await_answer(key, answer).await,
            Some(Step::Wait(_) | Step::Full) | None => {
                // Not a caller of that flight.
                drop(step);
                self.read_or_fetch(key).await
            }
        }
    }
}

impl<S: Source> Shared<S> {
    /// What a get of many does about each key; `None` where it is a get like any other.
    fn step_together(
        self: &Arc<Self>,
        keys: &[&Key],
        tickets: &mut Vec<Ticket<S>>,
        guesses: &mut Vec<Ticket<S>>,
    ) -> Vec<Option<Step>> {
        self.desk.with(|state| {
            let since = self.since(state);
            let mut steps = Vec::with_capacity(keys.len());
            for key in keys {
                let seen = state.shelf.find(self.desk.table.hash(key), key);
                let was_held = seen.is_some();
                let step = match self.accepted(state, key).or_else(|| self.read(state, seen)) {
                    Some(object) => Some(Step::Held(object)),
                    // What is held has its version checked, which no request does for many.
                    None if was_held => None,
                    None => Some(self.join(state, key, since).unwrap_or_else(|| {
                        let (ticket, answer) = self.ticket(state, key, None, false);
                        tickets.push(ticket);
                        Step::Join(answer)
                    })),
                };
                steps.push((step, was_held));
            }
            // Not before all were looked at: what is asked for here is no guess.
            for (key, (step, was_held)) in keys.iter().zip(&steps) {
                if let Some(Step::Held(_) | Step::Join(_)) = step {
                    self.guess(state, key, *was_held, guesses);
                }
            }
            steps.into_iter().map(|(step, _)| step).collect()
        })
    }
}

/// Fetches what the tickets are for, when there is a permit.
async fn fly_together<S: Source>(shared: Arc<Shared<S>>, tickets: Vec<Ticket<S>>) {
    let Ok(_permit) = shared.fetches.acquire().await else { return };
    let keys: Vec<Key> = tickets.iter().map(|ticket| ticket.key().clone()).collect();
    let sent_at = Instant::now();
    for ticket in &tickets {
        // What is held by now was put meanwhile, and has overtaken the flight.
        shared.depart(ticket, sent_at);
    }
    let answers = tokio::select! {
        () = shared.closing.cancelled() => return,
        answers = shared.source.get_many(&keys) => answers,
    };
    for (ticket, answer) in tickets.iter().zip(answers) {
        let landing = answer.map(|object| Landing::new(shared.detached(ticket.key(), object)));
        shared.land(ticket, sent_at, landing);
    }
}
