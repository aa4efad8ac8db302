//! The same load over RESP against Cirrus, and over meta commands against memcached.

use crate::comparisons::Family;
use crate::comparisons::requests::{Peer, Situation, Targets, cells};
use crate::load::Protocol;
use crate::ratio::Target;
use crate::servers::Kind;

pub(super) const FAMILY: Family = Family {
    name: "memcached",
    about: "the same load against Cirrus (RESP) and memcached (meta commands)",
    cells: || {
        let ours = Peer { kind: Kind::Cirrus, protocol: Protocol::Resp };
        let theirs = Peer { kind: Kind::Memcached, protocol: Protocol::Meta };
        cells("memcached", ours, theirs, targets)
    },
};

fn targets(situation: Situation) -> Targets {
    let is_pipelined = situation.shape.pipeline > 1;
    let target = (situation.is_central() && is_pipelined).then_some(Target::AtLeast(1.5));
    Targets { per_server_second: target, ..Targets::default() }
}
