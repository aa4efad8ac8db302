//! What do models learn from?
//!
//! Owns examples with few features out of many, as models take them. Knows neither files nor models.
//! Invariant: every index and value belongs to one example, and both lists are equally long.

mod adult;
mod block;
mod idx;
pub mod lines;
mod packages;
pub mod rows;
pub mod source;
mod synthetic;

/// Examples with a label each, in compressed sparse rows.
///
/// What an index means is the data's affair: a hashed feature, a pixel, a word, or a user and, after
/// all users, an item. Indices of one example need not be sorted; one that comes twice counts twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    labels: Vec<f32>,
    /// Where the examples end in `indices`.
    ends: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
}

/// One example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example<'a> {
    /// 0 or 1 of two classes, the number of a class, or a rating.
    pub label: f32,
    /// Its features.
    pub indices: &'a [u32],
    /// What each of them is.
    pub values: &'a [f32],
}

impl Examples {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Their labels.
    pub fn labels(&self) -> &[f32] {
        &self.labels
    }

    /// The features of all, one example behind the other.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// What the features of all are.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The features of all, to be named otherwise.
    pub fn indices_mut(&mut self) -> &mut [u32] {
        &mut self.indices
    }

    /// Adds one that has these features.
    pub fn push(&mut self, label: f32, features: impl IntoIterator<Item = (u32, f32)>) {
        for (index, value) in features {
            self.indices.push(index);
            self.values.push(value);
        }
        self.labels.push(label);
        self.ends.push(self.indices.len());
    }

    /// Adds one of another list.
    pub fn push_example(&mut self, example: Example<'_>) {
        self.indices.extend_from_slice(example.indices);
        self.values.extend_from_slice(example.values);
        self.labels.push(example.label);
        self.ends.push(self.indices.len());
    }

    /// The example of this place, from 0.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    pub fn get(&self, place: usize) -> Example<'_> {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        let end = self.ends[place];
        Example {
            label: self.labels[place],
            indices: &self.indices[start..end],
            values: &self.values[start..end],
        }
    }

    /// All of them in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Example<'_>> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// Takes all out and keeps the room.
    pub fn clear(&mut self) {
        self.labels.clear();
        self.ends.clear();
        self.indices.clear();
        self.values.clear();
    }
}
