//! The first bytes of a connection: who speaks, which version, which limits.
//!
//! Owns both hellos. Magic, protocol version and feature bits appear here and nowhere else.
//! Invariant: the first byte, 0xC1, starts no RESP command, no TLS record and no HTTP request.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::checksum::crc32c;
use crate::error::{Error, Kind, Result};
use crate::token::Token;
use crate::wire::{Status, VALUE_BYTES_MAX};

/// The first four bytes, in both directions.
pub const MAGIC: [u8; 4] = [0xC1, b'R', b'R', b'S'];

/// The protocol version of this build, and the only one that it speaks.
pub const VERSION: u16 = 1;

/// Feature: the node listens for clients of its host on a socket beside, and over that one shares
/// the memory in which large values lie.
pub const SHARED_MEMORY: u64 = 1;

/// The feature bits of this build.
pub const FEATURES: u64 = SHARED_MEMORY;

/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 1024;

const CLIENT_HELLO_BYTES: usize = 48;

/// Bytes of the server's hello.
pub const SERVER_HELLO_BYTES: usize = 56;

/// Zeros before the crc32c of the server's hello.
const RESERVED_BYTES: usize = 10;

/// What a client says first: 48 bytes and its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The newest version that the client speaks.
    pub version_max: u16,
    /// The oldest version that the client speaks.
    pub version_min: u16,
    /// What the client can do beyond the version.
    pub features: u64,
    /// The client's session; every connection of a client carries the same.
    pub session: u64,
    /// The incarnation that the client has spoken with before, or 0.
    pub incarnation: u64,
    /// The client's view of the pool.
    pub epoch: u32,
    /// The client's secret; empty where none is asked for.
    pub token: Token,
}

impl ClientHello {
    /// Appends the hello to `buffer`. The token has at most [`TOKEN_BYTES_MAX`] bytes.
    pub fn put(&self, buffer: &mut BytesMut) {
        let start = buffer.len();
        buffer.put_slice(&MAGIC);
        buffer.put_u16_le(self.version_max);
        buffer.put_u16_le(self.version_min);
        buffer.put_u64_le(self.features);
        buffer.put_u64_le(self.session);
        buffer.put_u64_le(self.incarnation);
        buffer.put_u32_le(self.epoch);
        buffer.put_u16_le(u16::try_from(self.token.as_bytes().len()).expect("tokens are short"));
        buffer.put_u16_le(0);
        buffer.put_u32_le(0);
        let crc = crc32c([&buffer[start..], self.token.as_bytes()]);
        buffer.put_u32_le(crc);
        buffer.put_slice(self.token.as_bytes());
    }

    /// Takes a hello off the front of `buffer`; `None` means that more bytes are needed.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>> {
        check_magic(buffer)?;
        let Some(fixed) = buffer.first_chunk::<CLIENT_HELLO_BYTES>() else { return Ok(None) };
        let mut at = &fixed[MAGIC.len()..];
        let version_max = at.get_u16_le();
        let version_min = at.get_u16_le();
        let features = at.get_u64_le();
        let session = at.get_u64_le();
        let incarnation = at.get_u64_le();
        let epoch = at.get_u32_le();
        let token_len = usize::from(at.get_u16_le());
        at.advance(6);
        let crc = at.get_u32_le();
        if token_len > TOKEN_BYTES_MAX {
            return Err(Error::new(Kind::Protocol, format!("a token of {token_len} bytes")));
        }
        let len = CLIENT_HELLO_BYTES + token_len;
        if buffer.len() < len {
            return Ok(None);
        }
        let token = &buffer[CLIENT_HELLO_BYTES..len];
        if crc32c([&buffer[..CLIENT_HELLO_BYTES - 4], token]) != crc {
            return Err(Error::new(Kind::Corrupt, "a hello does not match its crc32c"));
        }
        let token = Bytes::copy_from_slice(token).into();
        buffer.advance(len);
        Ok(Some(Self { version_max, version_min, features, session, incarnation, epoch, token }))
    }
}

/// What a node holds its clients to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest value, in bytes.
    pub value_bytes_max: u32,
    /// The most waits of one connection that may be open at a time.
    pub in_flight_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { value_bytes_max: VALUE_BYTES_MAX, in_flight_max: 4096 }
    }
}

/// What the server answers: 56 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHello {
    /// The version that both will speak, or the server's own when there is none in common.
    pub version: u16,
    /// Whether the client is welcome.
    pub status: Status,
    /// The features that both have.
    pub features: u64,
    /// This life of the client's session: another number means that the node has forgotten what
    /// the session wrote. 0 when the client is not welcome.
    pub session_life: u64,
    /// This life of the node; a restarted memory node has another.
    pub incarnation: u64,
    /// The node's view of the pool.
    pub epoch: u32,
    /// What the node accepts.
    pub limits: Limits,
}

impl ServerHello {
    /// Appends the hello to `buffer`.
    pub fn put(&self, buffer: &mut BytesMut) {
        let start = buffer.len();
        buffer.put_slice(&MAGIC);
        buffer.put_u16_le(self.version);
        buffer.put_u16_le(self.status.code());
        buffer.put_u64_le(self.features);
        buffer.put_u64_le(self.session_life);
        buffer.put_u64_le(self.incarnation);
        buffer.put_u32_le(self.epoch);
        buffer.put_u32_le(self.limits.value_bytes_max);
        buffer.put_u16_le(self.limits.in_flight_max);
        buffer.put_bytes(0, RESERVED_BYTES);
        let crc = crc32c([&buffer[start..]]);
        buffer.put_u32_le(crc);
    }

    /// Takes a hello off the front of `buffer`; `None` means that more bytes are needed.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>> {
        check_magic(buffer)?;
        let Some(fixed) = buffer.first_chunk::<SERVER_HELLO_BYTES>() else { return Ok(None) };
        let mut at = &fixed[MAGIC.len()..];
        let version = at.get_u16_le();
        let code = at.get_u16_le();
        let status = Status::from_code(code)
            .ok_or_else(|| Error::new(Kind::Protocol, format!("a hello of status {code}")))?;
        let features = at.get_u64_le();
        let session_life = at.get_u64_le();
        let incarnation = at.get_u64_le();
        let epoch = at.get_u32_le();
        let limits = Limits { value_bytes_max: at.get_u32_le(), in_flight_max: at.get_u16_le() };
        at.advance(RESERVED_BYTES);
        if crc32c([&fixed[..SERVER_HELLO_BYTES - 4]]) != at.get_u32_le() {
            return Err(Error::new(Kind::Corrupt, "a hello does not match its crc32c"));
        }
        buffer.advance(SERVER_HELLO_BYTES);
        Ok(Some(Self { version, status, features, session_life, incarnation, epoch, limits }))
    }
}

fn check_magic(buffer: &[u8]) -> Result<()> {
    let len = buffer.len().min(MAGIC.len());
    if buffer[..len] == MAGIC[..len] {
        return Ok(());
    }
    Err(Error::new(Kind::Protocol, "the peer does not speak the Cirrus protocol"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hellos_round_trip() {
        let client = ClientHello {
            version_max: 3,
            version_min: 1,
            features: 5,
            session: 7,
            incarnation: 9,
            epoch: 11,
            token: "secret".into(),
        };
        let mut bytes = BytesMut::new();
        client.put(&mut bytes);
        assert_eq!(ClientHello::take(&mut BytesMut::from(&bytes[..50])).unwrap(), None);
        assert_eq!(ClientHello::take(&mut bytes).unwrap(), Some(client));
        let server = ServerHello {
            version: 1,
            status: Status::Failed(Kind::Unauthorized),
            features: 0,
            session_life: 7,
            incarnation: 9,
            epoch: 11,
            limits: Limits::default(),
        };
        let mut bytes = BytesMut::new();
        server.put(&mut bytes);
        assert_eq!(bytes.len(), SERVER_HELLO_BYTES);
        assert_eq!(ServerHello::take(&mut bytes).unwrap(), Some(server));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read_but_never_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..1200), magic: bool,
        ) {
            if magic && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&MAGIC);
            }
            let _ = ClientHello::take(&mut BytesMut::from(&bytes[..]));
            let _ = ServerHello::take(&mut BytesMut::from(&bytes[..]));
        }
    }
}
