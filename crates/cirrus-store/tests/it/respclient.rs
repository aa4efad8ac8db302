//! A client of RESP that records what it cannot know as unknown: it never repeats a command.
//!
//! Owns one socket, opened again when it fails. Invariant: a command that was sent and not answered
//! is unknown if it writes, and nothing if it reads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cirrus_store::Condition;

use crate::history::DAMAGED;
use crate::model::{Action, Answer, NEVER, number_of};

const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct RespClient {
    address: String,
    open: Option<BufReader<TcpStream>>,
}

enum Reply {
    Okay,
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
}

impl RespClient {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), open: None }
    }

    pub(crate) fn act(
        &mut self,
        name: &str,
        action: Action,
        value: impl Fn(i64) -> Bytes,
    ) -> Option<Answer> {
        let text = |number: u64| number.to_string().into_bytes();
        let name = name.as_bytes().to_vec();
        let command = match action {
            Action::Get => vec![b"GET".to_vec(), name],
            Action::Put { value: number, condition, expires_at } => {
                let mut command = vec![b"SET".to_vec(), name, value(number).to_vec()];
                if condition == Condition::IfAbsent {
                    command.push(b"NX".to_vec());
                }
                if expires_at != NEVER {
                    command.extend([b"PXAT".to_vec(), text(expires_at)]);
                }
                command
            }
            Action::Delete { .. } => vec![b"DEL".to_vec(), name],
            Action::Add { delta } => vec![b"INCRBY".to_vec(), name, text(delta.unsigned_abs())],
            Action::Push { value } => vec![b"RPUSH".to_vec(), name, text(value.unsigned_abs())],
            Action::Pop => vec![b"LPOP".to_vec(), name],
            Action::Restart => return None,
        };
        match self.call(&command) {
            Ok(reply) if !is_in_doubt(&reply) => Some(answer(action, reply)),
            Ok(_) | Err(_) if action == Action::Get => None,
            Ok(_) | Err(_) => Some(Answer::Unknown),
        }
    }

    fn call(&mut self, command: &[Vec<u8>]) -> io::Result<Reply> {
        let mut socket = match self.open.take() {
            Some(socket) => socket,
            None => self.connect()?,
        };
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for argument in command {
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        socket.get_mut().write_all(&bytes)?;
        let reply = read(&mut socket)?;
        self.open = Some(socket);
        Ok(reply)
    }

    /// Connects; a node that is being restarted is waited for.
    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match TcpStream::connect(&self.address) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_nodelay(true)?;
                    return Ok(BufReader::new(stream));
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

fn read(socket: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    if socket.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) = line.trim_end().split_at(1);
    Ok(match kind {
        "+" => Reply::Okay,
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Integer(rest.parse().unwrap()),
        "$" if rest == "-1" => Reply::Nil,
        "$" => {
            let mut bulk = vec![0; rest.parse::<usize>().unwrap() + 2];
            socket.read_exact(&mut bulk)?;
            bulk.truncate(bulk.len() - 2);
            Reply::Bulk(bulk)
        }
        other => panic!("a reply begins with {other:?}"),
    })
}

/// What a node says whose disk's power goes: the write may be there after a restart.
fn is_in_doubt(reply: &Reply) -> bool {
    let said = ["MISCONF", "ERR whether this was written", "ERR not carried out: Closed"];
    matches!(reply, Reply::Error(text) if said.iter().any(|start| text.starts_with(start)))
}

fn answer(action: Action, reply: Reply) -> Answer {
    match (action, reply) {
        (_, Reply::Error(text)) if text.starts_with("WRONGTYPE") => Answer::WrongType,
        (_, Reply::Error(text)) if text.starts_with("OOM") => Answer::Refused,
        (Action::Get, Reply::Bulk(value)) => Answer::Seen(number_of(&value).unwrap_or(DAMAGED)),
        (Action::Pop, Reply::Bulk(item)) => Answer::Popped(number_of(&item).unwrap_or(DAMAGED)),
        (Action::Get | Action::Pop, Reply::Nil) => Answer::NotFound,
        (Action::Put { .. }, Reply::Okay) => Answer::Stored,
        (Action::Put { .. }, Reply::Nil) => Answer::Exists,
        (Action::Delete { .. }, Reply::Integer(1)) => Answer::Done,
        (Action::Delete { .. }, Reply::Integer(0)) => Answer::NotFound,
        (Action::Add { .. }, Reply::Integer(sum)) => Answer::Sum(sum),
        (Action::Push { .. }, Reply::Integer(items)) => Answer::Items(items.unsigned_abs()),
        (action, Reply::Error(text)) => panic!("{action} is answered {text:?}"),
        (action, _) => panic!("{action} is answered with another kind"),
    }
}
