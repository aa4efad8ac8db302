//! One request and its reply, byte for byte, for each protocol.
//!
//! Owns the encodings. Both sides of a key are of fixed length and only the key's number differs,
//! so a load encodes once and then patches eight digits. Invariant: a reply that is right is known
//! in advance, to the byte.

use crate::load::keys::{DIGITS, KeySpace, random, write_digits};

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Get,
    Set,
}

impl Operation {
    pub(crate) const ALL: [Self; 2] = [Self::Get, Self::Set];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
        }
    }
}

/// How it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// RESP2, as Redis speaks it.
    Resp,
    /// memcached's meta commands, its leanest.
    Meta,
}

/// A request and its reply; the key's number stands at the given places.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) request: Vec<u8>,
    pub(crate) request_keys_at: Vec<usize>,
    pub(crate) reply: Vec<u8>,
    pub(crate) reply_key_at: Option<usize>,
}

/// The value of key 0: the key's number, then noise that differs from size to size.
pub(crate) fn value_of(space: KeySpace) -> Vec<u8> {
    let mut state = space.value_bytes as u64;
    let mut value = Vec::with_capacity(space.value_bytes + 8);
    while value.len() < space.value_bytes {
        value.extend_from_slice(&random(&mut state).to_le_bytes());
    }
    value.truncate(space.value_bytes);
    write_digits(0, &mut value);
    value
}

impl Script {
    pub(crate) fn new(protocol: Protocol, operation: Operation, space: KeySpace) -> Self {
        assert!(space.value_bytes >= DIGITS, "a value begins with its key's number");
        let key = String::from_utf8(space.key(0)).expect("keys are ASCII");
        let (key_len, len) = (key.len(), space.value_bytes);
        let value = value_of(space);
        let (head, tail, answer) = match (protocol, operation) {
            (Protocol::Resp, Operation::Get) => {
                (format!("*2\r\n$3\r\nGET\r\n${key_len}\r\n{key}"), None, format!("${len}\r\n"))
            }
            (Protocol::Resp, Operation::Set) => {
                let head = format!("*3\r\n$3\r\nSET\r\n${key_len}\r\n{key}");
                (head, Some(format!("\r\n${len}\r\n")), "+OK\r\n".to_owned())
            }
            (Protocol::Meta, Operation::Get) => {
                (format!("mg {key} v"), None, format!("VA {len}\r\n"))
            }
            (Protocol::Meta, Operation::Set) => {
                (format!("ms {key}"), Some(format!(" {len}\r\n")), "HD\r\n".to_owned())
            }
        };
        let head_key_at = match (protocol, operation) {
            (Protocol::Meta, Operation::Get) => head.len() - 2 - DIGITS,
            _ => head.len() - DIGITS,
        };
        let mut request = head.into_bytes();
        let mut request_keys_at = vec![head_key_at];
        let mut reply = answer.into_bytes();
        let mut reply_key_at = None;
        match tail {
            Some(tail) => {
                request.extend_from_slice(tail.as_bytes());
                request_keys_at.push(request.len());
                request.extend_from_slice(&value);
            }
            None => {
                reply_key_at = Some(reply.len());
                reply.extend_from_slice(&value);
                reply.extend_from_slice(b"\r\n");
            }
        }
        request.extend_from_slice(b"\r\n");
        Self { request, request_keys_at, reply, reply_key_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: KeySpace = KeySpace { value_bytes: 8 };

    fn text(protocol: Protocol, operation: Operation) -> (String, String) {
        let mut script = Script::new(protocol, operation, SPACE);
        for at in script.request_keys_at {
            write_digits(0x1f, &mut script.request[at..]);
        }
        if let Some(at) = script.reply_key_at {
            write_digits(0x1f, &mut script.reply[at..]);
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(script.request), text(script.reply))
    }

    #[test]
    fn requests_and_replies_are_those_of_the_protocols() {
        let (request, reply) = text(Protocol::Resp, Operation::Get);
        assert_eq!(request, "*2\r\n$3\r\nGET\r\n$16\r\nbench:8:0000001f\r\n");
        assert_eq!(reply, "$8\r\n0000001f\r\n");
        let (request, reply) = text(Protocol::Resp, Operation::Set);
        assert_eq!(request, "*3\r\n$3\r\nSET\r\n$16\r\nbench:8:0000001f\r\n$8\r\n0000001f\r\n");
        assert_eq!(reply, "+OK\r\n");
        let (request, reply) = text(Protocol::Meta, Operation::Get);
        assert_eq!((&*request, &*reply), ("mg bench:8:0000001f v\r\n", "VA 8\r\n0000001f\r\n"));
        let (request, reply) = text(Protocol::Meta, Operation::Set);
        assert_eq!((&*request, &*reply), ("ms bench:8:0000001f 8\r\n0000001f\r\n", "HD\r\n"));
    }
}
