//! Many objects in few round trips.
//!
//! Owns cutting a list of requests into batches, one node each, and putting the answers back in
//! order. Invariant: the answer at place i is that of request i.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::checksum::BLOCK_BYTES;
use crate::client::call::{Answer, Target};
use crate::client::pool::{Lane, Node, Pool, SMALL_BYTES_MAX};
use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::wire::{BATCH_ITEMS_MAX, Delivery, Reply, Request};

/// Bytes of values in one batch; a larger value makes a batch of its own.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Requests in one batch.
const BATCH_LEN_MAX: usize = 512;

/// Values of more bytes than this do not travel in a batch's answer.
const BATCH_VALUE_BYTES_MAX: u32 = 1 << 20;

/// Items of one batch that are asked for anew at once.
const SINGLES_MAX: usize = 16;

/// Batches in flight at once.
const BATCHES_MAX: usize = 8;

const _: () = assert!(BATCH_LEN_MAX <= BATCH_ITEMS_MAX as usize);

/// Requests for one node, and their places in the list that they come from.
#[derive(Debug, Default)]
struct Batch {
    node: Option<Arc<Node>>,
    items: Vec<(usize, Request)>,
}

/// Cuts a list for one node into batches, in order.
pub(super) fn cut(requests: Vec<Request>) -> Vec<Vec<Request>> {
    let mut batches = Vec::new();
    let (mut held, mut batch) = (0, Vec::new());
    for request in requests {
        let bytes = request.payload_bytes();
        if !batch.is_empty() && is_full(held + bytes, batch.len()) {
            held = 0;
            batches.push(std::mem::take(&mut batch));
        }
        held += bytes;
        batch.push(request);
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    batches
}

/// Whether a batch of `len` items takes no more, one that would bring it to `bytes` at least.
fn is_full(bytes: usize, len: usize) -> bool {
    bytes > BATCH_BYTES_MAX || len >= BATCH_LEN_MAX
}

/// The batch of these items. What they carry is shared.
pub(super) fn for_batch(items: &[Request]) -> Request {
    Request::Batch(items.iter().map(|item| item.clone().inlined(BATCH_VALUE_BYTES_MAX)).collect())
}

/// The same error for another item.
pub(super) fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string()).with_detail(error.detail())
}

/// The error of a write in a batch that was sent more than once and refused.
pub(super) fn in_doubt(error: Error) -> Error {
    let text = "a batch was sent twice, and one copy may still be under way";
    Error::new(Kind::Unknown, text).with_source(error)
}

/// An item's answer as it is when it came alone. Its own sums cover a value from its writer to here.
pub(super) fn out_of_batch(item: &Request, answer: Reply, verifies: bool) -> Result<Reply> {
    let Reply::Value { version, size, offset, expires_at, modified_at, value, sums } = answer
    else {
        return Ok(answer);
    };
    if verifies {
        let phase = u16::try_from(offset % BLOCK_BYTES as u64).expect("less than a block");
        sums.check(phase, &value).map_err(|error| {
            let text = match item.key() {
                Some(key) => format!("the value of {key:?}"),
                None => "an answer of the node".to_owned(),
            };
            Error::new(Kind::Corrupt, text).with_source(error)
        })?;
    }
    // Copied, so that a value that is kept does not keep its whole batch alive.
    let value = Bytes::copy_from_slice(&value);
    Ok(Reply::Value { version, size, offset, expires_at, modified_at, value, sums })
}

impl Pool {
    /// Carries out requests, each of which has a key; not atomic, an answer for each.
    pub(super) async fn call_many(&self, requests: Vec<Request>) -> Vec<Result<Reply>> {
        let mut replies: Vec<Option<Result<Reply>>> = Vec::new();
        replies.resize_with(requests.len(), || None);
        let mut batches = self.batches(requests).into_iter();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < BATCHES_MAX {
                let Some(batch) = batches.next() else { break };
                running.push(self.batch(batch));
            }
            let Some(answers) = running.next().await else { break };
            for (place, answer) in answers {
                replies[place] = Some(answer);
            }
        }
        let missing = || Error::new(Kind::Protocol, "a batch without an answer for each item");
        replies.into_iter().map(|reply| reply.unwrap_or_else(|| Err(missing()))).collect()
    }

    fn batches(&self, requests: Vec<Request>) -> Vec<Batch> {
        let routes = self.routes();
        let mut full = Vec::new();
        // By the node's place in the view; the last one is for requests whose slot nobody holds,
        // each of which finds its node on its own.
        let mut open: Vec<(usize, Batch)> = Vec::new();
        open.resize_with(routes.nodes.len() + 1, Default::default);
        for (place, request) in requests.into_iter().enumerate() {
            let slot = request.key().map(Key::slot);
            let holder = slot.and_then(|slot| routes.holder(slot).ok().map(|(node, _)| node));
            let at = holder
                .and_then(|holder| routes.nodes.iter().position(|node| Arc::ptr_eq(node, holder)));
            let bytes = request.payload_bytes();
            let (held, batch) = &mut open[at.unwrap_or(routes.nodes.len())];
            if !batch.items.is_empty() && is_full(*held + bytes, batch.items.len()) {
                *held = 0;
                full.push(std::mem::take(batch));
            }
            *held += bytes;
            batch.node = holder.cloned();
            batch.items.push((place, request));
        }
        full.extend(open.into_iter().map(|(_, batch)| batch).filter(|b| !b.items.is_empty()));
        full
    }

    async fn batch(&self, batch: Batch) -> Vec<(usize, Result<Reply>)> {
        let (places, items): (Vec<usize>, Vec<Request>) = batch.items.into_iter().unzip();
        let node = match batch.node {
            Some(node) if items.len() > 1 => node,
            Some(_) | None => {
                let singles = places.into_iter().zip(items);
                let answers = singles.map(async |(place, item)| (place, self.single(item).await));
                return answers.collect::<FuturesUnordered<_>>().collect().await;
            }
        };
        let mut request = for_batch(&items);
        let limit = self.options.request_timeout;
        let target = Target::Node(node);
        let answer = self.call_within(target, &mut request, Lane::Large, limit).await;
        let (answers, in_doubt) = match answer {
            Ok(Answer { reply: Reply::Batch(answers), in_doubt })
                if answers.len() == items.len() =>
            {
                (answers, in_doubt)
            }
            Ok(_) => {
                let wrong = || Error::new(Kind::Protocol, "a batch answered in the wrong number");
                return places.into_iter().map(|place| (place, Err(wrong()))).collect();
            }
            Err(error) => {
                return places.into_iter().map(|place| (place, Err(again(&error)))).collect();
            }
        };
        let each = places.into_iter().zip(items).zip(answers);
        let settled = each.map(async |((place, item), answer)| {
            (place, self.settled(item, answer, in_doubt).await)
        });
        futures_util::stream::iter(settled).buffer_unordered(SINGLES_MAX).collect().await
    }

    /// The answer to an item of a batch, asked for anew where the batch did not bring it.
    async fn settled(&self, item: Request, answer: Reply, doubt: bool) -> Result<Reply> {
        match answer {
            Reply::Failed(fault) => {
                let error = item.fault(fault);
                match (error.is_retryable(), doubt && item.writes() > 0) {
                    (false, _) => Err(error),
                    // Refused, so not carried out: it may be asked for anew.
                    (true, false) => self.single(item).await,
                    (true, true) => Err(in_doubt(error)),
                }
            }
            Reply::Deferred { .. } => {
                let mut item = item;
                self.large(&mut item).await
            }
            answer => out_of_batch(&item, answer, self.options.verifies),
        }
    }

    /// Carries out a request that has a key, over the lane that fits it, or is thought to.
    pub(super) async fn single(&self, mut request: Request) -> Result<Reply> {
        let key = keyed(&request)?;
        let target = Target::Slot(key.slot());
        let is_whole = matches!(request, Request::Get { len: u64::MAX, .. });
        if request.payload_bytes() > SMALL_BYTES_MAX as usize {
            self.call(target, &mut request, Lane::Large).await
        } else if is_whole && self.sizes.is_large(key) {
            let reply = self.large(&mut request).await?;
            if let (Reply::Value { size, .. }, Some(key)) = (&reply, request.key()) {
                self.sizes.note(key, *size > u64::from(SMALL_BYTES_MAX));
            }
            Ok(reply)
        } else {
            self.small_first(target, &mut request).await
        }
    }

    /// Carries out a get whose answer may be large: over the small lane where it is a place in shared
    /// memory, over the large one otherwise.
    pub(super) async fn large(&self, request: &mut Request) -> Result<Reply> {
        let slot = keyed(request)?.slot();
        let target = Target::Slot(slot);
        let node = self.routes().holder(slot).ok().map(|(node, _)| node.clone());
        let ready = node.and_then(|node| node.ready(Lane::Small));
        match ready.is_some_and(|connection| connection.delivery != Delivery::Inline) {
            true => self.small_first(target, request).await,
            false => self.whole(target, request).await,
        }
    }

    /// Carries out a request over the small lane, and over the large one if its answer is too large.
    async fn small_first(&self, target: Target, request: &mut Request) -> Result<Reply> {
        request.inline(SMALL_BYTES_MAX);
        match self.call(target.clone(), request, Lane::Small).await? {
            Reply::Deferred { .. } => {
                if let Some(key) = request.key() {
                    self.sizes.note(key, true);
                }
                self.whole(target, request).await
            }
            reply => Ok(reply),
        }
    }

    /// Carries out a get whose answer is large.
    async fn whole(&self, target: Target, request: &mut Request) -> Result<Reply> {
        request.inline(u32::MAX);
        self.call(target, request, Lane::Large).await
    }
}

fn keyed(request: &Request) -> Result<&Key> {
    request.key().ok_or_else(|| Error::new(Kind::Invalid, "a request without a key"))
}
