//! Catalogues by name: those that are built in, and the user's own.
//!
//! Owns the folder of imported catalogues. May not know the format. Invariant: a name means one
//! catalogue, and a file that is kept was read without an error before.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use cirrus_plan::Catalog;

use crate::error::{Error, Result};
use crate::rundir::{sync_dir, write_whole};

const NAME_LEN_MAX: usize = 64;

/// The catalogue of this name, or in this file: what has a `/` or ends in `.csv` is a file.
///
/// # Errors
/// When there is no such name or file, and at the first line that is wrong, by its number.
pub fn open(name: &str) -> Result<Catalog> {
    if name.contains('/') || name.ends_with(".csv") {
        return read(name, Path::new(name));
    }
    if let Some(catalog) = Catalog::built_in(name) {
        return Ok(catalog);
    }
    // A name that no catalogue can have names no file either.
    if is_name(name)
        && let Some(path) = folder().map(|folder| file(&folder, name))
        && path.exists()
    {
        return read(name, &path);
    }
    let built_in = Catalog::built_in_names().map(String::from);
    let names: Vec<String> =
        built_in.chain(imported()?.into_iter().map(|(name, _)| name)).collect();
    Err(Error::input(format!(
        "there is no catalogue `{name}`; there are {}, files *.csv, and what `cirrus catalog import` \
         brings",
        names.join(", ")
    )))
}

/// Checks the user's file and keeps it under a name, which may have been another file's; returns
/// the catalogue and where it lies.
///
/// # Errors
/// When the name is taken or no name, when the file is wrong, and when it cannot be kept.
pub fn import(path: &Path, name: &str) -> Result<(Catalog, PathBuf)> {
    if !is_name(name) {
        return Err(Error::input(format!(
            "`{name}` is no name of a catalogue; give --name with 1 to {NAME_LEN_MAX} of a-z, 0-9, \
             `_` and `-`"
        )));
    }
    if Catalog::built_in_names().any(|known| known == name) {
        return Err(Error::input(format!(
            "the catalogue `{name}` is built in; give --name with another"
        )));
    }
    let text = text(path)?;
    let catalog = parse(name, path, &text)?;
    let folder = folder()
        .ok_or_else(|| Error::input("no place for catalogues: set CIRRUS_DATA_DIR or HOME"))?;
    let unwritable = |error: &dyn std::fmt::Display| {
        Error::input(format!("{error}; set CIRRUS_DATA_DIR to a folder that can be written"))
    };
    fs::create_dir_all(&folder).map_err(|error| {
        unwritable(&format_args!("cannot create {}: {error}", folder.display()))
    })?;
    let place = file(&folder, name);
    write_whole(&place, text.as_bytes()).map_err(|error| unwritable(&error))?;
    sync_dir(&folder)?;
    Ok((catalog, place))
}

/// Names and files of the catalogues that were imported, sorted.
///
/// # Errors
/// When their folder cannot be read.
pub fn imported() -> Result<Vec<(String, PathBuf)>> {
    let Some(folder) = folder() else { return Ok(Vec::new()) };
    let unreadable = |error| Error::io(format!("cannot read {}", folder.display()), error);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(name) = name.strip_suffix(".csv").filter(|name| is_name(name)) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(plain)
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.csv"))
}

fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CIRRUS_DATA_DIR")
        .or_else(|| set("XDG_DATA_HOME").map(|data| data.join("cirrus")))
        .or_else(|| set("HOME").map(|home| home.join(".local/share/cirrus")))
        .map(|data| data.join("catalogs"))
}

fn read(name: &str, path: &Path) -> Result<Catalog> {
    parse(name, path, &text(path)?)
}

fn parse(name: &str, path: &Path, text: &str) -> Result<Catalog> {
    Catalog::read(name, text).map_err(|error| {
        let text =
            format!("catalogue {}, {error} (catalogs/README.md has the format)", path.display());
        Error::input(text)
    })
}

/// A file's text, of which no more is read than a catalogue may have.
fn text(path: &Path) -> Result<String> {
    let unreadable = |error| {
        Error::input(format!("cannot read catalogue {}", path.display())).with_source(error)
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    let most = Catalog::TEXT_BYTES_MAX;
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let not_text = |_| Error::input(format!("catalogue {} is not UTF-8 text", path.display()));
    if bytes.len() > most {
        let path = path.display();
        return Err(Error::input(format!("catalogue {path} is longer than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(not_text)
}
