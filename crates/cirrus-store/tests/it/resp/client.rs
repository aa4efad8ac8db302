//! A RESP client that shows the very bytes, and a redis-server to compare with.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A stream to a server.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection on which commands are sent and replies are read as bytes.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    at: usize,
}

impl Wire {
    pub(crate) fn tcp(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: Box::new(stream), buffer: Vec::new(), at: 0 }
    }

    pub(super) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(super) fn send(&mut self, command: &[impl AsRef<[u8]>]) {
        self.send_raw(&encoded(command));
    }

    /// One whole reply, as it came.
    pub(super) fn reply(&mut self) -> Vec<u8> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let mut replies = 1;
        while replies > 0 {
            replies -= 1;
            let line = self.line();
            let number = || std::str::from_utf8(&line[1..]).unwrap().parse::<i64>().unwrap();
            match line[0] {
                b'+' | b'-' | b':' | b'_' | b',' | b'#' => {}
                b'$' | b'=' if number() < 0 => {}
                b'$' | b'=' => self.skip(usize::try_from(number()).unwrap() + 2),
                b'*' | b'~' | b'>' => replies += number().max(0),
                b'%' => replies += 2 * number(),
                other => panic!("a reply begins with {:?}", char::from(other)),
            }
        }
        self.buffer[..self.at].to_vec()
    }

    pub(crate) fn call(&mut self, command: &[impl AsRef<[u8]>]) -> Vec<u8> {
        self.send(command);
        self.reply()
    }

    /// A reply as text.
    pub(super) fn text(&mut self, command: &[&str]) -> String {
        String::from_utf8(self.call(command)).unwrap()
    }

    /// Whether the server has closed the connection, after whatever it still said.
    pub(super) fn until_closed(&mut self) -> Vec<u8> {
        let mut rest = self.buffer.split_off(self.at);
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return rest,
                Ok(read) => rest.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return rest,
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }

    fn line(&mut self) -> Vec<u8> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
                let line = rest[..end].to_vec();
                self.at += end + 2;
                return line;
            }
            self.fill();
        }
    }

    fn skip(&mut self, bytes: usize) {
        while self.buffer.len() < self.at + bytes {
            self.fill();
        }
        self.at += bytes;
    }

    fn fill(&mut self) {
        let mut chunk = vec![0; 64 * 1024];
        let read = self.stream.read(&mut chunk).unwrap();
        assert!(read > 0, "closed; before: {}", self.buffer[self.at..].escape_ascii());
        self.buffer.extend_from_slice(&chunk[..read]);
    }
}

pub(super) fn encoded(command: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A redis-server that keeps nothing, ended with the value.
pub(super) struct Redis {
    child: Child,
    socket: PathBuf,
}

impl Redis {
    pub(super) fn start(arguments: &[&str]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cirrus-redis-{}-{number}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let version = Command::new("redis-server").arg("--version").output();
        let version = version.expect("redis-server 7.0 is needed: `make tools` installs it").stdout;
        let version = String::from_utf8(version).unwrap();
        assert!(version.contains("v=7.0."), "redis-server 7.0 is needed: {version}");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .args(arguments)
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self { child, socket };
        let deadline = Instant::now() + REPLY_TIMEOUT;
        while UnixStream::connect(&redis.socket).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        redis
    }

    pub(super) fn wire(&self) -> Wire {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
        Wire { stream: Box::new(stream), buffer: Vec::new(), at: 0 }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already; either way it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}
