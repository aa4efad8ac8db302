//! What is a trained classifier, and how good is it?
//!
//! Owns the weights with the statistics of normalisation, their use, and the model file. Knows
//! nothing of training.
//! Invariant: the tensors always have the shapes that `parameters` lists for the classes.
//!
//! The file: the layout of `format` with the magic `CIRRUSNN`, numbers `[classes, size]`, and one
//! tensor per parameter under its name (`block0.kernel` is `[out, in, 3, 3]`, `classifier.weight`
//! is `[features, classes]`), trained ones first.

use std::io::Write as _;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};

use super::format::{Archive, NamedTensor};
use super::network;
use super::parameters::{self, Parameter};
use crate::error::{Error, ErrorKind, Result};

const MAGIC: [u8; 8] = *b"CIRRUSNN";

/// Images that are classified at once: bounds the memory of [`Model::classify`].
const IMAGES_AT_ONCE: usize = 256;

/// Fewest classes, and most: labels are `u16`.
const CLASSES: std::ops::RangeInclusive<usize> = 2..=65_535;

/// Smallest and largest side of an image in pixels.
const SIZES: std::ops::RangeInclusive<usize> = 8..=1024;

/// A convolutional classifier for square RGB images.
#[derive(Clone, Debug)]
pub struct Model {
    classes: usize,
    size: usize,
    pub(crate) trained: Vec<Tensor<1>>,
    pub(crate) gathered: Vec<Tensor<1>>,
}

impl Model {
    /// An untrained model whose first weights follow `seed`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] unless there are 2 to 65,535 classes and `size` is 8 to 1024.
    pub(crate) fn new(classes: usize, size: usize, seed: u64) -> Result<Self> {
        check(classes, size)?;
        let device = device();
        let [trained, gathered] =
            [parameters::trained(classes), parameters::gathered()].map(|list| {
                let values = parameters::first_values(&list, seed);
                values.into_iter().map(|values| upload(values, &device)).collect()
            });
        Ok(Self { classes, size, trained, gathered })
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The side of its images in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes of one image: `size * size * 3`.
    pub fn image_len(&self) -> usize {
        self.size * self.size * 3
    }

    /// The most likely class of each image; `images` are RGB bytes, row by row, one image after
    /// another.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when `images` is not a whole number of images, [`ErrorKind::Train`]
    /// when the backend fails.
    pub fn classify(&self, images: &[u8]) -> Result<Vec<u16>> {
        let count = images.len() / self.image_len();
        if count * self.image_len() != images.len() {
            return Err(self.wrong_len(images.len()));
        }
        let mut found = Vec::with_capacity(count);
        for part in images.chunks(IMAGES_AT_ONCE * self.image_len()) {
            let count = part.len() / self.image_len();
            let input = network::input(part.to_vec(), count, self.size, &device());
            let scores = network::scores(&self.trained, &self.gathered, input, self.classes);
            let scores = download(scores.reshape([count * self.classes]))?;
            found.extend(scores.chunks_exact(self.classes).map(largest));
        }
        Ok(found)
    }

    /// How many of `images` get their label.
    ///
    /// # Errors
    /// As [`Model::classify`], and [`ErrorKind::Input`] when the counts differ.
    pub fn evaluate(&self, images: &[u8], labels: &[u16]) -> Result<usize> {
        let found = self.classify(images)?;
        if found.len() != labels.len() {
            let counts = format!("{} images but {} labels", found.len(), labels.len());
            return Err(Error::input(counts + ": give one label for each image"));
        }
        Ok(found.iter().zip(labels).filter(|(found, label)| found == label).count())
    }

    /// Writes the model to `path`: whole or not at all, through a temporary file beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] naming the path.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = self.to_archive()?.encode(MAGIC);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let failed = |source| Error::io("write the model to", path, source);
        // Readable by whom the umask says, as any file that a program writes.
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        // The new name is in the folder, which has to reach the disk too.
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Reads a model that [`Model::save`] wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::Corrupt`] when it is not a model.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
        let archive =
            Archive::decode(MAGIC, &bytes).map_err(|error| error.with("file", path.display()))?;
        Self::from_archive(archive).map_err(|error| error.with("file", path.display()))
    }

    fn to_archive(&self) -> Result<Archive> {
        Ok(Archive {
            numbers: vec![self.classes as u64, self.size as u64],
            tensors: self.to_tensors()?,
        })
    }

    fn from_archive(archive: Archive) -> Result<Self> {
        let mut tensors = archive.tensors.into_iter();
        let &[classes, size] = archive.numbers.as_slice() else {
            return Err(Error::corrupt("a model file holds two numbers: classes and size"));
        };
        let model = Self::from_tensors(classes, size, &mut tensors)?;
        match tensors.next() {
            None => Ok(model),
            Some(extra) => Err(Error::corrupt("unknown tensor").with("name", extra.name)),
        }
    }

    /// All tensors with names and shapes, trained ones first.
    pub(crate) fn to_tensors(&self) -> Result<Vec<NamedTensor>> {
        let list = parameters::trained(self.classes).into_iter().chain(parameters::gathered());
        let tensors = self.trained.iter().chain(&self.gathered);
        list.zip(tensors)
            .map(|(parameter, tensor)| named("", &parameter, tensor))
            .collect::<Result<Vec<NamedTensor>>>()
    }

    /// Takes the tensors of [`Model::to_tensors`] from the front of `tensors`.
    pub(crate) fn from_tensors(
        classes: u64,
        size: u64,
        tensors: &mut impl Iterator<Item = NamedTensor>,
    ) -> Result<Self> {
        let [classes, size] =
            [classes, size].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        check(classes, size)
            .map_err(|error| Error::corrupt("not a model of this program").caused_by(error))?;
        let trained = take("", &parameters::trained(classes), tensors)?;
        let gathered = take("", &parameters::gathered(), tensors)?;
        Ok(Self { classes, size, trained, gathered })
    }

    /// The error for `len` bytes of images.
    pub(crate) fn wrong_len(&self, len: usize) -> Error {
        let (size, each) = (self.size, self.image_len());
        let text = format!("{len} bytes are no whole number of {size}x{size} RGB images");
        Error::input(format!("{text}: give {each} bytes for each"))
    }
}

/// Where tensors live. The only place that names a backend.
pub(crate) fn device() -> Device {
    Device::flex()
}

/// A named copy of `tensor` in this program's memory.
pub(crate) fn named(
    prefix: &str,
    parameter: &Parameter,
    tensor: &Tensor<1>,
) -> Result<NamedTensor> {
    Ok(NamedTensor {
        name: format!("{prefix}{}", parameter.name),
        shape: parameter.shape.clone(),
        values: download(tensor.clone())?,
    })
}

/// Takes tensors that must match `list` from the front of `tensors`.
pub(crate) fn take(
    prefix: &str,
    list: &[Parameter],
    tensors: &mut impl Iterator<Item = NamedTensor>,
) -> Result<Vec<Tensor<1>>> {
    let device = device();
    let one = |parameter: &Parameter| {
        let name = format!("{prefix}{}", parameter.name);
        match tensors.next() {
            Some(tensor) if tensor.name == name && tensor.shape == parameter.shape => {
                Ok(upload(tensor.values, &device))
            }
            Some(tensor) => Err(Error::corrupt("wrong tensor")
                .with("expected", format!("{name} {:?}", parameter.shape))
                .with("found", format!("{} {:?}", tensor.name, tensor.shape))),
            None => Err(Error::corrupt("a tensor is missing").with("name", name)),
        }
    };
    list.iter().map(one).collect()
}

fn upload(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// The values of `tensor`.
pub(crate) fn download(tensor: Tensor<1>) -> Result<Vec<f32>> {
    let failed = |error: String| {
        Error::new(ErrorKind::Train, "the device cannot give a tensor back").caused_by(error)
    };
    let data = tensor.try_into_data().map_err(|error| failed(error.to_string()))?;
    let values = data.as_slice::<f32>().map_err(|error| failed(format!("{error:?}")))?;
    Ok(values.to_vec())
}

fn check(classes: usize, size: usize) -> Result<()> {
    if !CLASSES.contains(&classes) {
        return Err(Error::input(format!("{classes} classes: give between 2 and 65535")));
    }
    if !SIZES.contains(&size) {
        return Err(Error::input(format!("images of {size} pixels: give between 8 and 1024")));
    }
    Ok(())
}

/// The place of the largest score; the first of equals.
fn largest(scores: &[f32]) -> u16 {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, score) in (0_u16..).zip(scores) {
        if *score > best.1 {
            best = (class, *score);
        }
    }
    best.0
}
