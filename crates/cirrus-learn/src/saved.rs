//! How does a learnt model lie in a file?
//!
//! Owns the file: safetensors, with the rows that are not all zero and what the model is. Knows nothing of how
//! it was learnt.
//! Invariant: a model that is read back predicts what the one that was saved did; a file is whole or not
//! there.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::{Minibatch, Model};

/// The name of the metadata that say what the model is.
const ABOUT: &str = "cirrus";

/// A model's parameters: rows by number, ascending; those that are missing are zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved<A> {
    /// What the model is.
    pub about: A,
    /// Coordinates of a row.
    pub columns: usize,
    rows: Vec<u32>,
    values: Vec<f32>,
}

impl<A: Serialize + for<'de> Deserialize<'de>> Saved<A> {
    /// One of these rows and values, in any order.
    pub fn new(about: A, columns: usize, mut rows: Vec<(u32, Vec<f32>)>) -> Self {
        rows.retain(|(_, values)| values.iter().any(|value| *value != 0.0));
        rows.sort_unstable_by_key(|(row, _)| *row);
        let values = rows.iter().flat_map(|(_, values)| values.iter().copied()).collect();
        let rows = rows.iter().map(|(row, _)| *row).collect();
        Self { about, columns, rows, values }
    }

    /// How many rows are not zero.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether all are zero.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The values that a minibatch asks for, row by row.
    pub fn values(&self, minibatch: &Minibatch) -> Vec<f32> {
        let mut values = vec![0.0; minibatch.rows().len() * self.columns];
        for (row, values) in minibatch.rows().iter().zip(values.chunks_exact_mut(self.columns)) {
            if let Ok(place) = self.rows.binary_search(row) {
                values.copy_from_slice(&self.values[place * self.columns..][..self.columns]);
            }
        }
        values
    }

    /// Writes a file beside `path`, and renames it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub fn write(&self, path: &Path) -> Result<()> {
        let about = serde_json::to_string(&self.about)
            .map_err(|error| Error::input("what the model is").caused_by(error))?;
        let (rows, values) =
            (bytes(&self.rows, u32::to_le_bytes), bytes(&self.values, f32::to_le_bytes));
        let view = |dtype, shape, bytes| {
            TensorView::new(dtype, shape, bytes)
                .map_err(|error| Error::input("a tensor of the model").caused_by(error))
        };
        let tensors = [
            ("rows", view(Dtype::U32, vec![self.len()], &rows)?),
            ("values", view(Dtype::F32, vec![self.len(), self.columns], &values)?),
        ];
        let metadata = HashMap::from([(ABOUT.to_owned(), about)]);
        let file = safetensors::serialize(tensors, Some(metadata))
            .map_err(|error| Error::input("the model's file").caused_by(error))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let failed = |error| Error::io("write", path, error);
        let mut beside =
            tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        std::io::Write::write_all(&mut beside, &file).map_err(failed)?;
        beside.as_file().sync_all().map_err(failed)?;
        beside.persist(path).map_err(|error| failed(error.error)).map(|_| ())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), and [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) for a file
    /// that is none of these.
    pub fn read(path: &Path) -> Result<Self> {
        let file = fs::read(path).map_err(|error| Error::io("read", path, error))?;
        Self::parse(&file).map_err(|what| {
            Error::corrupt(format!("{} is no model of cirrus: {what}", path.display()))
        })
    }

    fn parse(file: &[u8]) -> std::result::Result<Self, String> {
        let (_, metadata) = SafeTensors::read_metadata(file).map_err(|error| error.to_string())?;
        let about = metadata.metadata().as_ref().and_then(|all| all.get(ABOUT));
        let about = about.ok_or("it does not say what it is")?;
        let about = serde_json::from_str(about).map_err(|error| error.to_string())?;
        let tensors = SafeTensors::deserialize(file).map_err(|error| error.to_string())?;
        let tensor = |name: &str| tensors.tensor(name).map_err(|error| error.to_string());
        let (rows, values) = (tensor("rows")?, tensor("values")?);
        let (&[count], &[also, columns]) = (rows.shape(), values.shape()) else {
            return Err("its tensors are of other shapes".to_owned());
        };
        let is_right = rows.dtype() == Dtype::U32 && values.dtype() == Dtype::F32;
        if !is_right || count != also || columns == 0 {
            return Err("its tensors are of other types or lengths".to_owned());
        }
        let words = |bytes: &[u8]| -> Vec<[u8; 4]> { bytes.as_chunks().0.to_vec() };
        let rows: Vec<u32> = words(rows.data()).into_iter().map(u32::from_le_bytes).collect();
        let values = words(values.data()).into_iter().map(f32::from_le_bytes).collect();
        match rows.is_sorted_by(|a, b| a < b) {
            true => Ok(Self { about, columns, rows, values }),
            false => Err("its rows are in no order".to_owned()),
        }
    }

    /// Appends what `model` predicts.
    pub fn predict(&self, model: &dyn Model, minibatch: &Minibatch, predictions: &mut Vec<f32>) {
        model.predict(minibatch, &self.values(minibatch), predictions);
    }
}

fn bytes<T: Copy>(all: &[T], each: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    all.iter().flat_map(|one| each(*one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::Examples;
    use crate::models::Logistic;
    use proptest::prelude::*;

    #[test]
    fn a_model_comes_back_as_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let rows = vec![(9, vec![0.5]), (2, vec![-1.0]), (4, vec![0.0])];
        let saved = Saved::new("a model".to_owned(), 1, rows);
        saved.write(&path).unwrap();
        let read: Saved<String> = Saved::read(&path).unwrap();
        assert_eq!(read, saved);
        assert_eq!(read.len(), 2);
        let (model, mut examples) = (Logistic { features: 9 }, Examples::default());
        examples.push(1.0, [(2, 1.0), (4, 3.0)]);
        let minibatch = Minibatch::new(examples, &model);
        assert_eq!(read.values(&minibatch), [-1.0, 0.0, 0.5]);
        let mut predictions = Vec::new();
        read.predict(&model, &minibatch, &mut predictions);
        assert!((predictions[0] - 1.0 / (1.0 + 0.5_f32.exp())).abs() < 1e-6);
        let missing = Saved::<String>::read(&folder.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("none"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_model(mut bytes: Vec<u8>, len in 0_u64..64) {
            let _ = Saved::<String>::parse(&bytes);
            bytes.splice(0..0, len.to_le_bytes());
            let _ = Saved::<String>::parse(&bytes);
        }
    }
}
