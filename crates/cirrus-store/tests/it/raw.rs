//! A client that speaks frames by hand, and can misbehave.

use bytes::{BufMut, BytesMut};
use cirrus_store::transport::{Endpoint, Link};
use cirrus_store::wire::{
    ClientHello, FEATURES, Head, HeadLimits, Part, Reply, Request, ServerHello, VALUE_BYTES_MAX,
    VERSION, encode_frame,
};
use cirrus_store::{Result, Sums};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) struct Raw {
    pub(crate) link: Link,
    pub(crate) buffer: BytesMut,
    pub(crate) hello: Option<ServerHello>,
    next_id: u64,
}

impl Raw {
    /// A connection without a hello.
    pub(crate) async fn connect(endpoint: &Endpoint) -> std::io::Result<Self> {
        let link = endpoint.connect().await?;
        Ok(Self { link, buffer: BytesMut::new(), hello: None, next_id: 0 })
    }

    /// A connection of `session`, greeted.
    pub(crate) async fn open(endpoint: &Endpoint, session: u64) -> std::io::Result<Self> {
        let mut raw = Self::connect(endpoint).await?;
        raw.write(&hello(session)).await?;
        loop {
            if let Some(hello) = ServerHello::take(&mut raw.buffer).unwrap() {
                raw.hello = Some(hello);
                return Ok(raw);
            }
            raw.fill().await?;
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.link.writer.write_all(bytes).await?;
        self.link.writer.flush().await
    }

    /// Sends a request and returns its number.
    pub(crate) async fn send(&mut self, request: &Request) -> std::io::Result<u64> {
        self.next_id += 1;
        let mut frame = BytesMut::new();
        encode_frame(&request.to_part(), self.next_id, 0, &mut frame);
        self.write(&frame).await?;
        Ok(self.next_id)
    }

    /// The next reply and the number of its request.
    pub(crate) async fn reply(&mut self) -> std::io::Result<(u64, Reply)> {
        let limits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };
        let head = loop {
            match Head::take(&mut self.buffer, limits).unwrap() {
                Some(head) => break head,
                None => self.fill().await?,
            }
        };
        while self.buffer.len() < head.tail_bytes() {
            self.fill().await?;
        }
        let payload = self.buffer.split_to(head.payload_bytes()).freeze();
        let table = self.buffer.split_to(head.table_bytes()).freeze();
        let id = head.request_id;
        Ok((id, Reply::from_part(Part::of(head, payload, Sums::from_table(table))).unwrap()))
    }

    pub(crate) async fn call(&mut self, request: &Request) -> std::io::Result<Reply> {
        let id = self.send(request).await?;
        let (answered, reply) = self.reply().await?;
        assert_eq!(answered, id);
        Ok(reply)
    }

    /// Reads until the node closes the connection; how many bytes came.
    pub(crate) async fn until_closed(&mut self) -> usize {
        let mut came = 0;
        let mut buffer = vec![0; 4096];
        loop {
            match self.link.reader.read(&mut buffer).await {
                Ok(0) | Err(_) => return came,
                Ok(read) => came += read,
            }
        }
    }

    async fn fill(&mut self) -> std::io::Result<()> {
        match self.link.reader.read_buf(&mut self.buffer).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

pub(crate) fn hello(session: u64) -> BytesMut {
    let mut bytes = BytesMut::new();
    let hello = ClientHello {
        version_max: VERSION,
        version_min: VERSION,
        features: FEATURES,
        session,
        incarnation: 0,
        epoch: 0,
        token: "".into(),
    };
    hello.put(&mut bytes);
    bytes
}

/// A frame's head with any lengths and no more bytes than the head, its body and its key.
pub(crate) fn head(part: &Part, payload_len: u32) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut head = part.head(1, 0);
    head.payload_len = payload_len;
    head.put(&mut bytes);
    bytes
}

/// Reads a golden file's frame back.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Head, Part)>> {
    let mut buffer = BytesMut::with_capacity(bytes.len());
    buffer.put_slice(bytes);
    let limits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };
    let Some(head) = Head::take(&mut buffer, limits)? else { return Ok(None) };
    if buffer.len() < head.tail_bytes() {
        return Ok(None);
    }
    let payload = buffer.split_to(head.payload_bytes()).freeze();
    let table = buffer.split_to(head.table_bytes()).freeze();
    let part = Part::of(head.clone(), payload, Sums::from_table(table));
    Ok(Some((head, part)))
}
