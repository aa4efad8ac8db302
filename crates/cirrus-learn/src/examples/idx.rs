//! What is in MNIST's files?
//!
//! Owns the IDX format of images and labels (LeCun, Cortes and Burges). Knows no model.
//! Invariant: an image has as many pixels as the file's head says, between 0 and 1.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::lines;
use super::packages::each_in_npm;
use super::source::{Each, Read, Side};
use crate::error::{Error, Result};

const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// The longest file, unpacked: twenty times MNIST's.
const BYTES_MAX: u64 = 1 << 30;

/// Hands on both parts of MNIST.
pub(super) fn mnist(package: &Path, each: &mut Each<'_>) -> Result<Read> {
    let mut files = BTreeMap::new();
    let wants = |path: &str| path.ends_with("-ubyte");
    each_in_npm(package, wants, |path, bytes| {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        files.insert(name, bytes);
        Ok(())
    })?;
    parts(package, &files, each)
}

/// The same of files as they are published: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and, to judge by,
/// `t10k-...`, packed or not.
pub(super) fn files(folder: &Path, paths: &[PathBuf], each: &mut Each<'_>) -> Result<Read> {
    let mut files = BTreeMap::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Some copies have a dot where others have a dash.
        let name = name.trim_end_matches(".gz").trim_end_matches(".zst").replace('.', "-");
        if !name.ends_with("-ubyte") {
            continue;
        }
        let mut bytes = Vec::new();
        let read = lines::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::io("read", path, error))?;
        if bytes.len() as u64 > BYTES_MAX {
            let path = path.display();
            return Err(Error::input(format!("{path}: it is over {BYTES_MAX} bytes, unpacked")));
        }
        files.insert(name, bytes);
    }
    parts(folder, &files, each)
}

fn parts(from: &Path, files: &BTreeMap<String, Vec<u8>>, each: &mut Each<'_>) -> Result<Read> {
    let mut features = 0;
    for (side, name) in [(Side::Train, "train"), (Side::Test, "t10k")] {
        let file = |end: &str| {
            let name = format!("{name}-{end}");
            let missing = || Error::input(format!("no {name} in {}", from.display()));
            files.get(&name).ok_or_else(missing)
        };
        let images = match (side, file("images-idx3-ubyte")) {
            (Side::Test, Err(_)) => break,
            (_, images) => images?,
        };
        let labels = file("labels-idx1-ubyte")?;
        let size = pairs(images, labels, |label, pixels| each(side, label, pixels))?;
        features = features.max(size);
    }
    Ok(Read { features, ..Read::default() })
}

/// Hands on each image with its label; pixels of 0 are left out. How many pixels an image has.
fn pairs(
    images: &[u8],
    labels: &[u8],
    mut each: impl FnMut(f32, &[(u32, f32)]) -> Result<()>,
) -> Result<u32> {
    let (count, rest) = head(images, IMAGES)?;
    let wrong = || Error::corrupt(format!("an IDX file of {} bytes", images.len()));
    let (rows, rest) = word(rest).ok_or_else(wrong)?;
    let (columns, pixels) = word(rest).ok_or_else(wrong)?;
    let (labelled, labels) = head(labels, LABELS)?;
    let size =
        rows.checked_mul(columns).filter(|size| (1..1 << 24).contains(size)).ok_or_else(wrong)?;
    let len = u64::from(count) * u64::from(size);
    if len != pixels.len() as u64 || labelled != count || labels.len() as u64 != u64::from(count) {
        return Err(wrong());
    }
    let mut features = Vec::new();
    for (label, image) in labels.iter().zip(pixels.chunks_exact(size as usize)) {
        features.clear();
        let inked = (0..).zip(image).filter(|(_, pixel)| **pixel > 0);
        features.extend(inked.map(|(index, pixel)| (index, f32::from(*pixel) / 255.0)));
        each(f32::from(*label), &features)?;
    }
    Ok(size)
}

fn head(bytes: &[u8], magic: u32) -> Result<(u32, &[u8])> {
    let wrong = || Error::corrupt(format!("an IDX file that does not begin with {magic:#06x}"));
    let (found, rest) = word(bytes).ok_or_else(wrong)?;
    if found != magic {
        return Err(wrong());
    }
    word(rest).ok_or_else(wrong)
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn images_and_labels_are_paired() {
        let images =
            [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0, 255, 51, 0]].concat();
        let labels = [0, 0, 8, 1, 0, 0, 0, 2, 7, 3];
        let mut found = Vec::new();
        let size = pairs(&images, &labels, |label, pixels| {
            found.push((label, pixels.to_vec()));
            Ok(())
        });
        assert_eq!(size.unwrap(), 2);
        assert_eq!(found, [(7.0, vec![(1, 1.0)]), (3.0, vec![(0, 0.2)])]);
        let ignored = |_: f32, _: &[(u32, f32)]| Ok(());
        assert!(pairs(&images[..19], &labels, ignored).is_err());
        assert!(pairs(&images, &labels[..9], ignored).is_err());
        assert!(pairs(&labels, &images, ignored).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(images: Vec<u8>, labels: Vec<u8>) {
            let _ = pairs(&[&[0, 0, 8, 3][..], &images].concat(), &[&[0, 0, 8, 1][..], &labels].concat(), |_, _| Ok(()));
        }
    }
}
