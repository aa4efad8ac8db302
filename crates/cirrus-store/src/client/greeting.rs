//! How a client and a node say hello.
//!
//! Owns the opening of a link, and what a node has to answer for us to stay. Knows nothing of
//! requests. Invariant: a link that is handed on has been greeted by a node that speaks our version
//! and lets us in.

use std::os::fd::OwnedFd;

use crate::client::attempt::Greeting;
use crate::error::{Error, Kind, Result};
use crate::token::Token;
use crate::transport::{Endpoint, FrameReader, FrameWriter, LinkReader, LinkWriter, neighbour};
use crate::wire::{
    ClientHello, FEATURES, HeadLimits, SHARED_MEMORY, ServerHello, Status, VALUE_BYTES_MAX, VERSION,
};

/// What we take of a node.
pub(super) const LIMITS: HeadLimits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };

/// A link on which both sides have said hello.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) reader: FrameReader<LinkReader>,
    pub(super) writer: LinkWriter,
    pub(super) greeting: Greeting,
    pub(super) in_flight: usize,
    /// Where the same node listens for clients of its host, if it does and we are one.
    pub(super) neighbour: Option<String>,
    /// The file of the node's large values, if it came with the hello.
    pub(super) file: Option<OwnedFd>,
}

impl Greeted {
    pub(super) async fn open(endpoint: &Endpoint, session: u64, token: &Token) -> Result<Self> {
        let link = endpoint.connect().await.map_err(|error| {
            Error::new(Kind::Closed, format!("cannot connect to {endpoint}")).with_source(error)
        })?;
        let mut reader = FrameReader::new(link.reader, LIMITS);
        let (peer, here) = reader.link().addresses();
        let mut writer = FrameWriter::new(link.writer);
        let hello = hello(session, token);
        writer.push_bytes(|bytes| hello.put(bytes));
        writer.flush().await?;
        let answer = reader.take(ServerHello::take).await?.ok_or_else(|| {
            Error::new(Kind::Closed, format!("{endpoint} closed the connection at the hello"))
        })?;
        let greeting = accepted(&endpoint.to_string(), &answer)?;
        let in_flight = usize::from(answer.limits.in_flight_max).max(1);
        let shares = answer.features & SHARED_MEMORY != 0;
        let neighbour = if shares { neighbour(answer.incarnation, peer, here) } else { None };
        let file = reader.link_mut().take_file();
        Ok(Self { reader, writer: writer.into_link(), greeting, in_flight, neighbour, file })
    }
}

/// What a client of this session says first.
pub(super) fn hello(session: u64, token: &Token) -> ClientHello {
    ClientHello {
        version_max: VERSION,
        version_min: VERSION,
        features: FEATURES,
        session,
        incarnation: 0,
        epoch: 0,
        token: token.clone(),
    }
}

/// Whether the node's hello lets us in.
pub(super) fn accepted(endpoint: &str, answer: &ServerHello) -> Result<Greeting> {
    let version = answer.version;
    match answer.status {
        Status::Failed(kind) => Err(Error::new(
            kind,
            format!("{endpoint} turned us away: {kind:?} (it speaks version {version})"),
        )),
        Status::Ok if version == VERSION => {
            Ok(Greeting { incarnation: answer.incarnation, session_life: answer.session_life })
        }
        Status::Ok | Status::NotModified | Status::Deferred => Err(Error::new(
            Kind::Protocol,
            format!("{endpoint} speaks version {version}, we speak {VERSION}"),
        )),
    }
}
