//! How do lines come out of a file, packed or not?
//!
//! Owns reading files as streams, gzip and zstd unpacked on the way, and cutting them into lines. Knows no
//! format.
//! Invariant: no line takes more memory than the limit, and every error names file and line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

/// The longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// A file as a stream of bytes, unpacked if it begins as gzip or zstd do.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be opened or read.
pub fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut magic).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let file = BufReader::with_capacity(1 << 18, file);
    Ok(match magic[..] {
        [0x1F, 0x8B, ..] => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file))),
        [0x28, 0xB5, 0x2F, 0xFD] => {
            let decoder = zstd::Decoder::with_buffer(file).map_err(failed)?;
            Box::new(BufReader::with_capacity(1 << 18, decoder))
        }
        _ => Box::new(file),
    })
}

/// The lines of a file.
pub struct Lines {
    path: PathBuf,
    bytes: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
}

/// A line, without its end.
pub enum Line<'l> {
    /// What it holds.
    Whole(&'l [u8]),
    /// It is longer than [`LINE_BYTES_MAX`]: so many bytes.
    TooLong(u64),
}

impl Lines {
    /// Those of a file.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), bytes: open(path)?, line: Vec::new(), number: 0 })
    }

    /// `FILE:LINE` of the last line.
    pub fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.number)
    }

    /// The next one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file cannot be read on, or its packing is damaged.
    pub fn read(&mut self) -> Result<Option<Line<'_>>> {
        self.line.clear();
        self.number += 1;
        let limit = LINE_BYTES_MAX as u64 + 2;
        let read = self.bytes.by_ref().take(limit).read_until(b'\n', &mut self.line);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(self.failed(error)),
        }
        let has_end = self.line.last() == Some(&b'\n');
        if has_end {
            self.line.pop();
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        if self.line.len() <= LINE_BYTES_MAX {
            return Ok(Some(Line::Whole(&self.line)));
        }
        let more = if has_end { Ok(0) } else { self.skip_line() };
        let more = more.map_err(|error| self.failed(error))?;
        Ok(Some(Line::TooLong(self.line.len() as u64 + more)))
    }

    /// Reads past the rest of a line.
    fn skip_line(&mut self) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            let here = self.bytes.fill_buf()?;
            let (len, is_end) = match memchr::memchr(b'\n', here) {
                Some(at) => (at + 1, true),
                None => (here.len(), here.is_empty()),
            };
            self.bytes.consume(len);
            skipped += len as u64;
            if is_end {
                return Ok(skipped);
            }
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        let text = format!("cannot read on at {}", self.place());
        Error::new(crate::ErrorKind::Io, text).caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn all(path: &Path) -> Result<Vec<String>> {
        let (mut lines, mut all) = (Lines::open(path)?, Vec::new());
        while let Some(line) = lines.read()? {
            all.push(match line {
                Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                Line::TooLong(bytes) => format!("{bytes} bytes"),
            });
        }
        Ok(all)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn lines_come_out_of_any_packing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let text = b"one\r\n\ntwo\nthree";
        let parts = [gzip(&text[..5]), gzip(&text[5..])].concat();
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        for bytes in [text.to_vec(), gzip(text), parts, zstd] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(all(&path).unwrap(), ["one", "", "two", "three"]);
        }
        std::fs::write(&path, "").unwrap();
        assert_eq!(all(&path).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_packing_that_is_cut_is_an_error_of_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.gz");
        let packed = gzip("a row\n".repeat(1000).as_bytes());
        std::fs::write(&path, &packed[..packed.len() - 9]).unwrap();
        let text = all(&path).unwrap_err().to_string();
        assert!(text.contains("rows.gz:"), "{text}");
        std::fs::write(&path, &zstd::encode_all(&[7; 99_999][..], 1).unwrap()[..8]).unwrap();
        assert!(all(&path).is_err());
        assert!(all(Path::new("/nowhere/at/all")).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn a_line_over_the_limit_is_passed_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        for over in [1, 5_000_000] {
            let long = "x".repeat(LINE_BYTES_MAX + over);
            std::fs::write(&path, format!("a\n{long}\nb")).unwrap();
            let lines = all(&path).unwrap();
            assert_eq!((lines.len(), &lines[2][..]), (3, "b"));
            assert!(lines[1].ends_with(" bytes"), "{}", lines[1]);
        }
    }
}
