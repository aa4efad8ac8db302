//! A folder of the user's own: which images does it hold?
//!
//! Owns the walk over one folder per class. Knows nothing of what is in the files.
//! Invariant: a file's split depends on its path within the folder alone, so that adding files
//! moves no other from one split to the other.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{DataSet, Sample, Split};
use crate::error::{Error, Result};

/// One file in this many is for tests.
const TEST_SHARE: u8 = 5;
/// Endings of the files that are taken.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];
/// Bytes that a file may have.
const FILE_LEN_MAX: u64 = 256 << 20;

/// A data set that is a folder with one folder per class, each with JPEGs and PNGs. Other files
/// and names that begin with a dot are passed over.
#[derive(Debug)]
pub struct Folder {
    name: String,
    root: PathBuf,
    classes: Vec<String>,
    train: Vec<Image>,
    test: Vec<Image>,
}

#[derive(Debug)]
struct Image {
    label: u16,
    /// Path within the root, with `/` between its parts.
    name: String,
}

impl Folder {
    /// Lists the images below `root`; about 20 µs for each.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when there is no such folder, it has fewer
    /// than two class folders, a class has no image, or a split would be empty;
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when a folder cannot be listed.
    pub fn open(root: &Path) -> Result<Self> {
        let shown = root.display();
        if !root.is_dir() {
            let text = format!("{shown} is no folder: give one with a folder of images per class");
            return Err(Error::input(text));
        }
        let classes = names_in(root, &|path| path.is_dir())?;
        if !(2..=usize::from(u16::MAX)).contains(&classes.len()) {
            let text = format!("{shown} has {} folders: make one for each", classes.len());
            return Err(Error::input(text + " class, two classes at least"));
        }
        let [mut train, mut test] = [Vec::new(), Vec::new()];
        for (label, class) in (0_u16..).zip(&classes) {
            let folder = root.join(class);
            let files = names_in(&folder, &|path| path.is_file() && is_image(path))?;
            if files.is_empty() {
                let text = format!("{} has no .jpg, .jpeg or .png", folder.display());
                return Err(Error::input(text + ": add images of this class or remove the folder"));
            }
            for file in files {
                let name = format!("{class}/{file}");
                let split = if is_test(&name) { &mut test } else { &mut train };
                split.push(Image { label, name });
            }
        }
        for (split, images) in [(Split::Train, &train), (Split::Test, &test)] {
            if images.is_empty() {
                let text = format!("no image of {shown} falls in the {} split", split.name());
                return Err(Error::input(text + ": add images, ten of each class at least"));
            }
        }
        let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, root: root.to_owned(), classes, train, test })
    }

    fn images(&self, split: Split) -> &[Image] {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

impl DataSet for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn samples(&self, split: Split) -> usize {
        self.images(split).len()
    }

    fn for_each(
        &self,
        split: Split,
        limit: Option<usize>,
        sink: &mut dyn FnMut(Sample) -> Result<()>,
    ) -> Result<()> {
        let images = self.images(split);
        for image in &images[..limit.unwrap_or(usize::MAX).min(images.len())] {
            let path = self.root.join(&image.name);
            let len = fs::metadata(&path).map_err(|error| unreadable(&path, error))?.len();
            if len > FILE_LEN_MAX {
                let text = format!("{} has {len} bytes: make it smaller", path.display());
                return Err(Error::input(text + " than 256 MiB or remove it"));
            }
            let encoded = fs::read(&path).map_err(|error| unreadable(&path, error))?;
            sink(Sample { label: image.label, name: image.name.clone(), encoded: encoded.into() })?;
        }
        Ok(())
    }
}

/// The names in `folder` that `wanted` takes, sorted.
fn names_in(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<String>> {
    let failed = |error| Error::io("list the folder", folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().into_string().map_err(|name| {
            let text = format!("{} holds the name {name:?}", folder.display());
            Error::input(text + ": rename it to UTF-8")
        })?;
        if !name.starts_with('.') && wanted(&entry.path()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

fn is_test(name: &str) -> bool {
    let hash = Sha256::digest(name.as_bytes());
    let (number, _) = hash.split_first_chunk::<8>().expect("a SHA-256 has 32 bytes");
    u64::from_le_bytes(*number).is_multiple_of(u64::from(TEST_SHARE))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let what = "read (make it readable or remove it)";
    Error::io(what, path, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn write(root: &Path, name: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }

    fn message(root: &Path) -> String {
        let error = Folder::open(root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        let text = error.to_string();
        assert!(text.contains(&root.display().to_string()) && !text.contains('\n'), "{text}");
        text
    }

    #[test]
    fn classes_and_files_are_sorted_and_split_for_good() {
        let root = tempfile::tempdir().unwrap();
        for index in 0..50 {
            write(root.path(), &format!("dog/{index:02}.JPG"));
            write(root.path(), &format!("cat/{index:02}.png"));
        }
        write(root.path(), "cat/notes.txt");
        write(root.path(), "readme.jpg");
        write(root.path(), ".hidden/1.jpg");
        let set = Folder::open(root.path()).unwrap();
        assert_eq!(set.classes(), ["cat", "dog"]);
        assert_eq!(set.samples(Split::Train) + set.samples(Split::Test), 100);
        assert!((10..35).contains(&set.samples(Split::Test)), "{}", set.samples(Split::Test));
        let mut names = Vec::new();
        set.for_each(Split::Train, Some(60), &mut |sample| {
            assert_eq!(sample.encoded, sample.name.as_bytes());
            assert_eq!(sample.label == 1, sample.name.starts_with("dog/"));
            names.push(sample.name);
            Ok(())
        })
        .unwrap();
        assert_eq!(names.len(), 60);
        assert!(names.is_sorted() && names.iter().all(|name| !is_test(name)));
    }

    #[test]
    fn each_mistake_is_named_with_a_way_out() {
        let root = tempfile::tempdir().unwrap();
        assert!(message(&root.path().join("none")).contains("is no folder"));
        assert!(message(root.path()).contains("has 0 folders"));
        write(root.path(), "a/2.jpg");
        fs::create_dir(root.path().join("b")).unwrap();
        assert!(message(root.path()).contains("/b has no .jpg"));
        write(root.path(), "b/1.jpg");
        assert!(message(root.path()).contains("the test split: add images"));
    }

    #[test]
    fn a_file_that_vanished_is_named() {
        let root = tempfile::tempdir().unwrap();
        for index in 0..20 {
            write(root.path(), &format!("a/{index}.jpg"));
            write(root.path(), &format!("b/{index}.jpg"));
        }
        let set = Folder::open(root.path()).unwrap();
        fs::remove_dir_all(root.path().join("b")).unwrap();
        let error = set.for_each(Split::Test, None, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("/b/"), "{error}");
    }
}
