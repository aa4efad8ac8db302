//! Which path is which key.
//!
//! Owns the prefix of a store, and the keys under which parts of uploads lie. Plain data. Invariant:
//! a path has one key and a key at most one path; no path has the key of a part.

use object_store::path::Path;

use crate::error::{Error, Kind};
use crate::key::Key;
use crate::objects::errors;

/// Parts of uploads that are not complete lie under keys that begin so, whatever the prefix of
/// their store.
const PARTS: &str = "!parts/";

/// Hexadecimal digits of an upload's name.
const UPLOAD_DIGITS: usize = 32;

/// The keys of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// Empty, or it ends with a `/`.
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &Path) -> Self {
        Self { prefix: folder(prefix) }
    }

    /// What every key of the store begins with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn key(&self, path: &Path) -> object_store::Result<Key> {
        let text = match path.is_root() {
            true => String::new(),
            false => format!("{}{path}", self.prefix),
        };
        if text.starts_with(PARTS) {
            let text = format!("`{text}`: keys under `{PARTS}` are kept for parts of uploads");
            return Err(errors::of(path, Error::new(Kind::Invalid, text)));
        }
        Key::try_from(text).map_err(|error| errors::of(path, error))
    }

    /// What the keys below a path begin with: the path's own is not among them.
    pub(super) fn below(&self, path: Option<&Path>) -> String {
        format!("{}{}", self.prefix, path.map(folder).unwrap_or_default())
    }

    /// `None` for a key that no path has: that of a part, one outside the prefix, and one that is
    /// no text or would be another path (`a//b`, `/a`).
    pub(super) fn path(&self, key: &Key) -> Option<Path> {
        let text = std::str::from_utf8(key.as_bytes()).ok()?;
        let rest = text.strip_prefix(self.prefix.as_str())?;
        if text.starts_with(PARTS) || rest.is_empty() {
            return None;
        }
        Path::parse(rest).ok().filter(|path| path.as_ref() == rest)
    }
}

/// What the keys of an upload's parts begin with; [`Kind::Invalid`] for a name that is none.
pub(super) fn parts(upload: &str) -> Result<String, Error> {
    let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    match upload.len() == UPLOAD_DIGITS && upload.bytes().all(is_digit) {
        true => Ok(format!("{PARTS}{upload}/")),
        false => Err(Error::new(Kind::Invalid, format!("`{upload}` is no upload"))),
    }
}

/// The key of one part of an upload.
pub(super) fn part(upload: &str, number: usize) -> Result<Key, Error> {
    Key::try_from(format!("{}{number}", parts(upload)?))
}

fn folder(path: &Path) -> String {
    if path.is_root() { String::new() } else { format!("{path}/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::try_from(text).unwrap()
    }

    #[test]
    fn a_path_has_one_key_and_a_key_at_most_one_path() {
        let whole = Names::default();
        let below = Names::new(&Path::from("tables/one"));
        for text in ["a", "a/b.parquet", "🙀/😀", "a%2Fb/c", "!parts"] {
            let path = Path::parse(text).unwrap();
            assert_eq!(whole.key(&path).unwrap(), key(text));
            assert_eq!(below.key(&path).unwrap(), key(&format!("tables/one/{text}")));
            for names in [&whole, &below] {
                assert_eq!(names.path(&names.key(&path).unwrap()), Some(path.clone()));
            }
        }
        for text in ["/a", "a//b", "a/", "a/../b", "!parts/00/0"] {
            assert_eq!(whole.path(&key(text)), None, "{text}");
        }
        assert_eq!(whole.path(&Key::new(&[0xFF_u8][..]).unwrap()), None);
        assert_eq!(below.path(&key("tables/one")), None);
        assert_eq!(below.path(&key("tables/one/")), None);
        assert_eq!(below.path(&key("tables/oneself/a")), None);
    }

    #[test]
    fn what_has_no_key_is_refused() {
        let whole = Names::default();
        let long = Path::from("a".repeat(1025));
        for path in [Path::default(), Path::from("!parts/00/0"), long] {
            assert!(whole.key(&path).is_err(), "{path}");
        }
        let below = Names::new(&Path::from("p"));
        assert!(below.key(&Path::default()).is_err());
        assert_eq!(below.key(&Path::from("!parts/x")).unwrap(), key("p/!parts/x"));
        for upload in ["", "00", "../../0123456789abcdef0123456789abcd", &"A".repeat(32)] {
            assert_eq!(part(upload, 0).unwrap_err().kind(), Kind::Invalid, "{upload}");
        }
    }

    #[test]
    fn a_listing_begins_below_its_path() {
        let names = Names::new(&Path::from("p"));
        assert_eq!(names.below(None), "p/");
        assert_eq!(names.below(Some(&Path::from("/"))), "p/");
        assert_eq!(names.below(Some(&Path::from("a/b"))), "p/a/b/");
        assert_eq!(Names::default().below(None), "");
    }
}
