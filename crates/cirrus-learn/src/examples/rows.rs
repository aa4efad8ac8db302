//! What does a line of each text format say?
//!
//! Owns the formats whose rows are lines. Knows no files.
//! Invariant: whatever a line holds, it is an example or a sentence that says what is wrong with it.

use std::collections::HashMap;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// Features of one example: index and value.
pub type Features = Vec<(u32, f32)>;

/// Hashes what a feature is to one of 2 to the power of `bits` (the "hashing trick", Weinberger and others
/// 2009). The same in every release: models are kept.
pub fn hashed(field: u32, token: &[u8], bits: u32) -> u32 {
    let mut hash = SipHasher13::new_with_keys(0x6369_7272_7573, 0x6861_7368);
    hash.write(&field.to_le_bytes());
    hash.write(token);
    let mask = (1_u64 << bits) - 1;
    u32::try_from(hash.finish() & mask).unwrap_or_default()
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{short}`")
}

fn number(bytes: &[u8], what: &str) -> Result<f32, String> {
    let parsed = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse::<f32>().ok());
    match parsed.filter(|number| number.is_finite()) {
        Some(number) => Ok(number),
        None => Err(format!("{what} is {}, expected a number", shown(bytes))),
    }
}

fn count(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || bytes.len() > 10 {
        return None;
    }
    let mut count: u32 = 0;
    for byte in bytes {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        count = count.checked_mul(10)?.checked_add(u32::from(digit))?;
    }
    Some(count)
}

/// libsvm's: `LABEL INDEX:VALUE ...`, what stands behind `#` aside; a label of -1 is taken for 0. Indices are
/// what they are, so that of 2 to the power of 28 at the most.
pub fn libsvm(line: &[u8], features: &mut Features) -> Result<f32, String> {
    let line = memchr::memchr(b'#', line).map_or(line, |at| &line[..at]);
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let label = number(words.next().unwrap_or_default(), "the label")?;
    for word in words {
        let Some(at) = memchr::memchr(b':', word) else {
            return Err(format!("feature {}, expected INDEX:VALUE", shown(word)));
        };
        let (index, value) = (&word[..at], &word[at + 1..]);
        if index == b"qid" {
            continue;
        }
        let index = count(index).filter(|index| *index < 1 << 28);
        let index = index
            .ok_or_else(|| format!("feature {}, expected an index below 268435456", shown(word)))?;
        features.push((index, number(value, "a feature's value")?));
    }
    Ok(if label == -1.0 { 0.0 } else { label })
}

/// Criteo's: label, 13 counts and 26 categories, by tabs; each may be missing. Counts are put into
/// `floor(ln(1 + n)^2)` bins, and every (column, value) is hashed.
pub fn criteo(line: &[u8], bits: u32, features: &mut Features) -> Result<f32, String> {
    let mut fields = line.split(|byte| *byte == b'\t');
    let label = class(fields.next().unwrap_or_default())?;
    let mut columns = 0;
    for field in fields {
        columns += 1;
        if columns > 39 {
            return Err("more than 40 fields; expected a label, 13 counts and 26 categories".into());
        }
        if field.is_empty() {
            continue;
        }
        if columns > 13 {
            features.push((hashed(columns, field, bits), 1.0));
            continue;
        }
        let count = number(field, "a count")?;
        let bin = if count < 0.0 { count } else { count.ln_1p().powi(2).floor() };
        features.push((hashed(columns, bin.to_string().as_bytes(), bits), 1.0));
    }
    match columns {
        39 => Ok(label),
        _ => Err(format!("{} fields; expected a label, 13 counts and 26 categories", columns + 1)),
    }
}

/// Categories by commas behind a label: every (column, value) is hashed.
pub fn csv(line: &[u8], bits: u32, features: &mut Features) -> Result<f32, String> {
    let mut fields = line.split(|byte| *byte == b',');
    let label = class(fields.next().unwrap_or_default())?;
    for (column, field) in (1..).zip(fields).filter(|(_, field)| !field.is_empty()) {
        features.push((hashed(column, field, bits), 1.0));
    }
    match features.is_empty() {
        true => Err("no categories behind the label".to_owned()),
        false => Ok(label),
    }
}

fn class(field: &[u8]) -> Result<f32, String> {
    match field {
        b"0" => Ok(0.0),
        b"1" => Ok(1.0),
        _ => Err(format!("the label is {}, expected 0 or 1", shown(field))),
    }
}

/// User, item and rating of a line of MovieLens (`::`, tabs or commas between them).
pub fn rating(line: &[u8]) -> Result<(&[u8], &[u8], f32), String> {
    let separator: &[u8] = if memchr::memmem::find(line, b"::").is_some() {
        b"::"
    } else if line.contains(&b'\t') {
        b"\t"
    } else {
        b","
    };
    let mut fields = Vec::with_capacity(3);
    let mut rest = line;
    while fields.len() < 3 {
        let end = memchr::memmem::find(rest, separator);
        fields.push(&rest[..end.unwrap_or(rest.len())]);
        let Some(end) = end else { break };
        rest = &rest[end + separator.len()..];
    }
    match fields[..] {
        [user, item, rating] if !user.is_empty() && !item.is_empty() => {
            Ok((user, item, number(rating, "the rating")?))
        }
        _ => Err(format!("{}, expected user, item and rating", shown(line))),
    }
}

/// Whether a line is the names of columns.
pub fn is_header(line: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphabetic();
    line.first().is_some_and(is_name) && (line.contains(&b',') || line.contains(&b'\t'))
}

/// Names in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names(HashMap<Vec<u8>, u32>);

impl Names {
    /// The number of a name, which is the next for a new one.
    pub fn number(&mut self, name: &[u8]) -> u32 {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let next = self.len();
        self.0.insert(name.to_vec(), next);
        next
    }

    /// The number of a name that came.
    pub fn find(&self, name: &[u8]) -> Option<u32> {
        self.0.get(name).copied()
    }

    /// Those of a list.
    pub fn of(list: &[String]) -> Self {
        let mut names = Self::default();
        list.iter().for_each(|name| {
            names.number(name.as_bytes());
        });
        names
    }

    /// All of them, by number.
    pub fn list(&self) -> Vec<String> {
        let mut list: Vec<(&u32, &Vec<u8>)> =
            self.0.iter().map(|(name, number)| (number, name)).collect();
        list.sort_unstable();
        list.iter().map(|(_, name)| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Words of a text: runs of 2 to 20 letters, in lower case.
pub fn words(text: &[u8], mut each: impl FnMut(&[u8])) {
    let mut word = Vec::with_capacity(20);
    for byte in text.iter().chain(std::iter::once(&b' ')) {
        match byte.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => word.push(letter),
            _ => {
                if (2..=20).contains(&word.len()) {
                    each(&word);
                }
                word.clear();
            }
        }
    }
}

/// How often each hashed word of a text comes, by index.
pub fn bag(text: &[u8], bits: u32, features: &mut Features) {
    let mut indices = Vec::new();
    words(text, |word| indices.push(hashed(0, word, bits)));
    indices.sort_unstable();
    let counted = indices.chunk_by(|a, b| a == b);
    features.extend(counted.map(|same| (same[0], same.len() as f32)));
}

/// Counts as weights for a linear model: their logarithms, of length 1 together.
pub fn normalised(features: &mut Features) {
    features.iter_mut().for_each(|(_, value)| *value = value.ln_1p());
    let length = features.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        features.iter_mut().for_each(|(_, value)| *value /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(
        parse: impl Fn(&mut Features) -> Result<f32, String>,
    ) -> Result<(f32, Features), String> {
        let mut features = Vec::new();
        parse(&mut features).map(|label| (label, features))
    }

    #[test]
    fn libsvm_rows_are_read_and_wrong_ones_named() {
        let row = |line: &str| read(|features| libsvm(line.as_bytes(), features));
        assert_eq!(row("-1 3:1 7:0.5 # why"), Ok((0.0, vec![(3, 1.0), (7, 0.5)])));
        assert_eq!(row("+1 qid:4 0:-2e1"), Ok((1.0, vec![(0, -20.0)])));
        assert_eq!(row("2.5"), Ok((2.5, vec![])));
        for (line, says) in [
            ("", "the label is ``"),
            ("x 1:2", "the label is `x`"),
            ("1 2", "`2`, expected INDEX:VALUE"),
            ("1 a:2", "`a:2`"),
            ("1 2:nan", "`nan`"),
            ("1 268435456:1", "below 268435456"),
            ("1 99999999999:1", "below 268435456"),
        ] {
            let text = row(line).unwrap_err();
            assert!(text.contains(says), "{line}: {text}");
        }
    }

    #[test]
    fn criteo_rows_hash_columns_apart_and_may_lack_any() {
        let line = |count: &str, category: &str| {
            let mut fields = vec!["1".to_owned()];
            fields.extend((0..13).map(|n| if n == 4 { count.to_owned() } else { String::new() }));
            fields.extend((0..26).map(|_| category.to_owned()));
            fields.join("\t")
        };
        let row = |line: &str| read(|features| criteo(line.as_bytes(), 18, features));
        let (label, features) = row(&line("5", "68fd1e64")).unwrap();
        assert_eq!((label, features.len()), (1.0, 27));
        let indices: std::collections::BTreeSet<u32> = features.iter().map(|f| f.0).collect();
        assert_eq!(indices.len(), 27);
        // 5 and 6 are of one bin, 7 is of the next.
        let index = |count: &str| row(&line(count, "")).unwrap().1[0].0;
        assert!(index("5") == index("6") && index("6") != index("7") && index("-1") != index("0"));
        assert!(row(&line("x", "")).unwrap_err().contains("`x`"));
        assert!(row("1\t2").unwrap_err().contains("2 fields"));
        assert!(row(&(line("1", "") + "\t")).unwrap_err().contains("more than 40"));
        assert!(row(&line("1", "").replacen('1', "2", 1)).unwrap_err().contains("label"));
    }

    #[test]
    fn ratings_are_read_in_every_spelling() {
        for line in ["7::12::3.5::978300760", "7\t12\t3.5\t881250949", "7,12,3.5"] {
            assert_eq!(rating(line.as_bytes()), Ok((&b"7"[..], &b"12"[..], 3.5)), "{line}");
        }
        for line in ["7,12", "", ",,3", "7,12,x"] {
            assert!(rating(line.as_bytes()).is_err(), "{line}");
        }
        assert!(is_header(b"user_id:token\titem") && is_header(b"userId,movieId"));
        assert!(!is_header(b"1,2,3") && !is_header(b""));
    }

    #[test]
    fn texts_are_bags_of_words() {
        let mut features = Vec::new();
        bag(b"A cat, the CAT\nand x the-antidisestablishmentarianism", 18, &mut features);
        let of = |word: &str| {
            let index = hashed(0, word.as_bytes(), 18);
            features.iter().find(|feature| feature.0 == index).map(|feature| feature.1)
        };
        assert_eq!(
            (of("cat"), of("the"), of("and"), of("x")),
            (Some(2.0), Some(2.0), Some(1.0), None)
        );
        assert_eq!(features.len(), 3);
        normalised(&mut features);
        let length: f32 = features.iter().map(|feature| feature.1 * feature.1).sum();
        assert!((length - 1.0).abs() < 1e-6);
    }

    #[test]
    fn hashes_stay_the_same() {
        assert_eq!([hashed(0, b"cat", 18), hashed(3, b"cat", 18), hashed(0, b"cat", 28)], GOLDEN);
    }

    /// Models that are kept depend on them.
    const GOLDEN: [u32; 3] = [84_312, 186_722, 180_439_384];

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(line: Vec<u8>) {
            let mut features = Vec::new();
            let _ = libsvm(&line, &mut features);
            let _ = criteo(&line, 10, &mut features);
            let _ = csv(&line, 10, &mut features);
            let _ = rating(&line);
            bag(&line, 10, &mut features);
            prop_assert!(features.iter().all(|feature| feature.0 < 1 << 28 && feature.1.is_finite()));
        }
    }
}
