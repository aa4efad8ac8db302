//! Many objects in few round trips, from the caller's own thread.
//!
//! Owns cutting a list of requests into batches and putting the answers back in order. Invariant:
//! the answer at place i is that of request i.

use bytes::Bytes;

use crate::client::blocking::BlockingClient;
use crate::client::call::Answer;
use crate::client::many::{again, cut, for_batch, in_doubt, out_of_batch};
use crate::client::{PutOptions, found, get, put, unexpected};
use crate::error::{Error, Kind, Result};
use crate::key::{Key, Version};
use crate::object::Object;
use crate::wire::{Condition, Reply, Request, Write};

impl BlockingClient {
    /// As [`Client::get_many`](crate::Client::get_many).
    pub fn get_many(&mut self, keys: &[Key]) -> Vec<Result<Object>> {
        let requests = keys.iter().map(|key| get(key, Version(0))).collect();
        let replies = self.call_many(requests);
        keys.iter().zip(replies).map(|(key, reply)| found(key, reply?)).collect()
    }

    /// As [`Client::put_many`](crate::Client::put_many).
    pub fn put_many(&mut self, objects: &[(Key, Bytes)]) -> Vec<Result<Version>> {
        let requests = objects
            .iter()
            .map(|(key, value)| put(key, value.clone(), PutOptions::default()))
            .collect::<Result<Vec<_>>>();
        let replies = match requests {
            Ok(requests) => self.call_many(requests),
            // Nothing is sent when one of them never could be.
            Err(error) => return objects.iter().map(|_| Err(again(&error))).collect(),
        };
        let versions = objects.iter().zip(replies).map(|((key, _), reply)| match reply? {
            Reply::Written { version } => Ok(version),
            _ => Err(unexpected(key)),
        });
        versions.collect()
    }

    /// As [`Client::delete_many`](crate::Client::delete_many).
    pub fn delete_many(&mut self, keys: &[Key]) -> Vec<Result<()>> {
        let (write, condition) = (Write::default(), Condition::Always);
        let delete = |key: &Key| Request::Delete { key: key.clone(), write, condition };
        let replies = self.call_many(keys.iter().map(delete).collect());
        replies.into_iter().map(|reply| reply.map(|_| ())).collect()
    }

    fn call_many(&mut self, requests: Vec<Request>) -> Vec<Result<Reply>> {
        let mut replies = Vec::with_capacity(requests.len());
        for batch in cut(requests) {
            match <[Request; 1]>::try_from(batch) {
                Ok([single]) => replies.push(self.call(single.inlined(u32::MAX))),
                Err(batch) => replies.extend(self.batch(batch)),
            }
        }
        replies
    }

    fn batch(&mut self, items: Vec<Request>) -> Vec<Result<Reply>> {
        let answer = self.call_within(for_batch(&items), self.options.request_timeout);
        let (answers, doubt) = match answer {
            Ok(Answer { reply: Reply::Batch(answers), in_doubt })
                if answers.len() == items.len() =>
            {
                (answers, in_doubt)
            }
            Ok(_) => {
                let wrong = || Error::new(Kind::Protocol, "a batch answered in the wrong number");
                return items.iter().map(|_| Err(wrong())).collect();
            }
            Err(error) => return items.iter().map(|_| Err(again(&error))).collect(),
        };
        let verifies = self.options.verifies;
        let each = items.into_iter().zip(answers).map(|(item, answer)| match answer {
            Reply::Failed(fault) => {
                let error = item.fault(fault);
                match (error.is_retryable(), doubt && item.writes() > 0) {
                    (false, _) => Err(error),
                    (true, false) => self.call(item.inlined(u32::MAX)),
                    (true, true) => Err(in_doubt(error)),
                }
            }
            Reply::Deferred { .. } => self.call(item.inlined(u32::MAX)),
            answer => out_of_batch(&item, answer, verifies),
        });
        each.collect()
    }
}
