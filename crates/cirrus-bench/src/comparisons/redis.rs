//! The same load over RESP against Redis.

use crate::comparisons::Family;
use crate::comparisons::requests::{Peer, Situation, Targets, cells};
use crate::load::Protocol;
use crate::ratio::Target;
use crate::servers::Kind;

pub(super) const FAMILY: Family = Family {
    name: "redis",
    about: "the same load over RESP against Cirrus and Redis: what an operation costs a server",
    cells: || {
        let ours = Peer { kind: Kind::Cirrus, protocol: Protocol::Resp };
        let theirs = Peer { kind: Kind::Redis, protocol: Protocol::Resp };
        cells("redis", ours, theirs, targets)
    },
};

fn targets(situation: Situation) -> Targets {
    match (situation.is_central(), situation.shape.pipeline) {
        (true, 1) => Targets {
            per_server_second: Some(Target::AtLeast(1.1)),
            syscalls: Some(Target::AtMost(1.0)),
            ..Targets::default()
        },
        (true, _) => {
            Targets { per_server_second: Some(Target::AtLeast(1.5)), ..Targets::default() }
        }
        (false, _) => Targets::default(),
    }
}
