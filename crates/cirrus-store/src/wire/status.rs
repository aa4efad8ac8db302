//! The status of a reply, two bytes on the wire.
//!
//! Owns the mapping between [`Kind`] and its code, in both directions.
//! Invariant: a code is never given another meaning.

use crate::error::Kind;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It was carried out.
    Ok,
    /// A conditional get found nothing newer; there is no payload.
    NotModified,
    /// The value is larger than the request takes inline; ask again on a connection for large ones.
    Deferred,
    /// It failed.
    Failed(Kind),
}

impl Status {
    /// The code on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::Ok => 0,
            Self::NotModified => 1,
            Self::Deferred => 2,
            Self::Failed(kind) => match kind {
                Kind::NotFound => 16,
                Kind::OutOfMemory => 17,
                Kind::TooLarge => 18,
                Kind::WrongVersion => 19,
                Kind::WrongType => 20,
                Kind::Moved => 21,
                Kind::Busy => 22,
                Kind::Timeout => 23,
                Kind::Unknown => 24,
                Kind::Unauthorized => 25,
                Kind::Corrupt => 26,
                Kind::Closed => 27,
                Kind::Protocol => 28,
                Kind::Invalid => 29,
                Kind::Io => 30,
            },
        }
    }

    /// The status with this code, if there is one.
    pub const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            0 => Self::Ok,
            1 => Self::NotModified,
            2 => Self::Deferred,
            16 => Self::Failed(Kind::NotFound),
            17 => Self::Failed(Kind::OutOfMemory),
            18 => Self::Failed(Kind::TooLarge),
            19 => Self::Failed(Kind::WrongVersion),
            20 => Self::Failed(Kind::WrongType),
            21 => Self::Failed(Kind::Moved),
            22 => Self::Failed(Kind::Busy),
            23 => Self::Failed(Kind::Timeout),
            24 => Self::Failed(Kind::Unknown),
            25 => Self::Failed(Kind::Unauthorized),
            26 => Self::Failed(Kind::Corrupt),
            27 => Self::Failed(Kind::Closed),
            28 => Self::Failed(Kind::Protocol),
            29 => Self::Failed(Kind::Invalid),
            30 => Self::Failed(Kind::Io),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_leads_back_to_its_status() {
        let known: Vec<u16> = (0..=u16::MAX).filter(|c| Status::from_code(*c).is_some()).collect();
        assert_eq!(known.len(), 18);
        for code in known {
            assert_eq!(Status::from_code(code).map(Status::code), Some(code));
        }
    }
}
