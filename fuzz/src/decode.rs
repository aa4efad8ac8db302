//! What each fuzz target does with its bytes. The stable test `mutations` of cirrus-store includes
//! this file and does the same.

use bytes::{Bytes, BytesMut};
use cirrus_store::server::resp::parse::{Argument, Broken, HEAD_BYTES, Input, Next, Room};
use cirrus_store::view::View;
use cirrus_store::wire::{
    ClientHello, Head, HeadLimits, Part, Reply, Request, ServerHello, VALUE_BYTES_MAX,
};
use cirrus_store::{SLOTS, Slot, Sums};

const LIMITS: HeadLimits = HeadLimits { payload_bytes_max: VALUE_BYTES_MAX };

/// Both hellos: any bytes are refused or read.
pub(crate) fn hello(data: &[u8]) {
    let _ = ClientHello::take(&mut BytesMut::from(data));
    let _ = ServerHello::take(&mut BytesMut::from(data));
}

/// The head of a frame: what is read is written, and read as the same.
pub(crate) fn head(data: &[u8]) {
    if let Ok(Some(head)) = Head::take(&mut BytesMut::from(data), LIMITS) {
        let mut again = BytesMut::new();
        head.put(&mut again);
        let read = Head::take(&mut again, LIMITS).expect("it was read before");
        assert_eq!(read.expect("it is whole"), head);
    }
}

/// A request, as a frame or in parts: what is read is written, and read as the same.
pub(crate) fn request(data: &[u8]) {
    for part in frame(data).into_iter().chain(in_parts(data)) {
        if let Ok(request) = Request::from_part(part) {
            let again = Request::from_part(request.to_part()).expect("it was read before");
            assert_eq!(again, request);
        }
    }
}

/// A reply, likewise.
pub(crate) fn reply(data: &[u8]) {
    for part in frame(data).into_iter().chain(in_parts(data)) {
        if let Ok(reply) = Reply::from_part(part) {
            let again = Reply::from_part(reply.to_part()).expect("it was read before");
            assert_eq!(again, reply);
        }
    }
}

/// A connection's bytes as a node reads them: the hello, then frames until one is wrong.
pub(crate) fn stream(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    if !matches!(ClientHello::take(&mut buffer), Ok(Some(_))) {
        return;
    }
    while let Ok(Some(head)) = Head::take(&mut buffer, LIMITS) {
        if buffer.len() < head.tail_bytes() {
            return;
        }
        let payload = buffer.split_to(head.payload_bytes()).freeze();
        let sums = Sums::from_table(buffer.split_to(head.table_bytes()).freeze());
        // What the payload's sums say is known before its meaning is.
        let _ = sums.check(head.phase, &payload);
        let _ = Request::from_part(Part::of(head, payload, sums));
    }
}

/// The items of a batch, of requests and of replies: two bytes say how many, the rest are they.
pub(crate) fn batch(data: &[u8]) {
    let Some((count, payload)) = data.split_first_chunk::<2>() else { return };
    let mut body = vec![count[0], count[1]];
    body.resize(8, 0);
    let payload = Bytes::copy_from_slice(payload);
    let sums = Sums::of(0, &payload);
    for opcode in [6, 0x86] {
        let (body, payload, sums) = (body.clone().into(), payload.clone(), sums.clone());
        let part = Part { opcode, body, payload, sums, ..Part::default() };
        if let Ok(request) = Request::from_part(part.clone()) {
            let again = Request::from_part(request.to_part()).expect("it was read before");
            assert_eq!(again, request);
        }
        if let Ok(reply) = Reply::from_part(part) {
            let again = Reply::from_part(reply.to_part()).expect("it was read before");
            assert_eq!(again, reply);
        }
    }
}

/// A view as JSON: one that passes names a node of its own for every slot that it covers.
pub(crate) fn view(data: &[u8]) {
    let Ok(view) = serde_json::from_slice::<View>(data) else { return };
    let Ok(view) = view.validated() else { return };
    for number in (0..SLOTS).step_by(97) {
        let slot = Slot::new(number).expect("below the number of slots");
        let is_covered = view.slots.iter().any(|run| run.first <= number && number <= run.last);
        assert_eq!(view.holder(slot).is_some(), is_covered);
    }
    let text = serde_json::to_vec(&view).expect("a view is JSON");
    let again: View = serde_json::from_slice(&text).expect("it was written just now");
    assert_eq!(again, view);
}

/// How many bytes of a stream come one by one, and how many of its line ends are cut in two: all
/// of them in a long stream would take a fuzzer's time.
const CUTS: usize = 64;

/// Commands of RESP: however they are cut, they come out the same, and so does what is wrong with
/// them.
pub(crate) fn resp(data: &[u8]) {
    let whole = commands(data, []);
    let chosen = chosen(data);
    assert_eq!(commands(data, (1..CUTS).chain(chosen)), whole, "cut to bytes, then at {chosen:?}");
    let ends = (1..=data.len()).filter(|at| data[at - 1] == b'\r').take(CUTS);
    let mut cuts: Vec<usize> = ends.chain(chosen).collect();
    cuts.sort_unstable();
    assert_eq!(commands(data, cuts.iter().copied()), whole, "cut at {cuts:?}");
}

/// Places in a stream that follow from its bytes (FNV-1a), in ascending order.
fn chosen(data: &[u8]) -> [usize; 8] {
    let mix = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let mut seed = data.iter().fold(0xCBF2_9CE4_8422_2325, |seed, byte| mix(seed, *byte));
    let mut places = [0; 8];
    for place in &mut places {
        seed = mix(seed, 1);
        *place = usize::try_from(seed >> 32).unwrap_or(0) % data.len().max(1);
    }
    places.sort_unstable();
    places
}

/// What a stream amounts to: its commands, and how it broke.
pub(crate) type Commands = (Vec<Vec<Vec<u8>>>, Option<Broken>);

/// The commands of a stream that comes in pieces, which end at `cuts`, in ascending order. Arguments
/// that cannot be whole are refused.
pub(crate) fn commands(data: &[u8], cuts: impl IntoIterator<Item = usize>) -> Commands {
    let mut input: Input<Vec<u8>> = Input::new(BytesMut::new());
    input.set_trusted(true);
    let mut commands = Vec::new();
    let mut cuts = cuts.into_iter();
    let (mut rest, mut cut) = (data, 0);
    loop {
        match input.parse() {
            Ok(Next::Command) => commands.push(arguments(&mut input)),
            Ok(Next::Refused) => commands.push(Vec::new()),
            Ok(Next::Admit(len)) if len > data.len() => input.refuse(),
            Ok(Next::Admit(len)) => input.admit(vec![0; len]),
            Ok(Next::More) if rest.is_empty() => return (commands, None),
            Ok(Next::More) => {
                let at = data.len() - rest.len();
                while cut <= at {
                    cut = cuts.next().unwrap_or(data.len());
                }
                let piece = cut.min(data.len()) - at;
                let taken = match input.room() {
                    Room::Small(buffer) => {
                        buffer.extend_from_slice(&rest[..piece]);
                        piece
                    }
                    Room::Large(room) => {
                        let here = piece.min(room.len());
                        room[..here].copy_from_slice(&rest[..here]);
                        let taken = piece.min(here + HEAD_BYTES);
                        input.filled(here, &rest[here..taken]);
                        taken
                    }
                };
                rest = &rest[taken..];
            }
            Err(broken) => return (commands, Some(broken)),
        }
    }
}

fn arguments(input: &mut Input<Vec<u8>>) -> Vec<Vec<u8>> {
    let large = input.take_large();
    (0..input.argument_count())
        .map(|index| match input.argument(index) {
            Argument::Here(bytes) => bytes.to_vec(),
            Argument::Large(index) => large[index].clone(),
        })
        .collect()
}

/// A whole frame, whatever its payload's sums say.
fn frame(data: &[u8]) -> Option<Part> {
    let mut buffer = BytesMut::from(data);
    let head = Head::take(&mut buffer, LIMITS).ok()??;
    let payload = Bytes::copy_from_slice(buffer.get(..head.payload_bytes())?);
    let sums = Sums::of(head.phase, &payload);
    Some(Part::of(head, payload, sums))
}

/// Opcode, flags, status, the lengths of body and key, then body, key and payload: without the
/// crc32c of a head, which keeps a fuzzer out.
fn in_parts(data: &[u8]) -> Option<Part> {
    let (&[opcode, flags, status, body_len, key_len], rest) = data.split_first_chunk::<5>()?;
    let (body, rest) = rest.split_at_checked(usize::from(body_len))?;
    let (key, payload) = rest.split_at_checked(usize::from(key_len))?;
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let sums = Sums::of(0, payload);
    let (body, key, payload) = (bytes(body), bytes(key), bytes(payload));
    Some(Part { opcode, flags, status: u16::from(status), phase: 0, body, key, payload, sums })
}
