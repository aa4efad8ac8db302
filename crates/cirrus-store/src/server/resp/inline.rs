//! The commands of telnet: words on a line, with quotes.
//!
//! Owns how a line is split, as Redis does it. Pure. Invariant: what comes out is no longer than
//! what went in.

/// Splits a line into words as a shell would: `words` gets their bytes, `found` where each starts
/// and how long it is. False when a quote does not end, or something touches its end.
pub(super) fn split_line(
    line: &[u8],
    words: &mut Vec<u8>,
    mut found: impl FnMut(usize, usize),
) -> bool {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        if line.get(at).is_none_or(|byte| *byte == 0) {
            return true;
        }
        let start = words.len();
        let Some(after) = word(line, at, words) else { return false };
        at = after;
        found(start, words.len() - start);
    }
}

/// Appends the word that begins at `at`, and returns where it ends.
fn word(line: &[u8], mut at: usize, words: &mut Vec<u8>) -> Option<usize> {
    let mut quote = None;
    loop {
        let byte = line.get(at).copied().filter(|byte| *byte != 0);
        match (quote, byte) {
            (None, None) => return Some(at),
            (Some(_), None) => return None,
            (None, Some(b' ' | b'\t' | b'\r' | b'\n')) => return Some(at),
            (None, Some(byte @ (b'"' | b'\''))) => quote = Some(byte),
            (None, Some(byte)) => words.push(byte),
            (Some(open), Some(byte)) if byte == open => {
                let ends = line.get(at + 1).is_none_or(|next| is_space(*next) || *next == 0);
                return ends.then_some(at + 1);
            }
            (Some(b'"'), Some(b'\\')) => at += escape(&line[at + 1..], words),
            (Some(b'\''), Some(b'\\')) if line.get(at + 1) == Some(&b'\'') => {
                at += 1;
                words.push(b'\'');
            }
            (Some(_), Some(byte)) => words.push(byte),
        }
        at += 1;
    }
}

/// Appends what a backslash and `rest` stand for; how many bytes of `rest` that took.
fn escape(rest: &[u8], words: &mut Vec<u8>) -> usize {
    let hex = |at: usize| rest.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    if let (Some(b'x'), Some(high), Some(low)) = (rest.first(), hex(1), hex(2)) {
        words.push(u8::try_from(high * 16 + low).expect("two digits"));
        return 3;
    }
    let byte = match rest.first() {
        None | Some(0) => {
            words.push(b'\\');
            return 0;
        }
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'b') => 8,
        Some(b'a') => 7,
        Some(other) => *other,
    };
    words.push(byte);
    1
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}
