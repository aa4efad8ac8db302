//! Clients that do random things to few keys, and write down what they asked and what came back.
//!
//! Owns [`Recorder`], the clients of each kind ([`Actor`]) and what they choose to do. Knows
//! nothing of the checker. Invariant: an operation's beginning is written down before a byte of it
//! is sent and its end after its answer came, so the recorded order is never stricter than the true
//! one.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cirrus_store::cache::Cache;
use cirrus_store::{
    BlockingClient, Client, Condition, Error, Key, Kind, Object, PutOptions, Result, Version,
};

use crate::model::{Action, Answer, NEVER, Operation, number_of, value_of};
use crate::respclient::RespClient;
use crate::rig::{Random, key};

/// A value that nobody wrote: no state explains it.
pub(crate) const DAMAGED: i64 = i64::MIN;

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    moments: AtomicU64,
    numbers: AtomicU64,
    operations: Mutex<Vec<Operation>>,
}

/// An operation that has begun.
pub(crate) struct Begun {
    client: u64,
    began: u64,
    began_ms: u64,
}

impl Recorder {
    pub(crate) fn begin(&self, client: u64) -> Begun {
        let began_ms = unix_ms();
        Begun { client, began: self.moments.fetch_add(1, Ordering::SeqCst), began_ms }
    }

    /// Writes an operation down; `None` is an answer that says that nothing has happened.
    pub(crate) fn end(&self, begun: &Begun, key: &str, action: Action, answer: Option<Answer>) {
        let moment = self.moments.fetch_add(1, Ordering::SeqCst);
        let Some(answer) = answer else { return };
        let is_known = answer != Answer::Unknown;
        if !is_known && action == Action::Get {
            // It changed nothing and says nothing.
            return;
        }
        let ended = is_known.then_some(moment);
        let ended_ms = if is_known { unix_ms() } else { u64::MAX };
        let Begun { client, began, began_ms } = *begun;
        let key = key.to_owned();
        let mut operations = self.operations.lock().unwrap();
        if action == Action::Restart {
            // What was in doubt before has happened by now, or never will.
            for operation in operations.iter_mut().filter(|operation| operation.ended.is_none()) {
                (operation.ended, operation.ended_ms) = (ended, ended_ms);
            }
        }
        let operation = Operation { client, key, action, answer, began, ended, began_ms, ended_ms };
        operations.push(operation);
    }

    pub(crate) fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut *self.operations.lock().unwrap())
    }

    pub(crate) fn len(&self) -> usize {
        self.operations.lock().unwrap().len()
    }

    /// Writes of this key that may still happen.
    fn in_doubt(&self, key: &str) -> usize {
        let operations = self.operations.lock().unwrap();
        operations.iter().filter(|one| one.ended.is_none() && one.key == key).count()
    }

    /// A number that no other value has.
    fn fresh(&self) -> i64 {
        i64::try_from(1000 + self.numbers.fetch_add(1, Ordering::Relaxed)).unwrap()
    }
}

/// What an error says of the action that it answers.
fn failed(error: &Error) -> Option<Answer> {
    match error.kind() {
        Kind::NotFound => Some(Answer::NotFound),
        Kind::WrongType => Some(Answer::WrongType),
        Kind::WrongVersion => Some(Answer::WrongVersion(error.detail())),
        Kind::OutOfMemory | Kind::TooLarge => Some(Answer::Refused),
        // A disk whose power goes may keep what it said to have failed.
        Kind::Unknown | Kind::Io => Some(Answer::Unknown),
        // The client says that nothing was applied.
        Kind::Timeout | Kind::Closed | Kind::Busy => None,
        kind => panic!("{kind:?} is no answer to any of these requests: {error}"),
    }
}

fn answer<T>(result: Result<T>, ok: impl FnOnce(T) -> Answer) -> Option<Answer> {
    match result {
        Ok(value) => Some(ok(value)),
        Err(error) => failed(&error),
    }
}

fn read(object: &Object) -> Answer {
    Answer::Value {
        value: number_of(&object.value).unwrap_or(DAMAGED),
        version: object.version.0,
        expires_at: object.expires_at.unwrap_or(NEVER),
    }
}

fn put_options(condition: Condition, expires_at: u64) -> PutOptions {
    PutOptions { condition, expires_at: (expires_at != NEVER).then_some(expires_at) }
}

/// How many bytes a value of this key has: some travel inline, some do not; those that are added
/// to have digits only.
fn value_len(name: &str, number: i64) -> usize {
    match name.starts_with("value") {
        true => [0, 100, 5_000, 20_000, 90_000][usize::try_from(number % 5).unwrap()],
        false => 0,
    }
}

fn bytes_of(name: &str, number: i64) -> Bytes {
    value_of(number, value_len(name, number)).into()
}

async fn act(client: &Client, name: &str, action: Action) -> Option<Answer> {
    let object = key(name);
    let written = |version: Version| Answer::Written { version: version.0 };
    match action {
        Action::Get => answer(client.get(&object).await, |object| read(&object)),
        Action::Put { value, condition, expires_at } => {
            let options = put_options(condition, expires_at);
            answer(client.put_with(&object, bytes_of(name, value), options).await, written)
        }
        Action::Delete { condition } => {
            answer(client.delete_with(&object, condition).await, |()| Answer::Done)
        }
        Action::Add { delta } => answer(client.add(&object, delta).await, Answer::Sum),
        Action::Push { value } => {
            let pushed = client.push(&object, value_of(value, 0), u64::MAX).await;
            answer(pushed, Answer::Items)
        }
        Action::Pop => answer(client.pop(&object).await, |item| {
            Answer::Popped(number_of(&item).unwrap_or(DAMAGED))
        }),
        Action::Restart => None,
    }
}

/// Through a cache over a client.
async fn act_cached(cache: &Cache<Client>, name: &str, action: Action) -> Option<Answer> {
    let object = key(name);
    match action {
        Action::Get => answer(cache.get(&object).await, |object| read(&object)),
        Action::Put { value, condition: Condition::Always, expires_at: NEVER } => {
            let put = cache.put(&object, bytes_of(name, value)).await;
            answer(put, |version| Answer::Written { version: version.0 })
        }
        Action::Delete { condition: Condition::Always } => {
            answer(cache.delete(&object).await, |()| Answer::Done)
        }
        Action::Restart => None,
        action => {
            // A failed act has an answer too: the cache forgets the object either way.
            let acted = async { Ok(act(cache.source(), name, action).await) };
            cache.write_with(&object, acted).await.unwrap_or_else(|error| failed(&error))
        }
    }
}

/// The blocking client knows fewer operations: the others are not chosen for it.
fn act_blocking(client: &mut BlockingClient, name: &str, action: Action) -> Option<Answer> {
    let object = key(name);
    match action {
        Action::Get => answer(client.get(&object), |object| read(&object)),
        Action::Put { value, condition, expires_at } => {
            let options = put_options(condition, expires_at);
            let put = client.put_with(&object, bytes_of(name, value), options);
            answer(put, |version| Answer::Written { version: version.0 })
        }
        Action::Delete { .. } => answer(client.delete(&object), |()| Answer::Done),
        Action::Add { delta } => answer(client.add(&object, delta), Answer::Sum),
        Action::Push { .. } | Action::Pop | Action::Restart => None,
    }
}

/// Which keys there are, and what is done to them.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) keys: Vec<&'static str>,
    /// Ends of brief objects lie up to this far ahead; 0: they have ended when they are put.
    pub(crate) brief_ms: u64,
    /// One in so many actions is given up by its caller half way; 0 for none.
    pub(crate) abandons: u64,
    /// One in so many steps is a batch over all values; 0 for none.
    pub(crate) batches: u64,
    /// A key is only read while so many of its writes are in doubt: their orders multiply.
    pub(crate) in_doubt_max: usize,
}

impl Workload {
    /// All kinds of keys.
    pub(crate) fn all() -> Self {
        let keys = vec!["value/0", "value/1", "number", "queue", "brief", "mixed"];
        Self { keys, brief_ms: 4, abandons: 50, batches: 20, in_doubt_max: usize::MAX }
    }

    fn value_keys(&self) -> Vec<&'static str> {
        self.keys.iter().copied().filter(|name| name.starts_with("value")).collect()
    }
}

/// One caller: the versions that it has seen decide what it asks for next.
pub(crate) struct Actor<'a> {
    pub(crate) id: u64,
    pub(crate) recorder: &'a Recorder,
    pub(crate) workload: &'a Workload,
    pub(crate) random: Random,
    seen: HashMap<&'static str, Version>,
}

impl<'a> Actor<'a> {
    pub(crate) fn new(
        id: u64,
        recorder: &'a Recorder,
        workload: &'a Workload,
        random: Random,
    ) -> Self {
        Self { id, recorder, workload, random, seen: HashMap::new() }
    }

    /// Does one thing over the native client.
    pub(crate) async fn step(&mut self, client: &Client) {
        if self.workload.batches > 0 && self.random.below(self.workload.batches) == 0 {
            return self.batch(client).await;
        }
        let (name, action) = self.choice(false);
        self.record(name, action, act(client, name, action)).await;
    }

    /// Does one thing through a cache.
    pub(crate) async fn step_cached(&mut self, cache: &Cache<Client>) {
        let (name, action) = self.choice(false);
        self.record(name, action, act_cached(cache, name, action)).await;
    }

    /// Acts, or gives up half way.
    async fn record(
        &mut self,
        name: &'static str,
        action: Action,
        acting: impl Future<Output = Option<Answer>>,
    ) {
        let begun = self.recorder.begin(self.id);
        let is_read = action == Action::Get;
        let abandons = self.workload.abandons > 0 && self.random.below(self.workload.abandons) == 0;
        let answer = match abandons {
            true => {
                let patience = Duration::from_micros(self.random.below(1500));
                let acted = tokio::time::timeout(patience, acting).await;
                acted.unwrap_or_else(|_| (!is_read).then_some(Answer::Unknown))
            }
            false => acting.await,
        };
        self.recorder.end(&begun, name, action, answer);
        self.learn(name, answer);
    }

    /// Does one thing over the blocking client.
    pub(crate) fn step_blocking(&mut self, client: &mut BlockingClient) {
        let (name, action) = self.choice(true);
        let begun = self.recorder.begin(self.id);
        let answer = act_blocking(client, name, action);
        self.recorder.end(&begun, name, action, answer);
        self.learn(name, answer);
    }

    /// Does one thing over RESP, which has no condition on versions.
    pub(crate) fn step_resp(&mut self, client: &mut RespClient) {
        let without = |condition| match condition {
            Condition::IfVersion(_) => Condition::Always,
            condition => condition,
        };
        let (name, action) = match self.choice(false) {
            (name, Action::Put { value, condition, expires_at }) => {
                (name, Action::Put { value, condition: without(condition), expires_at })
            }
            (name, Action::Delete { .. }) => {
                (name, Action::Delete { condition: Condition::Always })
            }
            other => other,
        };
        let value = |number| bytes_of(name, number);
        let begun = self.recorder.begin(self.id);
        let answer = client.act(name, action, value);
        self.recorder.end(&begun, name, action, answer);
    }

    /// Puts, gets or deletes every value in one batch.
    async fn batch(&mut self, client: &Client) {
        let names = self.workload.value_keys();
        let keys: Vec<Key> = names.iter().map(|name| key(*name)).collect();
        let begun = self.recorder.begin(self.id);
        let answers: Vec<(Action, Option<Answer>)> = match self.random.below(5) {
            0 | 1 => {
                let numbers: Vec<i64> = names.iter().map(|_| self.recorder.fresh()).collect();
                let objects = keys.iter().zip(names.iter().zip(&numbers));
                let objects =
                    objects.map(|(key, (name, number))| (key.clone(), bytes_of(name, *number)));
                let put = client.put_many(objects.collect()).await.into_iter().zip(numbers);
                put.map(|(result, value)| {
                    let (condition, expires_at) = (Condition::Always, NEVER);
                    let written = |version: Version| Answer::Written { version: version.0 };
                    (Action::Put { value, condition, expires_at }, answer(result, written))
                })
                .collect()
            }
            2 | 3 => {
                let got = client.get_many(&keys).await.into_iter();
                got.map(|result| (Action::Get, answer(result, |object| read(&object)))).collect()
            }
            _ => {
                let deleted = client.delete_many(&keys).await.into_iter();
                let action = Action::Delete { condition: Condition::Always };
                deleted.map(|result| (action, answer(result, |()| Answer::Done))).collect()
            }
        };
        for (name, (action, answer)) in names.into_iter().zip(answers) {
            self.recorder.end(&begun, name, action, answer);
            self.learn(name, answer);
        }
    }

    fn learn(&mut self, name: &'static str, answer: Option<Answer>) {
        match answer {
            Some(Answer::Value { version, .. } | Answer::Written { version }) => {
                self.seen.insert(name, Version(version));
            }
            Some(Answer::WrongVersion(version)) => drop(self.seen.insert(name, Version(version))),
            _ => {}
        }
    }

    fn choice(&mut self, is_blocking: bool) -> (&'static str, Action) {
        let keys = &self.workload.keys;
        let name = keys[usize::try_from(self.random.below(keys.len() as u64)).unwrap()];
        if self.recorder.in_doubt(name) >= self.workload.in_doubt_max {
            return (name, Action::Get);
        }
        let condition = match self.random.below(6) {
            0 | 1 => Condition::IfAbsent,
            2 | 3 => self.seen.get(name).map_or(Condition::Always, |at| Condition::IfVersion(*at)),
            _ => Condition::Always,
        };
        let put = |random: &mut Random, condition| {
            let ends = name.starts_with("brief") && random.below(4) > 0;
            let expires_at = match (ends, self.workload.brief_ms) {
                (false, _) => NEVER,
                (true, 0) => 1,
                (true, ahead) => unix_ms() + random.below(ahead),
            };
            Action::Put { value: self.recorder.fresh(), condition, expires_at }
        };
        let deletes = match condition {
            Condition::IfVersion(_) if !is_blocking => condition,
            _ => Condition::Always,
        };
        let delete = Action::Delete { condition: deletes };
        let random = &mut self.random;
        let delta = i64::try_from(1 + random.below(1000)).unwrap();
        let kind = name.split('/').next().unwrap_or_default();
        let action = match (kind, random.below(10)) {
            ("queue", 0..5) if !is_blocking => Action::Push { value: self.recorder.fresh() },
            ("queue", 5..10) if !is_blocking => Action::Pop,
            ("mixed", 0..2) if !is_blocking => Action::Push { value: self.recorder.fresh() },
            ("mixed", 2..4) if !is_blocking => Action::Pop,
            ("mixed", 4) | ("number", 0..6) => Action::Add { delta },
            ("number", 6..8) | ("mixed", 5) | ("queue", _) => Action::Get,
            ("number", 8) | ("mixed", 6..9) => delete,
            ("brief", 0..7) | ("value", 0..5) => Action::Get,
            ("brief", 7) | ("value", 5) => delete,
            _ => put(random, condition),
        };
        (name, action)
    }
}
