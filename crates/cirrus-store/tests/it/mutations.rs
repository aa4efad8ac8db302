//! The decoders against bytes that a hostile peer may send: what the fuzz targets do, on stable.
//!
//! Golden files, mutated under a seed, and whatever the fuzzers have found (`fuzz/corpus`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::golden::folder;
use crate::raw::parse;
use crate::rig::Random;

#[path = "../../../../fuzz/src/decode.rs"]
mod decode;

const MUTATIONS: u64 = 100_000;

type Target = fn(&[u8]);

/// The fuzz targets by the names of their corpora.
const TARGETS: [(&str, Target); 8] = [
    ("hello", decode::hello),
    ("head", decode::head),
    ("request", decode::request),
    ("reply", decode::reply),
    ("stream", decode::stream),
    ("batch", decode::batch),
    ("view", decode::view),
    ("resp", decode::resp),
];

/// A frame in the form that the targets `request` and `reply` read without a crc32c.
fn in_parts(frame: &[u8]) -> Option<Vec<u8>> {
    let (_, part) = parse(frame).ok()??;
    let byte = |number: usize| u8::try_from(number).ok();
    let status = byte(usize::from(part.status))?;
    let mut bytes =
        vec![part.opcode, part.flags, status, byte(part.body.len())?, byte(part.key.len())?];
    bytes.extend_from_slice(&part.body);
    bytes.extend_from_slice(&part.key);
    bytes.extend_from_slice(&part.payload);
    Some(bytes)
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(random.byte());
        return;
    }
    let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
    match random.below(5) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][usize::from(random.byte() % 5)],
        2 => bytes.truncate(at),
        3 => drop(bytes.remove(at)),
        _ => bytes.insert(at, random.byte()),
    }
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name)
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_is_refused_or_read_but_never_panics() {
    for (name, target) in TARGETS {
        let files = files(&corpus(name));
        assert!(!files.is_empty(), "fuzz/corpus/{name} is empty");
        files.iter().for_each(|bytes| target(bytes));
    }
}

#[test]
fn mutated_golden_frames_are_refused_or_read_but_never_panic() {
    let golden: Vec<Vec<u8>> =
        files(&folder()).into_iter().filter(|bytes| bytes.len() < 4096).collect();
    let in_parts: Vec<Vec<u8>> = golden.iter().filter_map(|frame| in_parts(frame)).collect();
    assert!(golden.len() > 40 && in_parts.len() > 40);
    let all: Vec<&Vec<u8>> = golden.iter().chain(&in_parts).collect();
    let mut random = Random(1);
    for _ in 0..MUTATIONS {
        let mut bytes = all[usize::try_from(random.below(all.len() as u64)).unwrap()].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        TARGETS.iter().for_each(|(_, target)| target(&bytes));
    }
}

/// Each target's own corpus, in the form that it reads.
#[test]
fn mutated_corpora_are_refused_or_read_but_never_panic() {
    let mut random = Random(2);
    for (name, target) in TARGETS {
        let files = files(&corpus(name));
        for _ in 0..MUTATIONS / 4 {
            let number = usize::try_from(random.below(files.len() as u64)).unwrap();
            let mut bytes = files[number].clone();
            for _ in 0..=random.below(6) {
                mutate(&mut bytes, &mut random);
            }
            target(&bytes);
        }
    }
}

#[test]
fn mutated_commands_come_out_the_same_however_they_are_cut() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/resp");
    let seeds = files(&corpus);
    let mut random = Random(2);
    for _ in 0..MUTATIONS / 10 {
        let mut bytes = Vec::new();
        for _ in 0..=random.below(3) {
            let seed = usize::try_from(random.below(seeds.len() as u64)).unwrap();
            bytes.extend_from_slice(&seeds[seed]);
        }
        for _ in 0..random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        decode::resp(&bytes);
    }
}

#[test]
fn every_cut_of_a_stream_gives_the_same_commands() {
    let large = [&b"*2\r\n$4\r\necho\r\n$20000\r\n"[..], &[7; 20_000], b"\r\n"].concat();
    let stream = [&large[..], b"get 'a b' \"c\\x41\"\r\n*1\r\n$0\r\n\r\n*0\r\n\n", &large].concat();
    let expected = [
        vec![b"echo".to_vec(), vec![7; 20_000]],
        vec![b"get".to_vec(), b"a b".to_vec(), b"cA".to_vec()],
        vec![Vec::new()],
        vec![b"echo".to_vec(), vec![7; 20_000]],
    ];
    for piece in (1..400).chain([16_384, 19_999, 20_030, 30_000, stream.len()]) {
        let cuts = (piece..stream.len()).step_by(piece);
        let (commands, broken) = decode::commands(&stream, cuts);
        assert_eq!(broken, None);
        assert!(commands == expected, "pieces of {piece} bytes");
    }
}
