//! The decoders against bytes that a hostile peer may send: what the fuzz targets do, on stable.
//!
//! Golden files, mutated under a seed, and whatever the fuzzers have found (`fuzz/corpus`).

use std::fs;
use std::path::Path;

use bytes::BytesMut;
use cirrus_store::wire::{ClientHello, Reply, Request, ServerHello};

use crate::golden::folder;
use crate::raw::parse;
use crate::rig::Random;

const MUTATIONS: u64 = 100_000;

/// Everything that reads a peer's bytes. It may refuse them; it must not panic.
fn decode(bytes: &[u8]) {
    let _ = ClientHello::take(&mut BytesMut::from(bytes));
    let _ = ServerHello::take(&mut BytesMut::from(bytes));
    if let Ok(Some((_, part))) = parse(bytes) {
        if let Ok(request) = Request::from_part(part.clone()) {
            // What was read can be written, and is read as the same.
            assert_eq!(Request::from_part(request.to_part()).unwrap(), request);
        }
        if let Ok(reply) = Reply::from_part(part) {
            assert_eq!(Reply::from_part(reply.to_part()).unwrap(), reply);
        }
    }
}

/// A mutated head does not pass its crc32c, so most of the work is done on what lies behind it.
fn decode_body(bytes: &[u8], random: &mut Random) {
    let Ok(Some((_, mut part))) = parse(bytes) else { return };
    let mut body = part.body.to_vec();
    let mut payload = part.payload.to_vec();
    for _ in 0..=random.below(4) {
        let target = if random.below(2) == 0 { &mut body } else { &mut payload };
        mutate(target, random);
    }
    if random.below(8) == 0 {
        part.opcode = u8::try_from(random.below(256)).unwrap();
    }
    if random.below(8) == 0 {
        part.flags = u8::try_from(random.below(256)).unwrap();
    }
    if random.below(8) == 0 {
        part.status = u16::try_from(random.below(32)).unwrap();
    }
    (part.body, part.payload) = (body.into(), payload.into());
    let _ = Request::from_part(part.clone());
    let _ = Reply::from_part(part);
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(u8::try_from(random.below(256)).unwrap());
        return;
    }
    let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
    match random.below(5) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][usize::try_from(random.below(5)).unwrap()],
        2 => bytes.truncate(at),
        3 => drop(bytes.remove(at)),
        _ => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
    }
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files = paths.iter().filter(|path| path.is_file());
    files.map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_is_refused_or_read_but_never_panics() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for target in ["hello", "head", "request", "reply"] {
        let corpus = files(&fuzz.join(target));
        assert!(!corpus.is_empty(), "fuzz/corpus/{target} is empty");
        corpus.iter().for_each(|bytes| decode(bytes));
    }
}

#[test]
fn mutated_golden_frames_are_refused_or_read_but_never_panic() {
    let golden: Vec<Vec<u8>> =
        files(&folder()).into_iter().filter(|bytes| bytes.len() < 4096).collect();
    let mut random = Random(1);
    for _ in 0..MUTATIONS {
        let at = usize::try_from(random.below(golden.len() as u64)).unwrap();
        decode_body(&golden[at], &mut random);
        let mut bytes = golden[at].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        decode(&bytes);
    }
}
