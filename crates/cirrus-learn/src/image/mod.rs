//! How do encoded images become the pixels that a model sees?
//!
//! Owns decoding and augmentation. Knows no data set and no model.
//! Invariant: the result depends on the bytes, the target size and the random generator alone.

mod augment;
mod decode;

pub use augment::Augment;
pub use decode::{PIXELS_MAX, Pixels, decode};
